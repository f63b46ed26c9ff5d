"""Small real fonts and catalogs of messages for tests.

font = build_font({"e": 5000, "acute": 300}, composites={"eacute": ("e", "acute")}, letters={"é": "eacute"})
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen

WIDTH = 500


def build_font(
    glyphs: Mapping[str, int],
    letters: Mapping[str, str],
    *,
    composites: Mapping[str, tuple[str, ...]] | None = None,
    features: str = "",
    cff: bool = False,
) -> bytes:
    """Return a font.

    Args:
        glyphs: name -> points of its outline, about five bytes each; in the order of the file.
        letters: character -> glyph.
        composites: name -> the glyphs that it is put together from; behind the others.
        features: in the language of feature files.
        cff: with outlines of PostScript, not of TrueType.
    """
    composites = composites or {}
    names = [".notdef", *glyphs, *composites]
    builder = FontBuilder(1000, isTTF=not cff)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in letters.items()})
    outlines: dict[str, Any] = {}
    for number, name in enumerate(names):
        chance = random.Random(number)
        pen = T2CharStringPen(WIDTH, None) if cff else TTGlyphPen(outlines)
        for part in composites.get(name, ()):
            pen.addComponent(part, (1, 0, 0, 1, 10, 20))
        if name not in composites:
            pen.moveTo((0, 0))
            for _ in range(glyphs.get(name, 4)):
                pen.lineTo((chance.randrange(-3000, 3000), chance.randrange(-3000, 3000)))
            pen.closePath()
        outlines[name] = pen.getCharString() if cff else pen.glyph()
    if cff:
        builder.setupCFF("Letters", {}, outlines, {})
    else:
        builder.setupGlyf(outlines)
    builder.setupHorizontalMetrics({name: (WIDTH + number, 0) for number, name in enumerate(names)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Letters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    if features:
        addOpenTypeFeaturesFromString(builder.font, features)
    file = BytesIO()
    builder.save(file)
    return file.getvalue()


def build_catalog(*messages: str, charset: str = "UTF-8", order: str = "<") -> bytes:
    """Return a catalog of these translations, as msgfmt writes one."""
    header = f"Language: x\nContent-Type: text/plain; charset={charset}\n".encode("ascii")
    codec = charset if charset != "CHARSET" else "ascii"
    pairs: Sequence[tuple[bytes, bytes]] = [
        (b"", header),
        *((b"%08d" % number, message.encode(codec)) for number, message in enumerate(messages)),
    ]
    start = 28 + 16 * len(pairs)
    tables: list[bytes] = []
    texts = b""
    for column in zip(*pairs, strict=True):
        for text in column:
            tables.append(struct.pack(order + "2I", len(text), start + len(texts)))
            texts += text + b"\0"
    preamble = struct.pack(order + "7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return preamble + b"".join(tables) + texts
