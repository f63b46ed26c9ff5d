"""Fonts: the pieces of a file that letters need; broken ones end in an error of ours, or stay inside."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables.DefaultTable import DefaultTable
from hypothesis import given, settings
from hypothesis import strategies as st

from streamserver.fontfile import CHARACTER_MAP_MAX, FontError, read_font
from tests.fonts import build_font

LETTERS = {"a": "a", "b": "b", "é": "eacute", "e": "e", "\U0001d49c": "b"}
TRUETYPE = build_font(
    {"a": 50, "b": 60, "e": 70, "acute": 9}, LETTERS, composites={"eacute": ("e", "acute"), "x": ("eacute",)}
)
POSTSCRIPT = build_font(
    {"a": 50, "b": 60, "e": 70, "eacute": 80, "f": 90, "i": 20, "f_i": 33},
    LETTERS | {"f": "f", "i": "i"},
    features="feature liga { sub f i by f_i; } liga;",
    cff=True,
)


def parts(font: bytes, letters: str) -> list[bytes]:
    return [font[start:end] for start, end in read_font(font).pieces(letters)]


def outline(font: bytes, name: str) -> bytes:
    read = TTFont(BytesIO(font))
    if "CFF " in read:
        return read["CFF "].cff[0].CharStrings[name].bytecode
    number = read.getGlyphID(name)
    return read.reader["glyf"][read["loca"][number] : read["loca"][number + 1]]


def with_table(font: bytes, tag: str, table: bytes) -> bytes:
    """Return a font with other bytes for one of its tables."""
    changed = TTFont(BytesIO(font), recalcBBoxes=False)
    changed[tag] = DefaultTable(tag)
    changed[tag].data = table
    file = BytesIO()
    changed.save(file)
    return file.getvalue()


@pytest.mark.parametrize("font", [TRUETYPE, POSTSCRIPT])
def test_the_outlines_of_letters_are_found(font: bytes) -> None:
    assert outline(font, "b") in parts(font, "b")
    assert outline(font, "a") not in parts(font, "b")
    assert parts(font, "\U0001d49c") == parts(font, "b"), "beyond 65536"
    assert parts(font, "日") == parts(font, "") == []


def test_parts_of_a_letter_come_with_it() -> None:
    assert {outline(TRUETYPE, name) for name in ("eacute", "e", "acute")} <= set(parts(TRUETYPE, "é"))
    assert outline(TRUETYPE, "acute") not in parts(TRUETYPE, "e")


def test_ligatures_come_with_their_letters() -> None:
    assert outline(POSTSCRIPT, "f_i") in parts(POSTSCRIPT, "fi")
    assert outline(POSTSCRIPT, "f_i") not in parts(POSTSCRIPT, "f")


@pytest.mark.parametrize("font", [TRUETYPE, POSTSCRIPT])
def test_widths_places_and_the_map_of_characters_come_too(font: bytes) -> None:
    read = TTFont(BytesIO(font))
    width = struct.pack(">H", read["hmtx"]["b"][0])
    assert any(part[:2] == width and len(part) == 4 for part in parts(font, "b"))
    assert read.reader["cmap"] in parts(font, "b")
    if "loca" in read:
        number = read.getGlyphID("b")
        assert read.reader["loca"][2 * number : 2 * number + 4] in parts(font, "b")


def test_a_large_map_of_characters_does_not_come() -> None:
    font = build_font(
        {"a": 5, "b": 5}, {chr(0x10000 + 2 * number): "ab"[number % 2] for number in range(6000)}
    )
    assert len(TTFont(BytesIO(font)).reader["cmap"]) > CHARACTER_MAP_MAX
    assert outline(font, "b") in parts(font, "\U00010002")
    assert max(map(len, parts(font, "\U00010002"))) < 100


@pytest.mark.parametrize("kind", [b"ttcf", b"wOFF", b"wOF2", b"\0\0\0\0", b""])
def test_other_kinds_of_fonts_are_refused(kind: bytes) -> None:
    with pytest.raises(FontError, match="no TrueType"):
        read_font(kind + TRUETYPE[4:] if kind else b"")


def test_a_map_that_names_all_characters_again_and_again_is_refused() -> None:
    count = 1000
    ends, starts = struct.pack(">H", 0xFFFE) * count, struct.pack(">H", 0) * count
    segments = ends + b"\0\0" + starts + b"\0\1" * count + b"\0\0" * count
    subtable = struct.pack(">7H", 4, 14 + len(segments), 0, 2 * count, 0, 0, 0) + segments
    font = with_table(TRUETYPE, "cmap", struct.pack(">HHHHI", 0, 1, 3, 1, 12) + subtable)
    with pytest.raises(FontError, match="a map of 65535000 characters"):
        read_font(font)


def test_a_list_of_outlines_before_its_table_is_refused() -> None:
    table = TTFont(BytesIO(POSTSCRIPT)).reader["CFF "]
    assert table.count(b"\x12\xcf\x11") == 1  # its list of outlines, "CharStrings", is at 0xcf - 139
    moved = table[:-40] + b"\0\1\1" + bytes(37)  # a list of one outline
    assert read_font(with_table(POSTSCRIPT, "CFF ", moved)).pieces("a")
    with pytest.raises(FontError):
        read_font(
            with_table(POSTSCRIPT, "CFF ", moved.replace(b"\x12\xcf\x11", bytes((0x12, 139 - 40, 0x11))))
        )


@pytest.mark.parametrize(("field", "new"), [(0, b"\xff\xff"), (2, b"\0"), (2, b"\5")])
def test_a_list_of_outlines_that_cannot_be_is_refused(field: int, new: bytes) -> None:
    read = TTFont(BytesIO(POSTSCRIPT))
    at = read.reader.tables["CFF "].offset + read["CFF "].cff[0].rawDict["CharStrings"] + field
    with pytest.raises(FontError, match="a list of outlines"):
        read_font(POSTSCRIPT[:at] + new + POSTSCRIPT[at + len(new) :])


@pytest.mark.parametrize("font", [TRUETYPE, POSTSCRIPT], ids=["truetype", "postscript"])
@given(data=st.data())
@settings(max_examples=300)
def test_a_broken_font_ends_in_a_font_error_or_in_pieces_of_its_file(
    font: bytes, data: st.DataObject
) -> None:
    broken = bytearray(font)
    for at in data.draw(st.lists(st.integers(0, len(font) - 1), max_size=8)):
        broken[at] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, broken[at] ^ 1)))
    end = data.draw(st.one_of(st.just(len(font)), st.integers(0, len(font))))
    try:
        pieces = read_font(bytes(broken[:end])).pieces("aébfi")
    except FontError:
        return
    assert all(0 <= start < stop <= end for start, stop in pieces)
