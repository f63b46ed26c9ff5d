"""Launch packs: the pages that a launch touches, in first-touch order, each verified as it arrives.

    preamble · directory (one zstd frame) · frame · frame · ...
    frame = hashes of sibling pages (plain) · pages (one zstd frame)

The directory proves the block ids. A frame carries, of each block that it is the first to have pages of,
the hashes of the block's other pages; with the hashes of its own pages they give the block's id. So pages
never wait for later ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from packageformat.compression import compress, decompress
from packageformat.errors import CorruptBlockError, FormatError, UnsupportedError
from packageformat.hashing import block_id_of_pages, page_hashes
from packageformat.hashtree import multiproof, split
from packageformat.limits import (
    DIGEST_SIZE,
    FORMAT_VERSION,
    PACK_DIRECTORY_BYTES_MAX,
    PAGE_SIZE,
)
from packageformat.packdirectory import (
    FRAME_DIGEST_SIZE,
    PackDirectory,
    PackExtent,
    PackFrame,
    PackLayer,
    TouchedBlocks,
    decode_directory,
    encode_directory,
    siblings,
)
from packageformat.packplan import plan_pack
from packageformat.stack import bubble_id
from packageformat.tree import Tree

__all__ = ["PackExtent", "PackLayer", "PackReader", "PackSource", "PackedPage", "build_pack"]

MAGIC = b"OVPPACK1"
PREAMBLE = struct.Struct("<8sHHII12x32s")
"""Magic, version, zero, stored and plain bytes of the directory, zeros, SHA-256 of the stored directory."""

Group = tuple[PackExtent, ...]
Each = Callable[[Callable[[Group], bytes], Iterable[Group]], Iterable[bytes]]
"""What maps a function over the extents of frames, in order: `map`, or an executor's."""


@dataclass(frozen=True, slots=True)
class PackedPage:
    """A verified page out of a pack."""

    layer: int  # position in the stack, bottom first
    block: int  # in that layer's package
    page: int  # in that block
    plain: bytes  # 4096 bytes, or fewer at the end of a file


@dataclass(frozen=True, slots=True)
class PackSource:
    """One layer to make a pack from; all of it trusted."""

    version_id: bytes
    tree: Tree
    block_ids: bytes


