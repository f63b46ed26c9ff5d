"""A package's block ids on disk, as far as they are known: a table that fills while a view runs.

32 bytes a block, in the order of the block numbers; zeros where an id is not known yet. Whoever supplies
blocks writes ids that it has proved up to the publisher's signature (a launch pack's directory proves those
of the files it touches; the package's own list proves all). Views map the file and so see what arrives.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from packageformat.limits import DIGEST_SIZE

UNKNOWN = bytes(DIGEST_SIZE)


class BlockIds:
    """A reader's end: the file is mapped, so what the supplier writes appears by itself."""

    def __init__(self, path: Path, count: int) -> None:
        """Map the table of a package of `count` blocks.

        Raises:
            OSError: it is not there, or too short.
        """
        self._count = count
        self._map: mmap.mmap | bytes = b""
        if count:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < count * DIGEST_SIZE:
                    raise OSError(0, "a table of block ids that is cut short", str(path))
                self._map = mmap.mmap(file.fileno(), count * DIGEST_SIZE, prot=mmap.PROT_READ)

    def of(self, first: int, count: int) -> bytes | None:
        """Return the ids of `count` blocks from `first` on, concatenated; None while one is not known."""
        if not 0 <= first <= first + count <= self._count:
            raise IndexError(first)
        ids = bytes(self._map[first * DIGEST_SIZE : (first + count) * DIGEST_SIZE])
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
