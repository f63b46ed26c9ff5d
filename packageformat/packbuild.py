"""Making launch packs: pages go into frames, frames are compressed, and the directory proves them.

`packplan` says which page goes into which frame; `launchpack` reads what is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby

from packageformat.compression import compress
from packageformat.errors import FormatError
from packageformat.hashing import page_hashes
from packageformat.hashtree import multiproof, split
from packageformat.launchpack import MAGIC, PREAMBLE
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, FORMAT_VERSION, PAGE_SIZE
from packageformat.packdirectory import (
    FRAME_DIGEST_SIZE,
    PackDirectory,
    PackExtent,
    PackFrame,
    TouchedBlocks,
    encode_directory,
    siblings,
)
from packageformat.packplan import plan_pack
from packageformat.records import by_columns
from packageformat.stack import bubble_id
from packageformat.tree import Tree

Group = tuple[PackExtent, ...]
Packed = tuple[Group, bytes]
"""A frame's extents as they are stored, and its compressed pages."""

Each = Callable[[Callable[[Group], Packed], Iterable[Group]], Iterable[Packed]]
"""What maps a function over the extents of frames, in order: `map`, or an executor's."""

COLUMNS_GAIN = 0.05
"""A page is stored by columns if that makes it smaller by this part. What decides is a quick compression of
the page alone: without the margin, pages come along that are smaller as they are among their neighbours."""

_QUICK_LEVEL = 3


@dataclass(frozen=True, slots=True)
class PackSource:
    """One layer to make a pack from; all of it trusted."""

    version_id: bytes
    tree: Tree
    block_ids: bytes


def build_pack(
    application: str,
    stack: Sequence[PackSource],
    extents: Sequence[PackExtent],
    read_block: Callable[[int, int], bytes],
    level: int = 19,
    class_of: Callable[[PackExtent], Hashable] | None = None,
    each: Each = map,
    window_pages: int | None = None,
    also: Iterable[tuple[int, int]] = (),
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
        also: further files, by layer and first block, whose block ids are proved although no page of theirs
            comes: those that have the content of one whose pages do.

    Raises:
        FormatError: pages that are not there, or twice; more than a pack may hold.
    """
    touched: list[dict[int, bytes]] = [{} for _ in stack]
    for extent in extents:
        if extent.pages < 1:
            raise FormatError("a launch pack of no pages")
    for number, block in (*((extent.layer, extent.block) for extent in extents), *also):
        if not 0 <= number < len(stack) or not 0 <= block < stack[number].tree.block_count:
            raise FormatError("a launch pack of pages that are not there")
        if block not in touched[number]:
            source = stack[number]
            entry, offset = source.tree.block_place(block)
            first = block - offset // BLOCK_SIZE
            for one in range(first, first + source.tree.file_block_count(entry)):
                touched[number][one] = source.block_ids[one * DIGEST_SIZE : (one + 1) * DIGEST_SIZE]
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
        return layers[extent.layer].size_of(extent)

    def packed(group: Group) -> Packed:
        pieces = [
            piece for extent in group for piece in _formed(extent, read_block(extent.layer, extent.block))
        ]
        pieces.sort(key=lambda piece: piece[0].by_columns)  # what is alike lies together: 0.1% smaller
        return tuple(extent for extent, _ in pieces), compress(b"".join(piece for _, piece in pieces), level)

    frames: list[PackFrame] = []
    parts: list[bytes] = []
    seen: set[tuple[int, int]] = set()
    for group, stored in each(packed, plan_pack(extents, size_of, class_of, window_pages)):
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
    head = compress(directory, 19)
    preamble = PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0, len(head), len(directory), sha256(head).digest())
    return b"".join((preamble, head, *parts))


def _formed(extent: PackExtent, block: bytes) -> Iterator[tuple[PackExtent, bytes]]:
    """Give an extent as it is stored: in pieces, those that are tables of records by columns."""
    numbers = range(extent.first_page, extent.first_page + extent.pages)
    for suits, run in groupby(
        numbers, lambda page: _suits_columns(block[page * PAGE_SIZE : (page + 1) * PAGE_SIZE])
    ):
        pages = tuple(run)
        plain = block[pages[0] * PAGE_SIZE : (pages[-1] + 1) * PAGE_SIZE]
        piece = PackExtent(extent.layer, extent.block, pages[0], len(pages), suits)
        yield piece, by_columns(plain) if suits else plain


def _suits_columns(page: bytes) -> bool:
    """Return whether a page is smaller by columns."""
    formed = len(compress(by_columns(page), _QUICK_LEVEL))
    return formed < (1 - COLUMNS_GAIN) * len(compress(page, _QUICK_LEVEL))
