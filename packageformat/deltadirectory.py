"""A delta's directory: which new blocks come in which frame, and which old pages each frame needs.

Old pages are numbered through all blocks of the old version (`PageNumbers`), so that whoever holds the old
version's tree knows exactly which of its bytes a frame is written against, before he fetches it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from packageformat.encoding import decode, encode
from packageformat.errors import FormatError
from packageformat.limits import (
    BLOCKS_MAX,
    DELTA_DIRECTORY_BYTES_MAX,
    DELTA_EXTENTS_MAX,
    DELTA_REGION_MAX,
    DELTA_SEGMENTS_MAX,
    FORMAT_VERSION,
    FRAME_PLAIN_MAX,
    FRAME_STORED_MAX,
    PAGE_SIZE,
)
from packageformat.record import Record
from packageformat.tree import Tree


@dataclass(frozen=True, slots=True)
class OldPages:
    """Pages of the old version, one after the other."""

    first: int  # counted through all its blocks
    count: int  # 1 to 65535


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """One frame: some new blocks, written against some old pages."""

    blocks: tuple[int, ...]  # numbers in the new version
    old_pages: tuple[OldPages, ...]  # together they are the frame's region
    segments: int  # of all its blocks
    stored_size: int

    def __post_init__(self) -> None:
        if not self.blocks or not 0 < self.stored_size <= FRAME_STORED_MAX:
            raise FormatError(f"a delta with a frame of {self.stored_size} bytes")
        if not 0 <= self.segments <= DELTA_SEGMENTS_MAX or (self.segments and not self.old_pages):
            raise FormatError(f"a delta with a frame of {self.segments} segments")
        if any(not 0 < pages.count <= 0xFFFF for pages in self.old_pages):
            raise FormatError("a delta with an extent of impossible size")


@dataclass(frozen=True, slots=True)
class DeltaDirectory:
    """What a delta holds. A block is in one frame at most; one that is in none is as the package has it."""

    old_version: bytes
    new_version: bytes
    frames: tuple[DeltaFrame, ...]
    frame_of: dict[int, int] = field(init=False, compare=False, repr=False)  # new block: frame

    def __post_init__(self) -> None:
        frame_of = {block: index for index, frame in enumerate(self.frames) for block in frame.blocks}
        if len(frame_of) != sum(len(frame.blocks) for frame in self.frames):
            raise FormatError("a delta with a block twice")
        if self.old_version == self.new_version:
            raise FormatError("a delta of a version to itself")
        object.__setattr__(self, "frame_of", frame_of)

    def check(self, old: PageNumbers, new: Tree) -> None:
        """Check that the delta fits the trees of its two versions, and keeps a frame's limits.

        Raises:
            FormatError: a block or page is not there, or a frame is too large.
        """
        sizes = new.block_sizes()
        for frame in self.frames:
            if min(frame.blocks) < 0 or max(frame.blocks) >= len(sizes):
                raise FormatError("a delta with a block that is not there")
            plain = sum(sizes[block] for block in frame.blocks)
            if plain > FRAME_PLAIN_MAX:
                raise FormatError(f"a delta with a frame of {plain} bytes, allowed {FRAME_PLAIN_MAX}")
            pages = sum(extent.count for extent in frame.old_pages)
            if pages * PAGE_SIZE > DELTA_REGION_MAX:
                raise FormatError(f"a delta with a frame of {pages} old pages")
            for extent in frame.old_pages:
                if extent.first < 0 or extent.first + extent.count > old.count:
                    raise FormatError("a delta with old pages that are not there")


class PageNumbers:
    """The pages of a version, counted through all its blocks in order; no page is of two blocks."""

    __slots__ = ("_firsts", "_sizes", "count")

    def __init__(self, tree: Tree) -> None:
        self._sizes = tree.block_sizes()
        self._firsts = list(accumulate((-(-size // PAGE_SIZE) for size in self._sizes), initial=0))
        self.count = self._firsts[-1]

    def first_of(self, block: int) -> int:
        """Return the number of the first page of a block."""
        return self._firsts[block]

    def parts(self, extent: OldPages) -> Iterator[tuple[int, int, int]]:
        """Give the blocks of an extent: number, first byte and byte after the last, in that block.

        Raises:
            IndexError: there are no such pages.
        """
        page, end = extent.first, extent.first + extent.count
        if page < 0 or end > self.count:
            raise IndexError(extent)
        block = bisect_right(self._firsts, page) - 1
        while page < end:
            first = self._firsts[block]
            stop = min(end, self._firsts[block + 1])
            yield block, (page - first) * PAGE_SIZE, min((stop - first) * PAGE_SIZE, self._sizes[block])
            page = stop
            block += 1


def encode_directory(directory: DeltaDirectory) -> bytes:
    """Return the one encoding of `directory` (FORMAT.md, *Delta*).

    Raises:
        FormatError: it is longer than a reader would accept.
    """
    frames = directory.frames
    blocks = [block for frame in frames for block in frame.blocks]
    extents = [extent for frame in frames for extent in frame.old_pages]
    ends = [0, *(extent.first + extent.count for extent in extents)]
    data = encode(
        (
            FORMAT_VERSION,
            directory.old_version,
            directory.new_version,
            _packed("I", [frame.stored_size for frame in frames]),
            _packed("H", [frame.segments for frame in frames]),
            _packed("H", [len(frame.blocks) for frame in frames]),
            _packed("H", [len(frame.old_pages) for frame in frames]),
            _packed("i", [block - before for before, block in pairwise([-1, *blocks])]),
            _packed("i", [extent.first - end for extent, end in zip(extents, ends, strict=False)]),
            _packed("H", [extent.count for extent in extents]),
        )
    )
    if len(data) > DELTA_DIRECTORY_BYTES_MAX:
        raise FormatError(f"a delta's directory of {len(data)} bytes")
    return data


def decode_directory(data: bytes) -> DeltaDirectory:
    """Return the directory that `data`, untrusted, encodes; `check` compares it with the versions.

    Raises:
        FormatError: it is not one.
    """
    record = Record(decode(data, max_bytes=DELTA_DIRECTORY_BYTES_MAX), "delta's directory", 10)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    old_version, new_version = record.digest(), record.digest()
    stored_sizes = _unpacked("I", record.octets(4 * BLOCKS_MAX))
    segments = _unpacked("H", record.octets(2 * BLOCKS_MAX))
    block_counts = _unpacked("H", record.octets(2 * BLOCKS_MAX))
    extent_counts = _unpacked("H", record.octets(2 * BLOCKS_MAX))
    blocks = list(accumulate(_unpacked("i", record.octets(4 * BLOCKS_MAX)), initial=-1))[1:]
    steps = _unpacked("i", record.octets(4 * DELTA_EXTENTS_MAX))
    page_counts = _unpacked("H", record.octets(2 * DELTA_EXTENTS_MAX))
    if not len(stored_sizes) == len(segments) == len(block_counts) == len(extent_counts):
        raise FormatError("a delta whose columns are of different length")
    if len(steps) != len(page_counts):
        raise FormatError("a delta whose columns are of different length")
    extents: list[OldPages] = []
    end = 0
    for step, count in zip(steps, page_counts, strict=True):
        extents.append(OldPages(end + step, count))
        end += step + count
    block_ends = list(accumulate(block_counts, initial=0))
    extent_ends = list(accumulate(extent_counts, initial=0))
    if block_ends[-1] != len(blocks) or extent_ends[-1] != len(extents):
        raise FormatError("a delta whose frames do not make up its blocks and pages")
    frames = tuple(
        DeltaFrame(
            tuple(blocks[block_ends[index] : block_ends[index + 1]]),
            tuple(extents[extent_ends[index] : extent_ends[index + 1]]),
            segments[index],
            stored_sizes[index],
        )
        for index in range(len(stored_sizes))
    )
    return DeltaDirectory(old_version, new_version, frames)


def _packed(code: str, numbers: list[int]) -> bytes:
    try:
        return struct.pack(f"<{len(numbers)}{code}", *numbers)
    except struct.error as error:
        raise FormatError("a delta with a number beyond its column") from error


def _unpacked(code: str, packed: bytes) -> tuple[int, ...]:
    size = struct.calcsize("<" + code)
    if len(packed) % size:
        raise FormatError("a delta with a column that is cut short")
    return struct.unpack(f"<{len(packed) // size}{code}", packed)
