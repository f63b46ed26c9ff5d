"""Which glyphs a font may put in the place of others: ligatures, and other forms of letters. Pure.

Read from the bytes of a font's GSUB table (OpenType specification, *Glyph Substitution Table*), with a limit
on the steps. fontTools reads it, too, but believes it: a list of covered glyphs may name 65536 of them in six
bytes, as often as there are six bytes.

Contexts are not looked at: what may be put there only before or behind certain letters is taken to come.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

STEPS_MAX = 1 << 19
"""Numbers that are read, and glyphs that ranges name, at most. No table has nearly as many that is not made
to be slow."""

FEATURES = frozenset(b"ccmp locl rlig liga clig calt isol init medi med2 fina fin2 fin3".split())
"""What is on in every text (HarfBuzz's manual, *OpenType features*), and the forms of Arabic letters."""

_SINGLE, _MULTIPLE, _LIGATURE, _EXTENSION = 1, 2, 4, 7


class FontError(ValueError):
    """Bytes that are no font, or none that is read here."""


Rule = tuple[frozenset[int], tuple[int, ...]]
"""Where all of these glyphs are, those may come."""


@dataclass(frozen=True, slots=True)
class Substitutions:
    """What may come in the place of which glyphs."""

    rules: tuple[Rule, ...] = ()
    _of_glyph: dict[int, list[int]] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        for number, (wanted, _) in enumerate(self.rules):
            for glyph in wanted:
                self._of_glyph.setdefault(glyph, []).append(number)

    def closure(self, glyphs: Iterable[int]) -> set[int]:
        """Return these glyphs and all that may come of them."""
        reached = set(glyphs)
        waiting = list(reached)
        lacking: dict[int, int] = {}  # rule -> how many of its glyphs have not been reached
        while waiting:
            for number in self._of_glyph.get(waiting.pop(), ()):
                wanted, given = self.rules[number]
                lacking[number] = lacking.get(number, len(wanted)) - 1
                if not lacking[number]:
                    new = set(given) - reached
                    reached |= new
                    waiting += new
        return reached


def read_substitutions(table: bytes) -> Substitutions:
    """Return what a GSUB table, untrusted, may substitute in plain text.

    Raises:
        FontError: it is broken, or of more than `STEPS_MAX` steps.
    """
    try:
        return Substitutions(tuple(_Table(table).rules()))
    except struct.error as error:
        raise FontError("a table of substitutions that is cut short") from error


class _Table:
    """Reads 16-bit numbers, and counts them."""

    def __init__(self, table: bytes) -> None:
        self._table = table
        self._left = STEPS_MAX

    def _numbers(self, at: int, count: int) -> tuple[int, ...]:
        self._step(count + 1)
        return struct.unpack_from(f">{count}H", self._table, at)

    def _counted(self, at: int, size: int = 1) -> tuple[int, ...]:
        """Return the numbers of a list that begins with how many there are, of `size` each."""
        (count,) = self._numbers(at, 1)
        return self._numbers(at + 2, count * size)

    def _step(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise FontError(f"a table of substitutions with more than {STEPS_MAX} steps")

    def rules(self) -> Iterator[Rule]:
        """Give the rules of all lookups that are used for plain text."""
        features, lookups = self._numbers(6, 2)
        wanted: set[int] = set()
        named: set[int] = set()
        records = self._counted(features, 3)
        for number in range(0, len(records), 3):
            tag = self._table[features + 2 + 2 * number : features + 6 + 2 * number]
            used = self._counted(features + records[number + 2] + 2)
            named.update(used)
            if tag in FEATURES:
                wanted.update(used)
        for number, offset in enumerate(self._counted(lookups)):
            if number in wanted or number not in named:  # those without a feature belong to contexts
                yield from self._lookup(lookups + offset)

    def _lookup(self, at: int) -> Iterator[Rule]:
        kind, _ = self._numbers(at, 2)
        for offset in self._counted(at + 4):
            yield from self._subtable(kind, at + offset)

    def _subtable(self, kind: int, at: int) -> Iterator[Rule]:
        if kind == _EXTENSION:
            _, kind, high, low = self._numbers(at, 4)
            at += high << 16 | low
        if kind not in (_SINGLE, _MULTIPLE, _LIGATURE):
            return
        shape, coverage = self._numbers(at, 2)
        covered = self._coverage(at + coverage)
        if kind == _SINGLE and shape == 1:
            (delta,) = self._numbers(at + 4, 1)
            for glyph in covered:
                yield frozenset((glyph,)), ((glyph + delta) & 0xFFFF,)
            return
        for glyph, number in zip(covered, self._counted(at + 4), strict=False):
            if kind == _SINGLE:
                yield frozenset((glyph,)), (number,)
            elif kind == _MULTIPLE:
                yield frozenset((glyph,)), self._counted(at + number)
            else:
                for offset in self._counted(at + number):
                    yield self._ligature(glyph, at + number + offset)

    def _ligature(self, first: int, at: int) -> Rule:
        ligature, count = self._numbers(at, 2)  # the count is of all components, the first among them
        return frozenset((first, *self._numbers(at + 4, max(count - 1, 0)))), (ligature,)

    def _coverage(self, at: int) -> list[int]:
        """Return the glyphs of a coverage table, in its order."""
        (shape,) = self._numbers(at, 1)
        if shape == 1:
            return list(self._counted(at + 2))
        glyphs: list[int] = []
        ranges = self._counted(at + 2, 3)
        for first, last in zip(ranges[::3], ranges[1::3], strict=True):
            self._step(max(last + 1 - first, 0))
            glyphs += range(first, last + 1)
        return glyphs
