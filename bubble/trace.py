"""Which pages a view was asked for, and when: what training makes launch profiles of.

A view that finds MILLSTREAM_TRACE in its environment appends one record to that file for each read. Each is
one write(2), about 2 us: whoever reads the file beside it sees every read that the view has taken up. For a
trace of every page the kernel must ask for each of them: MILLSTREAM_READAHEAD=0 beside it, and nothing
pushed to the kernel unasked.

    record:  microseconds of the monotonic clock 8 · content number 4 · first page 4 · pages 4, little-endian
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from packageformat.limits import PAGE_SIZE

VARIABLE = "MILLSTREAM_TRACE"
"""The environment's variable that names the file."""

RECORD = struct.Struct("<QIII")


@dataclass(frozen=True, slots=True)
class TracedRead:
    """One read, as it came to the view."""

    at_us: int  # monotonic clock
    content: int  # number in the view image
    first_page: int
    pages: int


class Trace:
    """The file that a view writes."""

    def __init__(self, path: str) -> None:
        """Open `path`, to append.

        Raises:
            OSError: it cannot be written to.
        """
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @classmethod
    def from_environment(cls) -> Trace | None:
        """Return the trace that the environment asks for, or None.

        Raises:
            OSError: it cannot be written to.
        """
        path = os.environ.get(VARIABLE)
        return cls(path) if path else None

    def note(self, content: int, offset: int, size: int) -> None:
        """Note a read of `size` bytes, at least 1, at `offset` of a content."""
        first = offset // PAGE_SIZE
        pages = (offset + size - 1) // PAGE_SIZE + 1 - first
        os.write(self._descriptor, RECORD.pack(time.monotonic_ns() // 1000, content, first, pages))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_trace(data: bytes) -> Iterator[TracedRead]:
    """Give the reads in `data`, the content of a trace; a record that is cut short is not there yet."""
    whole = len(data) - len(data) % RECORD.size
    for fields in RECORD.iter_unpack(data[:whole]):
        yield TracedRead(*fields)
