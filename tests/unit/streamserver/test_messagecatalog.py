"""Catalogs of messages: their translations, in either byte order; broken ones end in an error of ours."""

from __future__ import annotations

import gettext
import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamserver.messagecatalog import CatalogError, translations
from tests.fonts import build_catalog

CATALOG = build_catalog("été", "œuf", "")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("charset", "messages"),
    [
        ("UTF-8", ["été", "…", "日本"]),
        ("ISO-8859-2", ["łąka"]),
        ("koi8-r", ["привет"]),
        ("us-ascii", ["plain"]),
    ],
)
def test_translations_are_read_without_the_header(order: str, charset: str, messages: list[str]) -> None:
    catalog = build_catalog(*messages, charset=charset, order=order)
    assert translations(catalog) == messages
    known = gettext.GNUTranslations(BytesIO(catalog))
    assert [known.gettext(f"{number:08}") for number in range(len(messages))] == messages


def test_bytes_that_are_no_character_are_left_out() -> None:
    assert translations(CATALOG.replace("é".encode(), b"\xc3.", 1)) == [".té", "œuf", ""]


@pytest.mark.parametrize("charset", ["punycode", "rot13", "CHARSET", "iso-8859-99"])
def test_other_charsets_are_refused(charset: str) -> None:
    header = b"charset=UTF-8"
    named = b"charset=" + charset.encode()
    catalog = build_catalog("abcdefghijkl")
    start = catalog.index(header)
    length = struct.unpack_from("<I", catalog, 28 + 16)[0]
    longer = catalog[: 28 + 16] + struct.pack("<I", length - 13 + len(named)) + catalog[28 + 20 : start]
    with pytest.raises(CatalogError, match="a catalog in"):
        translations(longer + named + b"\n" + catalog[start + 14 :])


def test_messages_that_lie_in_one_another_are_refused() -> None:
    count = 1000
    table = struct.pack("<2I", 8000, 28) * count
    catalog = struct.pack("<7I", 0x950412DE, 0, count, 28, 28, 0, 0) + table
    with pytest.raises(CatalogError, match="in one another"):
        translations(catalog)


@given(st.binary(max_size=64), st.integers(0, len(CATALOG)))
def test_any_bytes_are_a_catalog_or_a_catalog_error(junk: bytes, at: int) -> None:
    for broken in (junk, CATALOG[:at], CATALOG[:at] + junk + CATALOG[at + len(junk) :]):
        with suppress(CatalogError):
            assert sum(map(len, translations(broken))) <= len(broken)
