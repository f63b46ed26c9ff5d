"""The letters of a language: exactly the pages of the launch's fonts that they lie in, and never others."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from io import BytesIO

import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st

from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.packdirectory import PackExtent
from packageformat.tree import Kind, Node, Tree, build_tree
from streamserver.errors import DamagedObjectError
from streamserver.fontfile import read_font
from streamserver.packletters import FONT_MAX, FONTS_MAX, LETTERS_MAX, LaunchLetters, letters_of
from tests.fonts import build_catalog, build_font

SIZES = dict.fromkeys(("a", "b", "c", "d", "e", "f", "g", "h", "i", "acute", "E", "Eacute", "f_i"), 1600)
FONT = build_font(
    SIZES,
    {letter: letter for letter in "abcdefghiE"} | {"é": "eacute", "É": "Eacute"},
    composites={"eacute": ("e", "acute")},
    features="feature liga { sub f i by f_i; } liga;",
)
FRENCH = build_catalog("é", "fi")
NEEDED = ("f", "i", "f_i", "e", "acute", "Eacute")
"""What FRENCH needs: e is part of é."""


def outline(name: str) -> bytes:
    """Return the outline of a glyph, as it lies in the font's file."""
    font = TTFont(BytesIO(FONT))
    number = font.getGlyphID(name)
    start, end = font["loca"][number], font["loca"][number + 1]
    return font.reader["glyf"][start:end]


