"""Which pages of a cached file are here: its map (cachefile.py has the format and the order)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE, PAGES_A_BLOCK

MAGIC = b"MSCMAP1\n"
HEADER = struct.Struct("<8sQ")
PRESENCE = struct.Struct("<H")


def block_count(size: int) -> int:
    """Return how many blocks a file of `size` bytes has."""
    return -(-size // BLOCK_SIZE)


def page_mask(size: int, block: int) -> int:
    """Return the presence of block `block` of a file of `size` bytes when all its pages are there."""
    pages = -(-min(BLOCK_SIZE, size - block * BLOCK_SIZE) // PAGE_SIZE)
    return (1 << pages) - 1


def hashes_offset(size: int) -> int:
    """Return where in the map of a file of `size` bytes the page hashes begin."""
    return -(-(HEADER.size + 2 * block_count(size)) // PAGE_SIZE) * PAGE_SIZE


def map_of(place: Path) -> Path:
    """Return where the map of the content at `place` is, if it has one."""
    return place.with_name(place.name + ".map")


class PresenceMap:
    """An open map, for a reader that asks often. It stays true while suppliers write."""

    __slots__ = ("_descriptor", "_size")

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    @classmethod
    def of(cls, place: Path, size: int) -> PresenceMap | None:
        """Return the map of the content at `place`, of `size` bytes, or None if there is none: it is whole.

        Open the content first: a map comes before and goes after.
        """
        try:
            return cls(os.open(map_of(place), os.O_RDONLY | os.O_CLOEXEC), size)
        except FileNotFoundError:
            return None

    def pages(self, block: int) -> int:
        """Return which pages of a block are here: bit n for page n."""
        data = os.pread(self._descriptor, 2, HEADER.size + 2 * block)
        return int(PRESENCE.unpack(data.ljust(2, b"\0"))[0]) & page_mask(self._size, block)

    def pages_from(self, block: int, count: int) -> list[int]:
        """Return which pages are here of `count` blocks, at most as many as there are: one read for all."""
        blocks = block_count(self._size)
        count = min(count, blocks - block)
        data = os.pread(self._descriptor, 2 * count, HEADER.size + 2 * block).ljust(2 * count, b"\0")
        found = list(struct.unpack(f"<{count}H", data))
        if block + count == blocks:
            found[-1] &= page_mask(self._size, blocks - 1)
        return found

    def hashes(self, block: int) -> bytes:
        """Return the hashes of a block's pages, as far as the map has them; the caller checks them."""
        size = page_mask(self._size, block).bit_length() * DIGEST_SIZE
        offset = hashes_offset(self._size) + block * PAGES_A_BLOCK * DIGEST_SIZE
        return os.pread(self._descriptor, size, offset).ljust(size, b"\0")

    @property
    def is_gone(self) -> bool:
        """Whether this map is no longer the content's: that is whole now, or was begun anew."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        """Close the map."""
        os.close(self._descriptor)
