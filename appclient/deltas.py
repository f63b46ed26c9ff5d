"""What a delta gives towards a new version, with what the cache holds of the old one. No network, no loop.

    update = Update.read(head, old, new)             both layers with their whole heads
    order = update.order(blocks)                     in the order of their use
    for block, plain in update.copies(order.copies): ...    bytes that are here already
    for span in update.spans(order.frames): ...      fetch it, then `update.unpack(frame, stored)` for each
    order.left                                       comes from the package

Nothing here is trusted: neither the delta nor the cached bytes that it is applied to. Every block that comes
out has the id that the new version's manifest vouches for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from appclient.layer import Layer
from bubble.presence import page_mask
from packageformat.delta import (
    PREAMBLE_SIZE,
    Delta,
    PageNumbers,
    UnpackedFrame,
    decode_delta,
    delta_head_size,
    read_region,
)
from packageformat.hashing import block_id
from packageformat.hashtree import split
from packageformat.limits import PAGE_SIZE

__all__ = ["FIRST_BYTES", "PREAMBLE_SIZE", "Order", "Span", "Update", "delta_head_size"]

FIRST_BYTES = 32 << 10
"""Of the first request for a delta: most heads are no longer; `delta_head_size` tells."""

GAP_BYTES = 16 << 10
"""Frames that nobody wants are fetched with those around them if they are no larger than this together."""


@dataclass(frozen=True, slots=True)
class Order:
    """How some blocks of the new version are had."""

    copies: tuple[int, ...]  # blocks of the new version of which the old one has the same bytes, in the cache
    frames: tuple[int, ...]  # of the delta, in the order of their first use
    left: tuple[int, ...]  # blocks that the delta does not give, or not with what is cached
    delta_bytes: int  # of all these frames
    plain_bytes: int  # of the package's frames for the same blocks, if there were no delta


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the delta to fetch by one request, and the wanted frames in them: number, start, end there."""

    offset: int
    size: int
    frames: tuple[tuple[int, int, int], ...]


class Update:
    """A delta between two versions, and the cache. Its methods read the disk; none waits for the network."""

    def __init__(self, delta: Delta, pages: PageNumbers, old: Layer, new: Layer) -> None:
        self.delta = delta
        self._pages = pages
        self._old = old
        self._new = new
        self._first: dict[bytes, int] = {}  # of blocks with one id in the new version, the first
        for block, name in enumerate(split(new.package.block_ids)):
            self._first.setdefault(name, block)
        self._old_blocks: dict[bytes, list[int]] = {}
        for block, name in enumerate(split(old.package.block_ids)):
            if name in self._first:
                self._old_blocks.setdefault(name, []).append(block)

    @classmethod
    def read(cls, head: bytes, old: Layer, new: Layer) -> Update:
        """Return the update whose delta begins with `head`, untrusted: `delta_head_size` bytes of it.

        Raises:
            FormatError: it is damaged, or not a delta of these versions.
        """
        pages = PageNumbers(old.tree)
        return cls(decode_delta(head, new.tree, new.version, pages, old.version), pages, old, new)

    def order(self, blocks: Iterable[int]) -> Order:
        """Return how these blocks are had, in this order; those that are in the cache are left out."""
        copies: list[int] = []
        frames: dict[int, bool] = {}  # whether the cache has what it needs
        left: list[int] = []
        plain: dict[int, int] = {}
        here, old_here = self._new.look_here(), self._old.look_here()
        for block in dict.fromkeys(blocks):
            if here(block) == _all_pages(self._new, block):
                continue
            if self._has_copy(block, old_here):
                copies.append(block)
                continue
            frame = self.delta.frame_of(self._first[self._new.package.block_id(block)])
            if frame is not None and frame not in frames:
                frames[frame] = self.has_region(frame, old_here)
            if frame is None or not frames[frame]:
                left.append(block)
                continue
            stored = self._new.frame_of(block)
            plain[stored] = self._new.package.frame_extent(stored)[1]
        wanted = tuple(frame for frame, usable in frames.items() if usable)
        size = sum(self.delta.place(frame)[1] for frame in wanted)
        return Order(tuple(copies), wanted, tuple(left), size, sum(plain.values()))

    def copies(self, blocks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield those of some blocks that the cached old version has too, with their bytes, verified."""
        with self._old.reading() as read_old:
            for block in blocks:
                name = self._new.package.block_id(block)
                size = self._new.tree.block_size(block)
                for old_block in self._old_blocks.get(name, ()):
                    plain = read_old(old_block, 0, size)
                    if plain is not None and block_id(plain) == name:
                        yield block, plain
                        break

    def has_region(self, frame: int, old_here: Callable[[int], int]) -> bool:
        """Return whether the cache has all old pages that a frame is written against.

        Args:
            frame: its number.
            old_here: the old layer's `look_here`.
        """
        for extent in self.delta.directory.frames[frame].old_pages:
            for block, start, end in self._pages.parts(extent):
                pages = range(start // PAGE_SIZE, -(-end // PAGE_SIZE))
                if sum(1 << page for page in pages) & ~old_here(block):
                    return False
        return True

    def spans(self, frames: Sequence[int], size_max: int = 1 << 20) -> list[Span]:
        """Return what to fetch for these frames: near ones in one request, the first needed ones first.

        Args:
            frames: in the order of their use.
            size_max: bytes of one request; a frame is never cut.
        """
        spans: list[Span] = []
        inside: list[tuple[int, int, int]] = []  # number, offset and end in the delta
        for frame in frames:
            offset, size = self.delta.place(frame)
            if inside:
                begin, reached = inside[0][1], inside[-1][2]
                if not 0 <= offset - reached <= GAP_BYTES or offset + size - begin > size_max:
                    spans.append(_span(inside))
                    inside = []
            inside.append((frame, offset, offset + size))
        if inside:
            spans.append(_span(inside))
        return spans

    def unpack(self, frame: int, stored: bytes) -> UnpackedFrame | None:
        """Return a frame's blocks, to be verified; None if the cache has lost what it is written against.

        The numbers are those of the first blocks with their ids (`Layer.write_blocks` knows the others).

        Raises:
            CorruptBlockError: `stored`, or what the cache has, is damaged. The package has the blocks.
        """
        one = self.delta.directory.frames[frame]
        with self._old.reading() as read_old:
            region = read_region(one, self._pages, read_old)
        if region is None:
            return None
        return UnpackedFrame(one, self._new.tree, self._new.package.block_id, stored, region)

    def _has_copy(self, block: int, old_here: Callable[[int], int]) -> bool:
        return any(
            old_here(old_block) == _all_pages(self._old, old_block)
            for old_block in self._old_blocks.get(self._new.package.block_id(block), ())
        )


def _all_pages(layer: Layer, block: int) -> int:
    return page_mask(layer.tree.block_size(block), 0)


def _span(inside: Sequence[tuple[int, int, int]]) -> Span:
    begin, end = inside[0][1], inside[-1][2]
    return Span(
        begin, end - begin, tuple((frame, first - begin, last - begin) for frame, first, last in inside)
    )
