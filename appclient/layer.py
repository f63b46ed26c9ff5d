"""One package version in use: its verified head, and the cache files that hold its blocks.

The event loop asks what is there; one thread unpacks and writes. They share nothing but the files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

from appclient.heads import Head
from bubble.blockids import BlockIds, write_ids
from bubble.cachefile import CacheFile, CacheFolder, CacheReader
from bubble.viewimage import LayerFiles
from packageformat.compression import decompress
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import block_id, file_content_id, page_hashes
from packageformat.launchpack import BlockPages, PackLayer
from packageformat.layout import unpack_frame
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE
from packageformat.manifest import Manifest
from packageformat.package import Package
from packageformat.tree import Tree

_FILES_REMEMBERED = 8192


class Layer:
    """A package whose blocks come into the cache. Until the rest of its head has come it has no `package`."""

    def __init__(self, head: Head, cache: CacheFolder, files: LayerFiles) -> None:
        self.head = head
        self.manifest: Manifest = head.outline.manifest
        self.tree: Tree = head.outline.tree
        self.version: bytes = head.outline.version_id
        self.object_digest = head.object_digest  # of the object whose layout this is
        self.files = files  # what views read
        self._cache = cache
        self._ids = BlockIds(files.block_ids, self.tree.block_count)
        self._present = bytearray()
        if head.package is not None:
            self._present = bytearray(len(head.package.layout.frames))  # 1: known to be in the cache
        self._known_content_id = lru_cache(maxsize=_FILES_REMEMBERED)(self._make_content_id)

    @property
    def package(self) -> Package:
        """The whole head. Ask for it only where it has come (`is_complete`)."""
        assert self.head.package is not None, "the rest of a head was not waited for"
        return self.head.package

    @property
    def is_complete(self) -> bool:
        """Whether the rest of the head has come: block ids and layout."""
        return self.head.package is not None

    @property
    def name(self) -> str:
        """The package's name and version, for people."""
        return f"{self.manifest.name} {self.manifest.version}"

    @property
    def frame_count(self) -> int:
        """How many frames the package has."""
        return len(self._present)

    @property
    def in_pack(self) -> PackLayer:
        """What a launch pack's proofs of this package must lead to."""
        return PackLayer(self.version, self.manifest.blocks_root, self.manifest.block_count)

    def frame_of(self, block: int) -> int:
        """Return the frame that holds the bytes of a block.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < self.tree.block_count:
            raise IndexError(block)
        return self.package.layout.frame_of(block)

    def describe(self, block: int) -> str:
        """Return where a block is, for people."""
        entry, offset = self.tree.block_place(block)
        path = self.tree.path(entry).decode("utf-8", "replace")
        return f"block {offset // BLOCK_SIZE} of /{path} in {self.name}"

    def file_of(self, block: int) -> tuple[int, int, int]:
        """Return a block's file (its entry), its number in that file, and how many blocks the file has."""
        entry, offset = self.tree.block_place(block)
        return entry, offset // BLOCK_SIZE, self.tree.file_block_count(entry)

    def learn_ids(self, ids: dict[int, bytes]) -> None:
        """Take block ids that a launch pack has proved; views and this layer know those files' names then.

        Raises:
            OSError: the disk refuses.
        """
        runs: dict[int, list[bytes]] = {}
        start = last = -2
        for block in sorted(ids):
            if block != last + 1:
                start = block
            runs.setdefault(start, []).append(ids[block])
            last = block
        write_ids(self.files.block_ids, {first: b"".join(found) for first, found in runs.items()})

    def pages_here(self, block: int) -> int:
        """Return which pages of a block are in the cache: bit n for page n."""
        entry, number, _ = self.file_of(block)
        file = self._open(entry)
        return 0 if file is None else file.pages_of(number)

    def has_pages(self, block: int, pages: int) -> bool:
        """Return whether these pages of a block are in the cache; 0 means all."""
        if not pages:
            return self.has_block(block)
        return not pages & ~self.pages_here(block)

    def look_here(self) -> Callable[[int], int]:
        """Return `pages_here` for who asks of many blocks at one moment: each file is looked at once."""
        known: dict[int, list[int]] = {}

        def pages_here(block: int) -> int:
            entry, number, count = self.file_of(block)
            here = known.get(entry)
            if here is None:
                content = self.content_id(entry)
                size = self.tree.file_size(entry)
                here = [0] * count if content is None else self._cache.pages_here(content, size)
                known[entry] = here
            return here[number]

        return pages_here

    def has_block(self, block: int) -> bool:
        """Return whether a block is in the cache."""
        entry, number, _ = self.file_of(block)
        file = self._open(entry)
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
        entry, number, count = self.file_of(block)
        if self.is_complete:  # the table of ids may be what is damaged
            self._present[self.frame_of(block)] = 0
            first = self.tree.first_block(entry)
            ids = self.package.block_ids[first * DIGEST_SIZE : (first + count) * DIGEST_SIZE]
            write_ids(self.files.block_ids, {first: ids})
        file = self._open(entry)
        if file is not None:
            file.forget_block(number)

    def read_block(self, block: int) -> bytes | None:
        """Return a block's bytes from the cache, verified, or None if it is not there or damaged."""
        entry, number, _ = self.file_of(block)
        file = self._open(entry)
        plain = None if file is None else file.read_block(number)
        return plain if plain is not None and block_id(plain) == self._ids.of(block, 1) else None

    @contextmanager
    def reading(self) -> Iterator[Callable[[int, int, int], bytes | None]]:
        """Give what reads bytes of blocks from the cache, unverified: a block, the first byte, the end.

        It gives None if not all their pages are there. Each file is opened once.
        """
        with CacheReader(self._cache) as reader:

            def read(block: int, start: int, end: int) -> bytes | None:
                entry, number, _ = self.file_of(block)
                content = self.content_id(entry)
                if content is None or not 0 <= start < end <= self.tree.block_size(block):
                    return None
                return reader.pages(content, self.tree.file_size(entry), number, start, end)

            yield read

    def hashes_of(self, block: int) -> bytes | None:
        """Return the hashes of a block's pages as the cache has them, unverified; None if it has none."""
        entry, number, _ = self.file_of(block)
        file = self._open(entry)
        if file is None:
            return None
        plain = file.read_block(number)
        return page_hashes(plain) if plain is not None else file.hashes_of(number)

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
        self.write_blocks(found, wanted)
        self._present[frame] = 1
        return len(found)

    def knows_id(self, block: int) -> bool:
        """Return whether a block's id, and its file's name in the cache, are known."""
        return self.content_id(self.tree.block_place(block)[0]) is not None

    def has_entry(self, block: int, entry: int) -> bool:
        """Return whether a block, by an untrusted number, is one of the file `entry`."""
        return 0 <= block < self.tree.block_count and self.file_of(block)[0] == entry

    def write_known_blocks(self, blocks: Sequence[int], stored: bytes) -> int:
        """Write the blocks of a frame whose ids are known; return how many.

        Args:
            blocks: the frame's, as a rough layout tells them.
            stored: untrusted bytes.

        Raises:
            FormatError: they are not those blocks. Nothing is written.
            OSError: the cache is full or cannot be written.
        """
        if not all(0 <= block < self.tree.block_count for block in blocks):
            raise FormatError("a layout with a block that is not there")
        sizes = [self.tree.block_size(block) for block in blocks]
        plain = decompress(stored, sum(sizes))
        start = 0
        known: dict[int, bytes] = {}
        for block, size in zip(blocks, sizes, strict=True):
            found = plain[start : start + size]
            start += size
            if not self.knows_id(block):
                continue
            name = self._ids.of(block, 1) or b""
            if block_id(found) != name:
                raise CorruptBlockError(f"damaged block {name.hex()}", expected=name)
            known[block] = found
        self._write(known)
        return len(known)

    def write_blocks(self, found: Iterable[tuple[int, bytes]], wanted: Collection[int]) -> None:
        """Write verified blocks into the cache, and those of `wanted` with the same bytes as one of them.

        Raises:
            OSError: the cache is full or cannot be written.
        """
        id_of = self.package.block_id
        blocks = dict(found)
        plain_of = {id_of(block): plain for block, plain in blocks.items()}
        self._write(blocks | {block: plain_of[id_of(block)] for block in wanted})

    def write_pages(self, found: Iterable[BlockPages]) -> None:
        """Write verified pages of this package into the cache, each file opened once.

        Raises:
            OSError: the cache is full or cannot be written.
            KeyError: a file whose name is not known (`learn_ids`).
        """
        files: dict[int, dict[int, tuple[bytes, dict[int, bytes]]]] = {}
        for one in found:
            entry, number, _ = self.file_of(one.block)
            files.setdefault(entry, {})[number] = (one.hashes, one.pages)
        for entry, blocks in files.items():
            content = self.content_id(entry)
            if content is None:
                raise KeyError(entry)
            self._cache.write_pages(content, self.tree.file_size(entry), blocks)

    def content_id(self, entry: int) -> bytes | None:
        """Return the name of a file's content in the cache; None while its block ids are not known."""
        try:
            return self._known_content_id(entry)
        except LookupError:
            return None

    def _make_content_id(self, entry: int) -> bytes:
        ids = self._ids.of(self.tree.first_block(entry), self.tree.file_block_count(entry))
        if ids is None:
            raise LookupError(entry)  # not remembered: it will be known
        return file_content_id(self.tree.file_size(entry), ids)

    def _open(self, entry: int) -> CacheFile | None:
        content = self.content_id(entry)
        return None if content is None else self._cache.open(content, self.tree.file_size(entry))

    def _write(self, blocks: Mapping[int, bytes]) -> None:
        """Write verified blocks, each file opened once."""
        files: dict[int, dict[int, bytes]] = {}
        for block, plain in blocks.items():
            entry, number, _ = self.file_of(block)
            files.setdefault(entry, {})[number] = plain
        for entry, some in files.items():
            content = self.content_id(entry)
            assert content is not None, "a whole head names every file"
            self._cache.write_blocks(content, self.tree.file_size(entry), some)
