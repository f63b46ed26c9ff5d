"""One frame of a delta: blocks of the new version, written as what they differ by from old pages.

    region  = the frame's old pages, one after the other
    stored  = one zstd frame, with the region as raw dictionary, of: control · differences
    control = segments of each block (u16), then each segment:
              bytes before it (u16), its bytes - 1 (u16), step (i32)

A block's *base* is the old bytes of its segments, and zeros between them; the block is base + difference,
byte by byte, modulo 256. A segment's old bytes begin `step` bytes after where they would if old and new ran
on side by side since the segment before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import islice

from packageformat.compression import compress, decompress
from packageformat.deltadirectory import DeltaFrame
from packageformat.deltamatch import Segment
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import block_id
from packageformat.lanes import add_bytes, subtract_bytes
from packageformat.tree import Tree

COUNT = struct.Struct("<H")
SEGMENT = struct.Struct("<HHi")
"""Bytes of the block before the segment, its bytes - 1, step."""

_SEGMENT_MEMORY = 200
"""Bytes that an unpacked segment takes: a tuple of three numbers, and its place in a list."""

_Segment = tuple[int, int, int]
_Place = tuple[int, int, int, list[_Segment]]
"""Of a block: its first byte in the frame, its size, where in the region it is expected, its segments."""


def encode_delta_frame(
    plains: Sequence[bytes], segments: Sequence[Sequence[Segment]], region: bytes, level: int
) -> bytes:
    """Return one stored frame.

    Args:
        plains: the blocks' plain bytes.
        segments: of each block, in order, with places in the region instead of an old file.
        region: the frame's old pages; empty for a frame that needs none.
        level: zstd's.
    """
    counts: list[bytes] = []
    control: list[bytes] = []
    base = bytearray(sum(map(len, plains)))
    start = expected = 0
    for plain, of_block in zip(plains, segments, strict=True):
        counts.append(COUNT.pack(len(of_block)))
        reached = 0
        for segment in of_block:
            before = segment.start - reached
            control.append(SEGMENT.pack(before, segment.size - 1, segment.old_start - expected - before))
            reached = segment.start + segment.size
            expected = segment.old_start + segment.size
            base[start + segment.start : start + reached] = region[segment.old_start : expected]
        expected += len(plain) - reached
        start += len(plain)
    differences = subtract_bytes(b"".join(plains), base)
    return compress(b"".join((*counts, *control, differences)), level, region)


class UnpackedFrame:
    """The blocks of one frame, in memory. Each is verified when it is taken: who needs few checks few."""

    def __init__(
        self, frame: DeltaFrame, tree: Tree, id_of: Callable[[int], bytes], stored: bytes, region: bytes
    ) -> None:
        """Unpack a frame.

        Args:
            frame: from a checked directory.
            tree: the new version's, verified.
            id_of: gives the verified id of a block (`Package.block_id`).
            stored: untrusted bytes, from a file or the network.
            region: the bytes of the frame's old pages, one after the other; they need not be right.

        Raises:
            CorruptBlockError: `stored` and `region` do not give blocks of these sizes.
        """
        self.blocks: Sequence[int] = frame.blocks
        sizes = [tree.block_size(block) for block in frame.blocks]
        control_size = COUNT.size * len(sizes) + SEGMENT.size * frame.segments
        try:
            payload = memoryview(decompress(stored, control_size + sum(sizes), region))
            segments = _segments(payload[:control_size], len(sizes))
        except FormatError as error:
            raise self._damage(id_of(frame.blocks[0]), str(error)) from error
        self._id_of = id_of
        self._segments = frame.segments
        self._region = region
        self._differences = payload[control_size:]
        self._places: dict[int, _Place] = {}
        start = expected = 0
        for block, size, some in zip(frame.blocks, sizes, segments, strict=True):
            self._places[block] = start, size, expected, some
            start += size
            expected += size + sum(step for _, _, step in some)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self._differences) + len(self._region) + _SEGMENT_MEMORY * self._segments

    def block(self, block: int) -> bytes:
        """Return the bytes of one of its blocks, verified.

        Raises:
            CorruptBlockError: the frame does not give this block.
        """
        start, size, expected, segments = self._places[block]
        name = self._id_of(block)
        try:
            base = _base(segments, size, expected, self._region)
        except FormatError as error:
            raise self._damage(name, str(error)) from error
        plain = add_bytes(self._differences[start : start + size], base)
        if block_id(plain) != name:
            raise CorruptBlockError(f"delta that does not give block {name.hex()}", expected=name)
        return plain

    @staticmethod
    def _damage(name: bytes, text: str) -> CorruptBlockError:
        return CorruptBlockError(f"damaged delta of block {name.hex()}: {text}", expected=name)


def unpack_delta_frame(
    frame: DeltaFrame, tree: Tree, id_of: Callable[[int], bytes], stored: bytes, region: bytes
) -> list[tuple[int, bytes]]:
    """Return all blocks of a frame, each with its number and its plain bytes, verified.

    Args and errors are those of `UnpackedFrame` and its blocks: one that is wrong, and nothing is returned.
    """
    unpacked = UnpackedFrame(frame, tree, id_of, stored, region)
    return [(block, unpacked.block(block)) for block in unpacked.blocks]


def _segments(control: memoryview, blocks: int) -> list[list[_Segment]]:
    """Return the segments of each block.

    Raises:
        FormatError: there are not as many as the control says.
    """
    counts = struct.unpack_from(f"<{blocks}H", control)
    if COUNT.size * blocks + SEGMENT.size * sum(counts) != len(control):
        raise FormatError("a delta whose segments are not as many as it says")
    segments = SEGMENT.iter_unpack(control[COUNT.size * blocks :])
    return [list(islice(segments, count)) for count in counts]


def _base(segments: Sequence[_Segment], size: int, expected: int, region: bytes) -> bytearray:
    """Return the base of a block.

    Args:
        segments: the block's.
        size: the block's bytes.
        expected: where in the region it would begin if old and new ran on side by side.
        region: the frame's old pages.

    Raises:
        FormatError: a segment leaves its block or the region.
    """
    base = bytearray(size)
    reached = 0
    for before, length, step in segments:
        old_start = expected + before + step
        expected = old_start + length + 1
        reached += before + length + 1
        if reached > size or old_start < 0 or expected > len(region):
            raise FormatError("a delta with a segment that is not there")
        base[reached - length - 1 : reached] = region[old_start:expected]
    return base