def pages_of(plain: bytes, part: bytes) -> set[int]:
    assert plain.count(part) == 1
    start = plain.index(part)
    return set(range(start // PAGE_SIZE, (start + len(part) - 1) // PAGE_SIZE + 1))


class Stack:
    """One layer of files in memory, and which of its blocks were read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {path.encode(): plain for path, plain in files.items()}
        nodes = {path: Node(Kind.FILE, 0o644, size=len(plain)) for path, plain in self.files.items()}
        self.tree: Tree = build_tree(nodes)
        self.reads: Counter[str] = Counter()

    def block(self, layer: int, block: int) -> bytes:
        assert layer == 0
        entry, offset = self.tree.block_place(block)
        self.reads[self.tree.path(entry).decode()] += 1
        return self.files[self.tree.path(entry)][offset : offset + BLOCK_SIZE]

    def extents(self, path: str, pages: Iterable[int] | None = None) -> list[PackExtent]:
        """Return pages of a file, each an extent; all of them without `pages`."""
        entry = self.tree.find(path.encode())
        assert entry is not None
        first = self.tree.first_block(entry)
        every = range(-(-self.tree.file_size(entry) // PAGE_SIZE))
        return [PackExtent(0, first + page // 16, page % 16, 1) for page in pages or every]

    def pages(self, extents: Iterable[PackExtent]) -> dict[str, set[int]]:
        """Return the pages of each file, which must be there, each once."""
        found: dict[str, set[int]] = {}
        for extent in extents:
            entry, offset = self.tree.block_place(extent.block)
            assert extent.pages > 0 <= extent.first_page
            ends = (extent.first_page + extent.pages - 1) * PAGE_SIZE
            assert ends < self.tree.block_size(extent.block), "behind the end of its block"
            here = found.setdefault(self.tree.path(entry).decode(), set())
            new = {offset // PAGE_SIZE + extent.first_page + number for number in range(extent.pages)}
            assert not here & new, "a page twice"
            here |= new
        return found

    def letters(self, touched: list[PackExtent], pages_max: int = 1024) -> LaunchLetters:
        return LaunchLetters(touched, [self.tree], self.block, pages_max)


def french(fonts: dict[str, bytes], catalog: bytes = FRENCH) -> dict[str, set[int]]:
    """Return the pages of these fonts that come with French, if a launch touches the first page of each."""
    stack = Stack(fonts | {"fr.mo": catalog})
    touched = [extent for path in fonts for extent in stack.extents(path, [0])]
    return stack.pages(stack.letters(touched).extents(stack.extents("fr.mo")))


def test_exactly_the_pages_of_the_letters_come() -> None:
    outlines = set().union(*(pages_of(FONT, outline(name)) for name in NEEDED))
    found = french({"letters.ttf": FONT})["letters.ttf"]
    assert len(outlines) > 8
    assert found >= outlines
    assert 0 not in found, "the launch touches it"
    tables = {tag: (start, size) for tag, _, start, size in struct.iter_unpack(">4sIII", directory(FONT))}
    small = {
        page
        for tag in (b"cmap", b"loca", b"hmtx")
        for page in range(tables[tag][0] // PAGE_SIZE, sum(tables[tag]) // PAGE_SIZE + 1)
    }
    assert found <= outlines | small
    for other in ("a", "b", "c", "g", "h", "E"):
        assert not pages_of(FONT, outline(other)) <= found


def directory(font: bytes) -> bytes:
    """Return the list of tables: 16 bytes for each."""
    return font[12 : 12 + 16 * int.from_bytes(font[4:6], "big")]


def test_pages_that_the_launch_touches_do_not_come_again() -> None:
    stack = Stack({"letters.ttf": FONT, "fr.mo": FRENCH})
    touched = stack.extents("letters.ttf", [0, *pages_of(FONT, outline("acute"))])
    found = stack.pages(stack.letters(touched).extents(stack.extents("fr.mo")))["letters.ttf"]
    assert not found & pages_of(FONT, outline("acute"))
    assert found & pages_of(FONT, outline("f_i"))
    whole = stack.letters(stack.extents("letters.ttf"))
    assert whole.extents(stack.extents("fr.mo")) == []


def test_pages_at_neighbouring_places_in_two_blocks_stay_apart() -> None:
    stack = Stack({"letters.ttf": FONT, "fr.mo": build_catalog("abcdefghi")})
    needed = french({"letters.ttf": FONT}, build_catalog("abcdefghi"))["letters.ttf"]
    pairs = [{page, page + 17} for page in needed if page + 17 in needed]
    assert pairs
    for pair in pairs:
        touched = stack.extents("letters.ttf", {0, *needed} - pair)
        found = stack.letters(touched).extents(stack.extents("fr.mo"))
        assert stack.pages(found) == {"letters.ttf": pair}


def test_a_font_is_read_once_for_all_languages() -> None:
    stack = Stack({"letters.ttf": FONT, "fr.mo": FRENCH, "eo.mo": build_catalog("abc"), "text.svg": b"e"})
    letters = stack.letters(stack.extents("letters.ttf", [0]))
    assert not stack.reads, "nothing before a language asks"
    first = letters.extents(stack.extents("fr.mo"))
    assert letters.extents(stack.extents("eo.mo")) != first
    assert letters.extents([*stack.extents("fr.mo"), *stack.extents("text.svg")]) == first
    assert stack.reads == {"letters.ttf": -(-len(FONT) // BLOCK_SIZE), "fr.mo": 2, "eo.mo": 1}


@pytest.mark.parametrize("name", ["letters.ttc", "letters.pfb", "ttf", "letters.ttf.gz"])
def test_what_is_not_named_like_a_font_is_none(name: str) -> None:
    stack = Stack({name: FONT, "fr.mo": FRENCH})
    assert stack.letters(stack.extents(name, [0])).extents(stack.extents("fr.mo")) == []
    assert not stack.reads


def test_fonts_in_capitals_and_fonts_of_postscript_come_too() -> None:
    cff = build_font({"a": 1600, "b": 1600, "e": 1600}, {"a": "a", "b": "b", "e": "e"}, cff=True)
    found = french({"A.TTF": FONT, "b.otf": cff}, build_catalog("e"))
    assert found.keys() == {"A.TTF", "b.otf"}


@pytest.mark.parametrize("catalog", [build_catalog("日本"), build_catalog(""), b"Bonjour", FRENCH[:40]])
def test_a_language_without_letters_of_the_font_has_no_pages(catalog: bytes) -> None:
    assert french({"letters.ttf": FONT}, catalog) == {}


def test_a_launch_without_fonts_reads_no_catalog() -> None:
    stack = Stack({"tool": b"x", "fr.mo": FRENCH})
    assert stack.letters(stack.extents("tool")).extents(stack.extents("fr.mo")) == []
    assert not stack.reads


@pytest.mark.parametrize(
    "broken", [b"x", FONT[:11], FONT[:200], FONT[: len(FONT) // 2], b"\0\1\0\0" + bytes(200), bytes(9000)]
)
def test_a_broken_font_is_left_out_with_a_line_in_the_log(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "streamserver"):
        found = french({"broken.ttf": broken, "letters.ttf": FONT})
    assert found == french({"letters.ttf": FONT})
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["broken.ttf"]


def test_a_font_that_is_damaged_in_the_store_is_left_out() -> None:
    stack = Stack({"letters.ttf": FONT, "other.ttf": FONT[:-1], "fr.mo": FRENCH})
    broken = stack.extents("letters.ttf")[-1].block

    def block(layer: int, number: int) -> bytes:
        if number == broken:
            raise DamagedObjectError("damaged")
        return stack.block(layer, number)

    touched = [extent for path in ("letters.ttf", "other.ttf") for extent in stack.extents(path, [0])]
    found = LaunchLetters(touched, [stack.tree], block).extents(stack.extents("fr.mo"))
    assert "letters.ttf" not in stack.pages(found)


def test_a_font_that_is_too_large_is_not_read() -> None:
    tree = build_tree(
        {
            b"fr.mo": Node(Kind.FILE, 0o644, size=len(FRENCH)),
            b"large.ttf": Node(Kind.FILE, 0o644, size=FONT_MAX + 1),
        }
    )

    def block(_: int, number: int) -> bytes:
        assert number == 0
        return FRENCH

    assert LaunchLetters([PackExtent(0, 1, 0, 1)], [tree], block).extents([PackExtent(0, 0, 0, 1)]) == []


def test_a_font_that_does_not_fit_in_is_left_out_whole() -> None:
    small = build_font({"a": 900, "f": 900}, {"f": "f"})
    stack = Stack({"a.ttf": FONT, "b.ttf": small, "fr.mo": FRENCH})
    touched = [extent for path in ("a.ttf", "b.ttf") for extent in stack.extents(path, [0])]
    count = len(french({"a.ttf": FONT})["a.ttf"])
    for most, there in ((count, {"a.ttf"}), (count - 1, {"b.ttf"}), (0, set())):
        found = stack.letters(touched, most).extents(stack.extents("fr.mo"))
        assert stack.pages(found).keys() == there


def test_of_many_fonts_the_first_ones_are_read() -> None:
    small = build_font({"a": 900, "f": 900}, {"f": "f"})
    names = [f"{number:03}.ttf" for number in range(FONTS_MAX + 1)]
    assert french(dict.fromkeys(names, small)).keys() == set(names[:FONTS_MAX])


def test_letters_come_small_and_large_and_of_many_the_commonest() -> None:
    assert letters_of(["é"]) == {"é", "É"}
    assert letters_of(["É", "ß"]) == {"é", "É", "ß", "S"}
    many = [chr(0x4E00 + number) for number in range(LETTERS_MAX + 100)]
    found = letters_of(["".join(many), many[-1], many[300] * 2])
    assert len(found) == LETTERS_MAX
    assert {many[-1], many[300], many[0]} <= found
    assert many[-2] not in found


TABLES = struct.iter_unpack(">4sIII", directory(FONT))
PLACES = [(12 + 16 * number + 8, start, size) for number, (_, _, start, size) in enumerate(TABLES)]
"""For each table: where the list of tables tells its offset, its offset, its size."""


@given(st.sampled_from(PLACES), st.integers(0, 1), st.integers(0, 2**32 - 1))
def test_a_font_whose_tables_lie_behind_its_end_leads_nowhere(
    place: tuple[int, int, int], field: int, value: int
) -> None:
    at = place[0] + 4 * field
    french({"letters.ttf": FONT[:at] + value.to_bytes(4, "big") + FONT[at + 4 :]})


@given(st.sampled_from(PLACES), st.lists(st.tuples(st.integers(0, 2**31), st.binary(min_size=1, max_size=4))))
@settings(max_examples=300)
def test_no_font_however_broken_leads_out_of_its_file(
    place: tuple[int, int, int], changes: list[tuple[int, bytes]]
) -> None:
    broken = bytearray(FONT)
    for where, new in changes:
        at = place[1] + where % min(place[2], 600)
        broken[at : at + len(new)] = new
    french({"letters.ttf": bytes(broken[: len(FONT)])})


def test_a_table_that_is_said_to_go_on_behind_the_file_is_cut() -> None:
    (at,) = (at for at, start, _ in PLACES if FONT[at - 8 : at - 4] == b"hmtx")
    for offset in (len(FONT) - 3, len(FONT) - 1, len(FONT), len(FONT) + 9000, 2**32 - 1):
        moved = FONT[:at] + struct.pack(">II", offset, 2**32 - 1) + FONT[at + 8 :]
        pieces = read_font(moved).pieces("é")
        assert pieces
        assert all(0 <= start < end <= len(FONT) for start, end in pieces)
        assert french({"letters.ttf": moved})


def test_the_server_starts_without_what_reads_fonts() -> None:
    program = "import sys, streamserver.packbuilding; sys.exit('fontTools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