class PackReader:
    """Reads a pack from a stream of untrusted bytes. No I/O: `feed` what arrives, take verified pages."""

    def __init__(self, stack: Sequence[PackLayer], application: str | None = None) -> None:
        """Begin.

        Args:
            stack: the bubble's layers, bottom first, from verified manifests.
            application: the id of the application that the pack must be for, or None for any.
        """
        self._stack = tuple(stack)
        self._application = application
        self._buffer = bytearray()
        self._wanted = PREAMBLE.size
        self._directory_plain = 0
        self._directory_digest = b""
        self._directory: PackDirectory | None = None
        self._next_frame = 0
        self._siblings: list[PackExtent] = []
        self._seen: set[tuple[int, int]] = set()
        self._hashes: dict[tuple[int, int], bytes] = {}
        self._failed = False

    @property
    def directory(self) -> PackDirectory | None:
        """What the pack holds, proved, once that has arrived."""
        return self._directory

    @property
    def complete(self) -> bool:
        """Whether all frames have arrived."""
        return self._directory is not None and self._next_frame == len(self._directory.frames)

    def needs(self) -> int:
        """Return how many bytes are wanted before `feed` can give anything more; 0 when complete."""
        return 0 if self.complete else self._wanted - len(self._buffer)

    def hashes_of(self, layer: int, block: int) -> bytes:
        """Return the verified page hashes of a block that pages have arrived of, concatenated.

        Raises:
            KeyError: none has.
        """
        return self._hashes[layer, block]

    def feed(self, data: bytes) -> list[PackedPage]:
        """Take the next bytes of the stream and return the pages that they complete, verified.

        Raises:
            CorruptBlockError: a frame is damaged. None of its pages is returned.
            FormatError: this is not a launch pack, or not one for this bubble. Nothing more can be fed.
        """
        if self._failed:
            raise FormatError("a launch pack that was damaged before")
        try:
            return self._advance(data)
        except FormatError:
            self._failed = True
            raise

    def _advance(self, data: bytes) -> list[PackedPage]:
        pages: list[PackedPage] = []
        self._buffer += data
        while not self.complete and len(self._buffer) >= self._wanted:
            part = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            if not self._directory_digest:
                self._read_preamble(part)
            elif self._directory is None:
                self._read_directory(part)
                self._expect_frame()
            else:
                pages.extend(self._read_frame(self._directory, part))
                self._next_frame += 1
                self._expect_frame()
        if self.complete and self._buffer:
            raise FormatError("a launch pack that goes on after its end")
        return pages

    def _read_preamble(self, part: bytes) -> None:
        magic, version, zero, stored_size, plain_size, digest = PREAMBLE.unpack(part)
        if magic != MAGIC or zero or any(part[20:32]):
            raise FormatError("not a launch pack")
        if version != FORMAT_VERSION:
            raise UnsupportedError(f"a launch pack of format {version}, this is {FORMAT_VERSION}")
        if not 0 < plain_size <= PACK_DIRECTORY_BYTES_MAX or not 0 < stored_size <= plain_size + 4096:
            raise FormatError(f"a launch pack's directory of {plain_size} bytes")
        self._wanted = stored_size
        self._directory_plain = plain_size
        self._directory_digest = digest

    def _read_directory(self, part: bytes) -> None:
        if sha256(part).digest() != self._directory_digest:
            raise FormatError("a launch pack with a damaged directory")
        directory = decode_directory(decompress(part, self._directory_plain))
        if self._application is not None and directory.application != self._application:
            raise FormatError(f"a launch pack of {directory.application}, expected {self._application}")
        directory.check_stack(self._stack)
        self._directory = directory

    def _expect_frame(self) -> None:
        directory = self._directory
        if directory is None or self.complete:
            self._wanted = 0
            return
        frame = directory.frames[self._next_frame]
        self._siblings = siblings(frame, directory.layers, self._seen)
        self._wanted = len(self._siblings) * DIGEST_SIZE + frame.stored_size

    def _read_frame(self, directory: PackDirectory, part: bytes) -> list[PackedPage]:
        frame = directory.frames[self._next_frame]
        if sha256(part).digest()[:FRAME_DIGEST_SIZE] != frame.digest:
            raise CorruptBlockError(f"a launch pack with a damaged frame, number {self._next_frame}")
        hashes_size = len(self._siblings) * DIGEST_SIZE
        lengths = [
            min(PAGE_SIZE, directory.layers[extent.layer].sizes[extent.block] - page * PAGE_SIZE)
            for extent in frame.extents
            for page in range(extent.first_page, extent.first_page + extent.pages)
        ]
        plain = memoryview(decompress(part[hashes_size:], sum(lengths)))
        pages: list[PackedPage] = []
        found: dict[tuple[int, int], dict[int, bytes]] = {}
        start = 0
        position = iter(lengths)
        for extent in frame.extents:
            of_block = found.setdefault((extent.layer, extent.block), {})
            for page in range(extent.first_page, extent.first_page + extent.pages):
                length = next(position)
                content = bytes(plain[start : start + length])
                start += length
                of_block[page] = sha256(content).digest()
                pages.append(PackedPage(extent.layer, extent.block, page, content))
        given = found.keys() & self._hashes.keys()
        for index, sibling in enumerate(self._siblings):
            found[sibling.layer, sibling.block][sibling.first_page] = part[
                index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE
            ]
        for key, of_block in found.items():
            self._check_block(directory, key, of_block, key in given)
        return pages

    def _check_block(
        self, directory: PackDirectory, key: tuple[int, int], of_block: dict[int, bytes], given: bool
    ) -> None:
        layer = directory.layers[key[0]]
        name = layer.ids[key[1]]
        if given:
            known = self._hashes[key]
            right = all(
                known[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE] == page_hash
                for page, page_hash in of_block.items()
            )
        else:
            hashes = b"".join(of_block[page] for page in sorted(of_block))
            right = block_id_of_pages(hashes, layer.sizes[key[1]]) == name
            if right:
                self._hashes[key] = hashes
        if not right:
            raise CorruptBlockError(f"damaged page of block {name.hex()} in a launch pack", expected=name)


