"""Documents for training: each is what its type says, as far as others can read it."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

import pytest
from PIL import Image

from sequencer.documents import DOCUMENTS, Document, documents_for


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.suffix)
def test_each_document_is_made_and_the_same_every_time(document: Document) -> None:
    assert document.content() == document.content() != b""


@pytest.mark.parametrize(
    "document", [one for one in DOCUMENTS if one.mime_types[0].startswith("image/") and one.suffix != "svg"],
    ids=lambda document: document.suffix,
)  # fmt: skip
def test_pictures_open(document: Document) -> None:
    with Image.open(io.BytesIO(document.content())) as picture:
        picture.load()
        assert picture.format == document.suffix.upper()


@pytest.mark.parametrize("suffix", ["svg", "xml", "xhtml", "fodt"])
def test_what_is_xml_is_well_formed(suffix: str) -> None:
    content = next(one for one in DOCUMENTS if one.suffix == suffix).content()
    assert ElementTree.fromstring(content) is not None


@pytest.mark.parametrize(("suffix", "first"), [("odt", "mimetype"), ("docx", "[Content_Types].xml")])
def test_archives_hold_well_formed_parts(suffix: str, first: str) -> None:
    content = next(one for one in DOCUMENTS if one.suffix == suffix).content()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist()[0] == first
        for name in archive.namelist():
            if name != "mimetype":
                assert ElementTree.fromstring(archive.read(name)) is not None


def test_an_application_opens_one_of_each_kind_that_it_claims() -> None:
    found = documents_for(["text/rtf", "application/rtf", "TEXT/PLAIN", "application/x-unknown"])
    assert [document.suffix for document in found] == ["rtf", "txt"]
    assert documents_for([]) == []
