"""Which bytes a client asks for: the Range header (RFC 9110, section 14), and lanes of a stream. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes from `offset` of an object of `total` bytes; `partial` if a range was asked for."""

    offset: int
    size: int
    total: int
    partial: bool

    def __post_init__(self) -> None:
        if not 0 <= self.offset <= self.offset + self.size <= self.total:
            raise ValueError(f"span {self.offset}+{self.size} outside 0..{self.total}")

    @property
    def content_range(self) -> str:
        """The Content-Range header of a 206 reply."""
        return f"bytes {self.offset}-{self.offset + self.size - 1}/{self.total}"


def span_of(header: str | None, total: int) -> Span | None:
    """Return the bytes that a Range header asks for; None if there are none such (416).

    Several ranges, other units and anything that is not a range are ignored, as the RFC allows:
    the whole object is sent. `total` is the object's size.
    """
    whole = Span(0, total, total, partial=False)
    if header is None:
        return whole
    found = _ONE_RANGE.fullmatch(header.strip())
    if not found:
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:  # the last n bytes
        size = min(int(last), total)
        return Span(total - size, size, total, partial=True) if size else None
    start = int(first)
    end = min(int(last), total - 1) if last else total - 1
    if last and int(last) < start:
        return whole
    if start >= total:
        return None
    return Span(start, end - start + 1, total, partial=True)


LANES_MAX = 16
STRIPE_MIN, STRIPE_MAX = 1 << 14, 1 << 20

_NUMBER = r"(0|[1-9][0-9]{0,6})"
_LANE = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}", re.ASCII)  # one way to write a number


@dataclass(frozen=True, slots=True)
class Lane:
    """The stripes `number`, `number` + `count`, ... of a stream that is cut into stripes of so many bytes."""

    number: int
    count: int
    stripe: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count <= LANES_MAX:
            raise ValueError(f"lane {self.number} of {self.count}")
        if not STRIPE_MIN <= self.stripe <= STRIPE_MAX:
            raise ValueError(f"stripes of {self.stripe} bytes")

    def length(self, total: int) -> int:
        """Return the bytes of this lane of a stream of `total` bytes."""
        cycles, rest = divmod(total, self.stripe * self.count)
        return cycles * self.stripe + min(max(rest - self.number * self.stripe, 0), self.stripe)

    def pieces(self, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Give the pieces of a stream of parts of these sizes: the part, the offset in it, the bytes."""
        at = 0
        for part, size in enumerate(sizes):
            offset = 0
            while offset < size:
                stripe, within = divmod(at, self.stripe)
                here = min(size - offset, self.stripe - within if self.count > 1 else size)
                if stripe % self.count == self.number:
                    yield part, offset, here
                offset += here
                at += here


WHOLE = Lane(0, 1, STRIPE_MAX)
"""The only lane of a stream that was not asked for in lanes: its pieces are the parts."""


def lane_of(text: str) -> Lane | None:
    """Return the lane that `NUMBER.COUNT.STRIPE` says, None if that is none."""
    found = _LANE.fullmatch(text)
    if found is None:
        return None
    try:
        return Lane(*map(int, found.groups()))
    except ValueError:
        return None
