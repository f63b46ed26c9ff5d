"""Where the bytes of a new block were in the old file: segments, found as bsdiff finds them.

Code that is compiled again moves in pieces, and inside a piece only addresses change. So a segment need not
be equal to its old bytes, only mostly: it begins at an exact match, and goes on for as long as more than half
of its bytes agree. The difference of such a segment is mostly zeros (Colin Percival, *Naive differences of
executable code*, 2003). Where bsdiff sorts all suffixes of the old file, which costs 17 times its size in
memory, we keep every n-th window of 16 bytes in a table, and look only where the alignment at hand stops
fitting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from packageformat.lanes import unequal_bytes

WINDOW = 16
"""Bytes of a window: long enough to be unique in code, short enough to lie between two changed addresses."""

WINDOWS_MAX = 1 << 20
"""Windows that are kept of one file, about 200 bytes of memory each; a larger file has them wider apart."""

PIECE = 128
"""Bytes that are looked at together."""

MARGIN = 8
"""By how many bytes another alignment must agree better to be worth a segment (bsdiff's number)."""

SEGMENT_LEAST = 8
"""A segment costs some bytes to tell; a shorter one is not worth it."""

ENDING = 4096
"""Bytes at the end of a stretch in which its best end is looked for, if the rest agrees."""

_ZEROS = bytes(WINDOW)
_COMMON = (bytes(WINDOW), b"\xff" * WINDOW, b"\xcc" * WINDOW, b"\x90" * WINDOW, b" " * WINDOW)
_AGREES = (1, *(-1,) * 255)


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of a new block that were in an old file, all or most of them equal."""

    start: int  # in the new block
    size: int
    old_start: int  # in the old file


class OldFile:
    """An old file with the places of its windows."""

    __slots__ = ("_places", "content")

    def __init__(self, content: bytes) -> None:
        self.content = content
        stride = WINDOW * max(1, -(-len(content) // (WINDOW * WINDOWS_MAX)))
        places = range(0, max(0, len(content) - WINDOW + 1), stride)
        self._places = dict(zip((content[place : place + WINDOW] for place in places), places, strict=True))
        for window in _COMMON:
            self._places.pop(window, None)

    @property
    def place_of(self) -> Callable[[bytes], int | None]:
        """The function that gives a place where a window is in the file, if it is among those kept."""
        return self._places.get


def find_segments(new: bytes, old: OldFile, shift: int) -> tuple[list[Segment], int]:
    """Return the segments of a new block, in order, and the shift at its end, for the block after it.

    Args:
        new: the block's plain bytes.
        old: the file that it most likely comes from.
        shift: the alignment to begin with: place in the old file less place in the block.
    """
    runs = _runs(new, old, shift)
    ends = [start for start, _ in runs[1:]] + [len(new)]
    found: list[Segment] = []
    reached = 0
    for (start, run_shift), end in zip(runs, ends, strict=True):
        if start == end:
            continue
        stop = start + _best_end(_unequal(new, start, end, old.content, run_shift))
        if stop == start:
            continue
        if reached < start:  # what the segment before left out may belong to this one
            before = _unequal(new, max(reached, start - ENDING), start, old.content, run_shift)
            start -= _best_end(before[::-1])
        if stop - start >= SEGMENT_LEAST:
            found.append(Segment(start, stop - start, start + run_shift))
            reached = stop
    return found, runs[-1][1]


def _runs(new: bytes, old: OldFile, shift: int) -> list[tuple[int, int]]:
    """Return where the alignment changes: pairs of place in the new block and shift, the first at 0."""
    content, place_of, size = old.content, old.place_of, len(new)
    runs = [(0, shift)]
    base = place = 0  # `unequal` begins at `base`
    unequal = _unequal(new, 0, size, content, shift)
    while place < size:
        here = min(PIECE, size - place)
        if 8 * unequal.count(0, place - base, place - base + here) >= 7 * here:
            place += here
            continue
        stop = min(place + PIECE, size - WINDOW + 1)
        windows = [new[start : start + WINDOW] for start in range(place, stop)]
        place += here
        for start, old_start in enumerate(map(place_of, windows), stop - len(windows)):
            if old_start is None or old_start - start == shift:
                continue
            if unequal[start - base : start - base + WINDOW] == _ZEROS:
                continue
            first = start - _equal_before(new, start, content, old_start, start - base)
            last = start + _equal_after(new, start, content, old_start)
            if last - first > unequal.count(0, first - base, last - base) + MARGIN:
                shift = old_start - start
                runs.append((first, shift))
                base, place = first, last
                unequal = _unequal(new, base, size, content, shift)
                break
    return runs


def _unequal(new: bytes, start: int, end: int, old: bytes, shift: int) -> bytes:
    """Return bytes that are zero where new[start:end] agrees with the old file, moved by `shift`."""
    low = min(max(start, -shift), end)
    high = max(min(end, len(old) - shift), low)
    inside = unequal_bytes(new[low:high], old[low + shift : high + shift])
    return b"\xff" * (low - start) + inside + b"\xff" * (end - high)


def _best_end(unequal: bytes) -> int:
    """Return how many bytes to take from the start on, so that agreeing less disagreeing ones are most."""
    skipped = 0
    if len(unequal) > 2 * ENDING:
        head = len(unequal) - ENDING
        if 2 * unequal.count(0, 0, head) > head:
            skipped = head
    sums = list(accumulate(map(_AGREES.__getitem__, unequal[skipped:])))
    best = max(sums, default=0)
    return skipped + len(sums) - sums[::-1].index(best) if best > 0 else skipped


def _equal_after(new: bytes, start: int, old: bytes, old_start: int) -> int:
    """Return how many bytes from two places on are equal."""
    most = min(len(new) - start, len(old) - old_start)
    count, step = 0, 64
    while count < most:
        step = min(step, most - count)
        mine = new[start + count : start + count + step]
        theirs = old[old_start + count : old_start + count + step]
        if mine != theirs:
            differing = int.from_bytes(mine, "little") ^ int.from_bytes(theirs, "little")
            return count + ((differing & -differing).bit_length() - 1 >> 3)
        count += step
        step *= 4
    return count


def _equal_before(new: bytes, start: int, old: bytes, old_start: int, most: int) -> int:
    """Return how many bytes before two places are equal, `most` at most."""
    most = min(most, start, old_start)
    count, step = 0, 64
    while count < most:
        step = min(step, most - count)
        mine = new[start - count - step : start - count]
        theirs = old[old_start - count - step : old_start - count]
        if mine != theirs:
            differing = int.from_bytes(mine, "little") ^ int.from_bytes(theirs, "little")
            return count + step - (differing.bit_length() + 7 >> 3)
        count += step
        step *= 4
    return count
