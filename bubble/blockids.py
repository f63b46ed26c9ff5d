"""A package's block ids on disk, as far as they are known: a table that fills while a view runs.

32 bytes a block, in the order of the block numbers; zeros where an id is not known yet. Whoever supplies
blocks writes ids that it has proved up to the publisher's signature (a launch pack's directory proves those
of the files it touches; the package's own list proves all). Views read the file as they go, and so see what
arrives. They do not map it: touching a hole of a mapped file on a full tmpfs is SIGBUS.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from packageformat.limits import DIGEST_SIZE

UNKNOWN = bytes(DIGEST_SIZE)


class BlockIds:
    """A reader's end: the file is read at each question, so what the supplier writes appears by itself."""

    def __init__(self, path: Path, count: int) -> None:
        """Open the table of a package of `count` blocks.

        Raises:
            OSError: it is not there, or too short.
        """
        self._count = count
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        if os.fstat(self._descriptor).st_size < count * DIGEST_SIZE:
            raise OSError(0, "a table of block ids that is cut short", str(path))

    def of(self, first: int, count: int) -> bytes | None:
        """Return the ids of `count` blocks from `first` on, concatenated; None while one is not known."""
        if not 0 <= first <= first + count <= self._count:
            raise IndexError(first)
        ids = os.pread(self._descriptor, count * DIGEST_SIZE, first * DIGEST_SIZE)
        if len(ids) != count * DIGEST_SIZE:
            return None
        if UNKNOWN in ids:
            for start in range(0, len(ids), DIGEST_SIZE):
                if ids[start : start + DIGEST_SIZE] == UNKNOWN:
                    return None
        return ids


def make_table(path: Path, count: int) -> None:
    """Make a table in which no id is known, unless there is one of this size.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != count * DIGEST_SIZE:
            os.ftruncate(descriptor, count * DIGEST_SIZE)
    finally:
        os.close(descriptor)


def write_ids(path: Path, runs: dict[int, bytes]) -> None:
    """Write proved ids into a table that exists.

    Args:
        path: the table.
        runs: first block -> ids from there on, concatenated.

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for first, ids in runs.items():
            os.pwrite(descriptor, ids, first * DIGEST_SIZE)
    finally:
        os.close(descriptor)
