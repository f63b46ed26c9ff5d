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
from itertools import accumulate, pairwise

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


def unpack_delta_frame(
    frame: DeltaFrame, tree: Tree, id_of: Callable[[int], bytes], stored: bytes, region: bytes
) -> list[tuple[int, bytes]]:
    """Return the blocks of a frame, each with its number and its plain bytes, verified.

    Args:
        frame: from a checked directory.
        tree: the new version's, verified.
        id_of: gives the verified id of a block (`Package.block_id`).
        stored: untrusted bytes, from a file or the network.
        region: the bytes of the frame's old pages, one after the other; they need not be right.

    Raises:
        CorruptBlockError: `stored` and `region` do not give these blocks. Nothing of them is returned.
    """
    sizes = [tree.block_size(block) for block in frame.blocks]
    names = [id_of(block) for block in frame.blocks]
    control_size = COUNT.size * len(sizes) + SEGMENT.size * frame.segments
    try:
        payload = memoryview(decompress(stored, control_size + sum(sizes), region))
        base = _base(payload[:control_size], sizes, region)
    except FormatError as error:
        raise CorruptBlockError(
            f"damaged delta of block {names[0].hex()}: {error}", expected=names[0]
        ) from error
    joined = memoryview(add_bytes(payload[control_size:], base))
    found: list[tuple[int, bytes]] = []
    for block, name, (start, end) in zip(
        frame.blocks, names, pairwise(accumulate(sizes, initial=0)), strict=True
    ):
        plain = bytes(joined[start:end])
        if block_id(plain) != name:
            raise CorruptBlockError(f"delta that does not give block {name.hex()}", expected=name)
        found.append((block, plain))
    return found


def _base(control: memoryview, sizes: Sequence[int], region: bytes) -> bytearray:
    """Return the bases of all blocks, one after the other.

    Raises:
        FormatError: a segment leaves its block or the region.
    """
    counts = struct.unpack_from(f"<{len(sizes)}H", control)
    if COUNT.size * len(sizes) + SEGMENT.size * sum(counts) != len(control):
        raise FormatError("a delta whose segments are not as many as it says")
    segments = SEGMENT.iter_unpack(control[COUNT.size * len(sizes) :])
    base = bytearray(sum(sizes))
    start = expected = 0
    for size, count in zip(sizes, counts, strict=True):
        reached = 0
        for _ in range(count):
            before, length, step = next(segments)
            old_start = expected + before + step
            expected = old_start + length + 1
            reached += before + length + 1
            if reached > size or old_start < 0 or expected > len(region):
                raise FormatError("a delta with a segment that is not there")
            base[start + reached - length - 1 : start + reached] = region[old_start:expected]
        expected += size - reached
        start += size
    return base
