"""Small real documents, one of each type that we can make, for applications in training to open."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw

_TEXT = "Millstream\n\nOpened while the application was trained.\n"
_WORDS = "Opened while the application was trained."
_TIME = (2024, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Document:
    """A kind of document, and how one is made."""

    suffix: str
    mime_types: tuple[str, ...]
    content: Callable[[], bytes]


def documents_for(mime_types: Iterable[str]) -> list[Document]:
    """Return the documents that an application which claims these types opens, one of a kind."""
    claimed = {mime_type.lower() for mime_type in mime_types}
    return [document for document in DOCUMENTS if claimed & set(document.mime_types)]


def _picture(kind: str) -> bytes:
    picture = Image.new("RGB", (320, 200), "white")
    draw = ImageDraw.Draw(picture)
    for step in range(8):
        draw.ellipse(
            (20 + step * 30, 30 + step * 10, 80 + step * 30, 90 + step * 10), outline=(40, 30 * step, 160)
        )
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _archive(first: tuple[str, str], *others: tuple[str, str]) -> bytes:
    """Return a zip of texts; the first is stored as it is, as OpenDocument wants its type."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (first, *others):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return file.getvalue()


_ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.2"'
)
_ODF_BODY = f"<office:body><office:text><text:p>{_WORDS}</text:p></office:text></office:body>"
_ODF_TYPE = "application/vnd.oasis.opendocument.text"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _opendocument() -> bytes:
    manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
    entries = "".join(
        f'<manifest:file-entry manifest:full-path="{path}" manifest:media-type="{kind}"/>'
        for path, kind in (("/", _ODF_TYPE), ("content.xml", "text/xml"))
    )
    return _archive(
        ("mimetype", _ODF_TYPE),
        ("content.xml", f"{_XML}<office:document-content {_ODF}>{_ODF_BODY}</office:document-content>"),
        (
            "META-INF/manifest.xml",
            f'{_XML}<manifest:manifest xmlns:manifest="{manifest}" manifest:version="1.2">{entries}'
            "</manifest:manifest>",
        ),
    )


def _flat_opendocument() -> bytes:
    return (
        f'{_XML}<office:document {_ODF} office:mimetype="{_ODF_TYPE}">{_ODF_BODY}</office:document>'.encode()
    )


def _word() -> bytes:
    office = "http://schemas.openxmlformats.org"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    return _archive(
        (
            "[Content_Types].xml",
            f'{_XML}<Types xmlns="{office}/package/2006/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        ),
        (
            "_rels/.rels",
            f'{_XML}<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
            "</Relationships>",
        ),
        (
            "word/document.xml",
            f'{_XML}<w:document xmlns:w="{office}/wordprocessingml/2006/main"><w:body><w:p><w:r>'
            f"<w:t>{_WORDS}</w:t></w:r></w:p></w:body></w:document>",
        ),
    )


def _pdf() -> bytes:
    drawing = b"BT /F1 18 Tf 72 720 Td (Millstream) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawing), drawing),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    file = bytearray(b"%PDF-1.4\n")
    places = []
    for number, one in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % place for place in places)
    file += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(file)


DOCUMENTS = (
    Document("odt", (_ODF_TYPE,), _opendocument),
    Document("docx", ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",), _word),
    Document("rtf", ("application/rtf", "text/rtf"), lambda: b"{\\rtf1\\ansi " + _WORDS.encode() + b"\\par}"),
    Document("fodt", ("application/vnd.oasis.opendocument.text-flat-xml",), _flat_opendocument),
    Document("txt", ("text/plain",), _TEXT.encode),
    Document("csv", ("text/csv", "text/comma-separated-values"), lambda: b"name,number\nmill,1\nstream,2\n"),
    Document(
        "html",
        ("text/html",),
        lambda: f"<!DOCTYPE html><title>Millstream</title><h1>Millstream</h1><p>{_WORDS}</p>".encode(),
    ),
    Document(
        "xhtml",
        ("application/xhtml+xml",),
        lambda: (
            f'{_XML}<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Millstream</title></head>'
            f"<body><p>{_WORDS}</p></body></html>"
        ).encode(),
    ),
    Document("xml", ("text/xml", "application/xml"), lambda: f"{_XML}<note>{_WORDS}</note>".encode()),
    Document(
        "svg",
        ("image/svg+xml",),
        lambda: (
            b'<svg xmlns="http://www.w3.org/2000/svg" width="320" height="200">'
            b'<circle cx="90" cy="90" r="60" fill="#28a"/>'
            b'<text x="160" y="100" font-family="sans-serif" font-size="24">Millstream</text></svg>'
        ),
    ),
    Document("png", ("image/png",), lambda: _picture("PNG")),
    Document("jpeg", ("image/jpeg", "image/jpg"), lambda: _picture("JPEG")),
    Document("gif", ("image/gif",), lambda: _picture("GIF")),
    Document("bmp", ("image/bmp", "image/x-bmp"), lambda: _picture("BMP")),
    Document("tiff", ("image/tiff",), lambda: _picture("TIFF")),
    Document("pdf", ("application/pdf",), _pdf),
)
"""In the order in which they are opened: what is used most comes first."""
