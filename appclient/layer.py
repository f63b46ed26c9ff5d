"""One package version in use: its verified head, and the cache files that hold its blocks.

The event loop asks what is there; one thread unpacks and writes. They share nothing but the files.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from bubble.cachefile import CacheFile, CacheFolder
from packageformat.hashing import block_id
from packageformat.layout import unpack_frame
from packageformat.limits import BLOCK_SIZE
from packageformat.package import Package

_FILES_REMEMBERED = 8192


class Layer:
    """A package whose blocks come into the cache, frame by frame."""

    def __init__(self, package: Package, cache: CacheFolder, object_digest: bytes) -> None:
        self.package = package
        self.object_digest = object_digest  # of the object whose layout this is
        self.version: bytes = package.version_id
        self._cache = cache
        self._present = bytearray(len(package.layout.frames))  # 1: known to be in the cache
        self._content_id = lru_cache(maxsize=_FILES_REMEMBERED)(package.content_id)

    @property
    def name(self) -> str:
        """The package's name and version, for people."""
        return f"{self.package.manifest.name} {self.package.manifest.version}"

    @property
    def frame_count(self) -> int:
        """How many frames the package has."""
        return len(self._present)

    def frame_of(self, block: int) -> int:
        """Return the frame that holds the bytes of a block.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < self.package.tree.block_count:
            raise IndexError(block)
        return self.package.layout.frame_of(block)

    def describe(self, block: int) -> str:
        """Return where a block is, for people."""
        tree = self.package.tree
        entry, offset = tree.block_place(block)
        return (
            f"block {offset // BLOCK_SIZE} of /{tree.path(entry).decode('utf-8', 'replace')} in {self.name}"
        )

    def file_of(self, block: int) -> tuple[int, int, int]:
        """Return a block's file (its entry), its number in that file, and how many blocks the file has."""
        tree = self.package.tree
        entry, offset = tree.block_place(block)
        return entry, offset // BLOCK_SIZE, tree.file_block_count(entry)

    def has_block(self, block: int) -> bool:
        """Return whether a block is in the cache."""
        entry, number, _ = self.file_of(block)
        file = self._cache.open(self._content_id(entry), self.package.tree.file_size(entry))
        return file is not None and file.has_block(number)

    def has_frame(self, frame: int) -> bool:
        """Return whether a frame need not be fetched: its first and last block are in the cache.

        Frames are written whole; a hole that a crash left inside is found by the fault that meets it.
        """
        if not self._present[frame]:
            blocks = self.package.layout.blocks(frame)
            self._present[frame] = self.has_block(blocks[0]) and self.has_block(blocks[-1])
        return bool(self._present[frame])

    def forget_block(self, block: int) -> None:
        """Count a block as missing, because the cache's bytes are wrong.

        Raises:
            OSError: the cache cannot be written.
        """
        entry, number, _ = self.file_of(block)
        self._present[self.frame_of(block)] = 0
        file = self._cache.open(self._content_id(entry), self.package.tree.file_size(entry))
        if file is not None:
            file.forget_block(number)

    def read_block(self, block: int) -> bytes | None:
        """Return a block's bytes from the cache, verified, or None if it is not there or damaged."""
        entry, number, _ = self.file_of(block)
        file = self._cache.open(self._content_id(entry), self.package.tree.file_size(entry))
        plain = None if file is None else file.read_block(number)
        return plain if plain is not None and block_id(plain) == self.package.block_id(block) else None

    def write_frame(self, frame: int, stored: bytes, wanted: Collection[int]) -> int:
        """Unpack a frame, verify it, and write its blocks into the cache; return how many blocks it has.

        Args:
            frame: its number.
            stored: untrusted bytes.
            wanted: blocks that read their bytes from this frame and are asked for, holders or not.

        Raises:
            CorruptBlockError: the bytes are not this frame. Nothing is written.
            OSError: the cache is full or cannot be written.
        """
        package = self.package
        found = unpack_frame(package.tree, package.block_ids, package.layout.blocks(frame), stored)
        plain_of = {package.block_id(block): plain for block, plain in found}
        for block, plain in found:
            self._write(block, plain)
        for block in wanted:
            self._write(block, plain_of[package.block_id(block)])
        self._present[frame] = 1
        return len(found)

    def _write(self, block: int, plain: bytes) -> None:
        entry, number, _ = self.file_of(block)
        file: CacheFile = self._cache.create(self._content_id(entry), self.package.tree.file_size(entry))
        if not file.has_block(number):
            file.write_block(number, plain)
