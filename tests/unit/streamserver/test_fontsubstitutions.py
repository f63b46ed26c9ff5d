"""What a font may put in the place of letters: in plain text, of any shape of table, in few steps."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st

from streamserver.fontsubstitutions import FontError, Substitutions, read_substitutions
from tests.fonts import build_font

NAMES = [*"abcdefghi", "f_i", "f_f", "f_f_i", "b.alt", "c.alt", "d.end", "x", "y"]


def table(features: str) -> bytes:
    font = build_font(dict.fromkeys(NAMES, 3), {"a": "a"}, features=features)
    return TTFont(BytesIO(font)).reader["GSUB"]


def closure(features: str, letters: str) -> str:
    """Return the names of the glyphs that may come of these letters, but for themselves."""
    numbers = {name: number for number, name in enumerate(NAMES, 1)}
    found = read_substitutions(table(features)).closure(numbers[letter] for letter in letters)
    return " ".join(name for name, number in numbers.items() if number in found and name not in letters)


LIGATURES = "feature liga { sub f f i by f_f_i; sub f i by f_i; sub f f by f_f; } liga;"


@pytest.mark.parametrize(
    ("features", "letters", "come"),
    [
        (LIGATURES, "fi", "f_i f_f f_f_i"),
        (LIGATURES, "f", "f_f"),
        (LIGATURES, "abi", ""),
        ("feature ccmp { sub c by c.alt; } ccmp;", "abc", "c.alt"),
        ("feature ccmp { sub [a-d] by [e-h]; } ccmp;", "bc", "f g"),  # a range, all by the same distance
        ("feature ccmp { sub a by b c; } ccmp;", "a", "b c"),
        ("feature locl { sub a by b; } locl; feature liga { sub b by c; } liga;", "a", "b c"),
        ("feature smcp { sub a by b; } smcp; feature dlig { sub f i by f_i; } dlig;", "afi", ""),
        ("feature calt { sub [a b c] d' e by d.end; } calt;", "d", "d.end"),
        ("lookup one useExtension { sub f i by f_i; } one; feature rlig { lookup one; } rlig;", "fi", "f_i"),
        (
            "feature init { sub b by b.alt; } init; feature fina { sub d by d.end; } fina;",
            "bd",
            "b.alt d.end",
        ),
        ("feature salt { sub a from [b c]; } salt;", "a", ""),
    ],
)
def test_what_comes_of_letters(features: str, letters: str, come: str) -> None:
    assert closure(features, letters) == come


def test_a_circle_ends() -> None:
    assert Substitutions(((frozenset((1,)), (2,)), (frozenset((2,)), (1, 3)))).closure([1]) == {1, 2, 3}


def test_ranges_that_name_all_glyphs_again_and_again_are_refused() -> None:
    ranges = b"".join(struct.pack(">HHH", 0, 0xFFFF, 0) for _ in range(100))
    subtable = struct.pack(">HHH", 1, 6, 1) + struct.pack(">HH", 2, 100) + ranges
    features = struct.pack(">H4sH", 1, b"liga", 8) + struct.pack(">HHH", 0, 1, 0)
    lookups = struct.pack(">HH", 1, 4) + struct.pack(">HHHH", 1, 0, 1, 8) + subtable
    head = struct.pack(">HHHHH", 1, 0, 0, 10, 10 + len(features))
    with pytest.raises(FontError, match="more than"):
        read_substitutions(head + features + lookups)


GOOD = table(
    LIGATURES + "feature calt { sub [a b c] d' e by d.end; } calt; feature ccmp { sub a by b c; } ccmp;"
)


@given(st.binary(max_size=40), st.integers(0, len(GOOD)))
def test_any_bytes_are_substitutions_or_a_font_error(junk: bytes, at: int) -> None:
    for broken in (junk, GOOD[:at], GOOD[:at] + junk + GOOD[at + len(junk) :]):
        with suppress(FontError):
            read_substitutions(broken).closure(range(20))
