"""A font's file: where the bytes lie that some letters need. The one door to fontTools.

Fonts come out of packages and are not trusted: a broken one ends in `FontError`, and whatever its tables say,
the places that are given lie inside the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING

from streamserver.fontsubstitutions import FontError, Substitutions, read_substitutions

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

__all__ = ["FontError", "FontFile", "read_font"]

CHARACTER_MAP_MAX = 64 << 10
"""Bytes of a map of characters that is given whole: where in it to look for a letter, its reader decides."""

_KINDS = (b"\0\1\0\0", b"true", b"OTTO")
"""How a font's file begins: TrueType, Apple's TrueType, OpenType. No collections, and nothing compressed."""

_SPANS_MAX = 1 << 17
"""Characters that the ranges of a map of format 4 may name, twice what there are; a broken one has 8 bytes
for each 65536."""

COMPONENTS_MAX = 1 << 18
"""Parts of all glyphs that are put together from others, at most."""

_COMPOSITE_MAX = 4 << 10
"""Bytes of a glyph put together from others, at most: fontTools' time for one grows with their square."""

Piece = tuple[int, int]
"""Bytes of the file: from, to; there are none if that is before."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Where a table lies, as far as it is in the file; of no bytes if it begins behind the end."""

    start: int  # in the file
    end: int

    def piece(self, start: int, size: int) -> Piece:
        """Return so many bytes from `start` in the table, cut where it ends, which may be before `start`."""
        first = self.start + start
        return first, min(first + size, self.end)


@dataclass(frozen=True, slots=True)
class _Outlines:
    """Where the outline of each glyph lies, and the list that says so."""

    table: _Table
    offsets: array[int]  # of the glyphs in the table, and the end of the last
    index: _Table  # the list itself, as it is in the file
    stride: int  # bytes of an entry of it

    def pieces(self, glyph: int) -> Iterator[Piece]:
        if glyph + 1 < len(self.offsets):
            start = self.offsets[glyph]
            yield self.table.piece(start, self.offsets[glyph + 1] - start)
            yield self.index.piece(glyph * self.stride, 2 * self.stride)


@dataclass(frozen=True, slots=True)
class _Widths:
    """Where the widths of glyphs lie: the last one that has a width lends it to all behind it."""

    table: _Table
    full: int  # glyphs with a width and a bearing; those behind have a bearing only

    def pieces(self, glyph: int) -> Iterator[Piece]:
        yield self.table.piece(4 * min(glyph, max(self.full - 1, 0)), 4)
        if glyph >= self.full:
            yield self.table.piece(4 * self.full + 2 * (glyph - self.full), 2)


@dataclass(frozen=True, slots=True)
class FontFile:
    """What is kept of a font to say where its letters are; not its bytes."""

    characters: dict[int, int]  # character -> glyph
    substitutions: Substitutions
    components: dict[int, tuple[int, ...]]  # glyph -> those that it is put together from
    outlines: _Outlines
    widths: _Widths | None
    character_map: _Table | None  # None if it is too large to be given whole

    def pieces(self, letters: Iterable[str]) -> list[Piece]:
        """Return the pieces of the file that these letters need; nothing if the font has none of them.

        None of them is empty, and none leads out of the file.
        """
        glyphs = {self.characters[ord(letter)] for letter in letters if ord(letter) in self.characters}
        if not glyphs:
            return []
        table = self.character_map
        whole = [] if table is None else [(table.start, table.end)]
        glyphs = self._with_components(self.substitutions.closure(glyphs))
        widths = self.widths
        parts = chain.from_iterable(
            chain(self.outlines.pieces(glyph), () if widths is None else widths.pieces(glyph))
            for glyph in sorted(glyphs)
        )
        return [(start, end) for start, end in chain(whole, parts) if start < end]

    def _with_components(self, glyphs: set[int]) -> set[int]:
        reached = set(glyphs)
        waiting = list(glyphs)
        while waiting:
            new = set(self.components.get(waiting.pop(), ())) - reached
            reached |= new
            waiting += new
        return reached


def read_font(plain: bytes) -> FontFile:
    """Return where things lie in a font.

    Args:
        plain: untrusted bytes, a whole file.

    Raises:
        FontError: it is no TrueType or OpenType font, or a broken one.
    """
    if plain[:4] not in _KINDS:
        raise FontError("no TrueType or OpenType font")
    from fontTools.ttLib import TTFont  # 60 ms, for those only who build packs

    try:
        with TTFont(BytesIO(plain), lazy=True) as font:
            return _read(font, len(plain))
    except FontError:
        raise
    except Exception as error:  # of all kinds: fontTools lets out whatever a broken font makes of it
        raise FontError(f"a broken font: {type(error).__name__}: {error}") from error