def build_pack(
    application: str,
    stack: Sequence[PackSource],
    extents: Sequence[PackExtent],
    read_block: Callable[[int, int], bytes],
    level: int = 19,
    class_of: Callable[[PackExtent], Hashable] | None = None,
    each: Each = map,
    window_pages: int | None = None,
) -> bytes:
    """Return the launch pack of these pages.

    Args:
        application: the id of the application that is launched.
        stack: the bubble's layers, bottom first.
        extents: the pages in first-touch order, none twice.
        read_block: gives the plain bytes of a block, by layer and number.
        level: zstd's.
        class_of: gives the class of an extent of one page; a frame holds pages of one class only.
        each: maps a function over the frames, as `map` does: an executor's compresses several at once, and
            then reads blocks from several threads.
        window_pages: how many of the pages lead to the first window; they come in frames of their own.

    Raises:
        FormatError: pages that are not there, or twice; more than a pack may hold.
    """
    touched: list[dict[int, bytes]] = [{} for _ in stack]
    for extent in extents:
        if not 0 <= extent.layer < len(stack) or not 0 <= extent.block < stack[extent.layer].tree.block_count:
            raise FormatError("a launch pack of pages that are not there")
        ids = stack[extent.layer].block_ids
        touched[extent.layer][extent.block] = ids[
            extent.block * DIGEST_SIZE : (extent.block + 1) * DIGEST_SIZE
        ]
    layers = tuple(
        TouchedBlocks(
            source.version_id,
            source.tree.block_count,
            {block: source.tree.block_size(block) for block in blocks},
            blocks,
            multiproof(split(source.block_ids), blocks) if blocks else (),
        )
        for source, blocks in zip(stack, touched, strict=True)
    )

    def size_of(extent: PackExtent) -> int:
        end = (extent.first_page + extent.pages) * PAGE_SIZE
        return min(end, layers[extent.layer].sizes[extent.block]) - extent.first_page * PAGE_SIZE

    def compressed(group: Group) -> bytes:
        pages = [
            read_block(extent.layer, extent.block)[
                extent.first_page * PAGE_SIZE : (extent.first_page + extent.pages) * PAGE_SIZE
            ]
            for extent in group
        ]
        return compress(b"".join(pages), level)

    frames: list[PackFrame] = []
    parts: list[bytes] = []
    seen: set[tuple[int, int]] = set()
    plan = list(plan_pack(extents, size_of, class_of, window_pages))
    for group, stored in zip(plan, each(compressed, plan), strict=True):
        frame = PackFrame(group, len(stored), b"\0" * FRAME_DIGEST_SIZE)
        hashes: dict[tuple[int, int], bytes] = {}
        given: list[bytes] = []
        for sibling in siblings(frame, layers, seen):
            key = (sibling.layer, sibling.block)
            if key not in hashes:
                hashes[key] = page_hashes(read_block(*key))
            given.append(
                hashes[key][sibling.first_page * DIGEST_SIZE : (sibling.first_page + 1) * DIGEST_SIZE]
            )
        part = b"".join(given) + stored
        frames.append(PackFrame(group, len(stored), sha256(part).digest()[:FRAME_DIGEST_SIZE]))
        parts.append(part)
    versions = [source.version_id for source in stack]
    directory = encode_directory(PackDirectory(application, bubble_id(versions), layers, tuple(frames)))
    packed = compress(directory, 19)
    preamble = PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0, len(packed), len(directory), sha256(packed).digest())
    return b"".join((preamble, packed, *parts))
