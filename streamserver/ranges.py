"""The Range header: which bytes of an object a client asks for (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re
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