def _read(font: TTFont, size: int) -> FontFile:
    count = font["maxp"].numGlyphs
    names = [f"glyph{number:05}" for number in range(count)]
    font.setGlyphOrder(names)  # the font's own names are of no use, and take long to read
    numbers = {name: number for number, name in enumerate(names)}
    character_map = _table(font, "cmap", size)
    is_small = character_map.end - character_map.start <= CHARACTER_MAP_MAX
    outlines = _charstrings(font, size) if "CFF " in font else _glyf(font, size)
    return FontFile(
        characters=_characters(font, numbers),
        substitutions=read_substitutions(font.reader["GSUB"]) if "GSUB" in font else Substitutions(),
        components={} if "CFF " in font else _components(font, numbers),
        outlines=outlines,
        widths=_Widths(_table(font, "hmtx", size), font["hhea"].numberOfHMetrics) if "hmtx" in font else None,
        character_map=character_map if is_small else None,
    )


def _table(font: TTFont, tag: str, size: int) -> _Table:
    """Return where a table lies in a file of so many bytes, cut where the file ends."""
    entry = font.reader.tables[tag]
    return _Table(entry.offset, min(entry.offset + entry.length, size))


def _characters(font: TTFont, numbers: dict[str, int]) -> dict[int, int]:
    """Return the glyph of each character."""
    subtable = next(
        (
            found
            for kind in ((3, 10), (0, 6), (0, 4), (3, 1), (0, 3), (0, 2), (0, 1), (0, 0))
            if (found := font["cmap"].getcmap(*kind)) is not None and found.format in (4, 12)
        ),
        None,
    )
    if subtable is None:
        raise FontError("a font without a map of Unicode characters")
    if subtable.format == 4 and subtable.data is not None:
        _check_spans(subtable.data)
    return {
        character: numbers[name] for character, name in subtable.cmap.items() if numbers.get(name, 0)
    }  # glyph 0 stands for what the font does not have


def _check_spans(segments: bytes) -> None:
    """Check that a map of format 4 has no more characters than there are, before they are counted out.

    Raises:
        FontError: its ranges lie in one another.
    """
    half = int.from_bytes(segments[:2], "big") // 2 * 2  # bytes of the list of ends, and of that of starts
    ends, starts = array("H", segments[8 : 8 + half]), array("H", segments[10 + half : 10 + 2 * half])
    ends.byteswap()
    starts.byteswap()
    spans = sum(max(end + 1 - start, 0) for start, end in zip(starts, ends, strict=False))
    if spans > _SPANS_MAX:
        raise FontError(f"a map of {spans} characters")


def _glyf(font: TTFont, size: int) -> _Outlines:
    offsets = array("Q", font["loca"].locations)
    stride = 4 if font["head"].indexToLocFormat else 2
    return _Outlines(_table(font, "glyf", size), offsets, _table(font, "loca", size), stride)


def _components(font: TTFont, numbers: dict[str, int]) -> dict[int, tuple[int, ...]]:
    """Return the parts of each glyph that is put together from others, such as é."""
    outlines = font["glyf"]
    found: dict[int, tuple[int, ...]] = {}
    count = 0
    for name, number in numbers.items():
        glyph = outlines.glyphs.get(name)
        data = getattr(glyph, "data", b"")
        if data[:1] >= b"\x80" and len(data) <= _COMPOSITE_MAX:  # a negative count of contours
            glyph.expand(outlines)
            parts = (numbers.get(part.glyphName) for part in glyph.components)
            found[number] = tuple(part for part in parts if part is not None)
            count += len(found[number])
            if count > COMPONENTS_MAX:
                raise FontError(f"more than {COMPONENTS_MAX} components")
            del glyph.components  # objects of 200 bytes each
    return found


def _charstrings(font: TTFont, size: int) -> _Outlines:
    """Return where the outlines are in a font of CFF: they stand behind one another, as told by a list."""
    table = _table(font, "CFF ", size)
    start = font["CFF "].cff.topDictIndex[0].rawDict["CharStrings"]
    data = font.reader["CFF "]
    count, stride = int.from_bytes(data[start : start + 2], "big"), data[start + 2]
    if start < 0 or not 1 <= stride <= 4 or start + 3 + (count + 1) * stride > len(data):
        raise FontError("a list of outlines that is cut short")
    base = start + 2 + (count + 1) * stride  # the first outline has the offset 1
    offsets = array(
        "Q",
        (
            base + int.from_bytes(data[at : at + stride], "big")
            for at in range(start + 3, start + 3 + (count + 1) * stride, stride)
        ),
    )
    index = _Table(*table.piece(start + 3, (count + 1) * stride))
    return _Outlines(table, offsets, index, stride)
