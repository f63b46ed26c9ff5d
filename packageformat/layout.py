"""Where each block lies: frames, one after the other, in the BLOCKS section. Outside a package's identity.

A frame is one zstd frame of the plain bytes of its blocks, one after the other. Each distinct block id is
stored once: its *holder* is the first block with that id, and later blocks with the same id are read from
the holder's frame.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from packageformat.compression import compress, decompress
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import block_id
from packageformat.header import Header, Section
from packageformat.limits import (
    BLOCK_SIZE,
    BLOCKS_MAX,
    DIGEST_SIZE,
    FRAME_PLAIN_MAX,
    FRAME_STORED_MAX,
    LAYOUT_BYTES_MAX,
)
from packageformat.tree import Tree

MAGIC = b"OVPLAYT1"
PREAMBLE = struct.Struct("<8s2I")
"""Magic, frames, blocks in all of them."""

BLOCKS_A_FRAME_MAX = 65535


def holders_of(tree: Tree, block_ids: bytes) -> list[int]:
    """Return, for each block, the first block with the same id.

    Raises:
        FormatError: there are not as many ids as blocks, or two blocks of different length share an id.
    """
    count = tree.block_count
    if len(block_ids) != count * DIGEST_SIZE:
        raise FormatError(f"{len(block_ids)} bytes of block ids for {count} blocks")
    sizes = tree.block_sizes()
    first: dict[bytes, int] = {}
    holders: list[int] = []
    for block in range(count):
        holder = first.setdefault(block_ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE], block)
        if sizes[holder] != sizes[block]:
            raise FormatError("two blocks of different length with one id")
        holders.append(holder)
    return holders


class Layout:
    """The frames of a package: which blocks each holds, and where it is stored.

    Offsets count from the start of the BLOCKS section; frames follow one another without gaps.
    """

    __slots__ = ("_frame_of", "_offsets", "frames", "stored_sizes")

    def __init__(
        self, stored_sizes: Sequence[int], frames: Sequence[tuple[int, ...]], tree: Tree, block_ids: bytes
    ) -> None:
        """Check and keep a layout.

        Args:
            stored_sizes: bytes of each frame in the file.
            frames: the numbers of the blocks in each frame.
            tree: the package's, verified.
            block_ids: the ids of all its blocks, concatenated, verified.

        Raises:
            FormatError: a frame is empty, too large or of impossible size; a distinct block id is not in
            exactly
                one frame, by its holder.
        """
        if len(stored_sizes) != len(frames):
            raise FormatError("a layout with more sizes than frames, or fewer")
        holders = holders_of(tree, block_ids)
        sizes = tree.block_sizes()
        frame_of = [-1] * len(holders)
        for frame, blocks in enumerate(frames):
            if not 0 < stored_sizes[frame] <= FRAME_STORED_MAX:
                raise FormatError(f"a frame of {stored_sizes[frame]} bytes, allowed up to {FRAME_STORED_MAX}")
            plain = 0
            for block in blocks:
                if not 0 <= block < len(holders) or holders[block] != block or frame_of[block] >= 0:
                    raise FormatError("a layout that places a block twice, or one that is not there")
                frame_of[block] = frame
                plain += sizes[block]
            if not 0 < plain <= FRAME_PLAIN_MAX:
                raise FormatError(f"a frame of {plain} plain bytes, allowed up to {FRAME_PLAIN_MAX}")
        for block, holder in enumerate(holders):
            frame_of[block] = frame_of[holder]
        if -1 in frame_of:
            raise FormatError("a layout that leaves a block out")
        self.frames = tuple(frames)
        self.stored_sizes = tuple(stored_sizes)
        self._offsets = tuple(accumulate(stored_sizes, initial=0))
        self._frame_of = frame_of

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self.frames == other.frames and self.stored_sizes == other.stored_sizes

    def __hash__(self) -> int:
        return hash((self.frames, self.stored_sizes))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all frames: the size of the BLOCKS section."""
        return self._offsets[-1]

    def frame_of(self, block: int) -> int:
        """Return the number of the frame that has the bytes of `block` (a holder or not)."""
        return self._frame_of[block]

    def place(self, frame: int) -> tuple[int, int]:
        """Return a frame's offset in the BLOCKS section and its size there, in bytes."""
        return self._offsets[frame], self.stored_sizes[frame]

    def frame_at(self, offset: int) -> int:
        """Return the number of the frame that the byte at `offset` of the BLOCKS section belongs to."""
        if not 0 <= offset < self.stored_bytes:
            raise IndexError(offset)
        return bisect_right(self._offsets, offset) - 1

    def blocks(self, frame: int) -> tuple[int, ...]:
        """Return the numbers of the blocks in a frame, in their order there."""
        return self.frames[frame]


def encode_layout(layout: Layout) -> bytes:
    """Return the one encoding of `layout` (FORMAT.md, *Layout*)."""
    numbers = [block for frame in layout.frames for block in frame]
    count = len(layout.frames)
    return b"".join(
        (
            PREAMBLE.pack(MAGIC, count, len(numbers)),
            struct.pack(f"<{count}I", *layout.stored_sizes),
            struct.pack(f"<{count}H", *map(len, layout.frames)),
            struct.pack(f"<{len(numbers)}I", *numbers),
        )
    )


def decode_layout(data: bytes, tree: Tree, block_ids: bytes) -> Layout:
    """Return the layout that `data`, untrusted, encodes, of a package with this verified tree and block ids.

    Raises:
        FormatError: `data` is not a layout, or not of this package.
    """
    stored_sizes, frames = _columns(data)
    return Layout(stored_sizes, frames, tree, block_ids)


def _columns(data: bytes) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return the stored size and the blocks of each frame.

    Raises:
        FormatError: `data` is no layout.
    """
    if not PREAMBLE.size <= len(data) <= LAYOUT_BYTES_MAX:
        raise FormatError(f"a layout of {len(data)} bytes, allowed up to {LAYOUT_BYTES_MAX}")
    magic, count, blocks_count = PREAMBLE.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("not a layout")
    if count > blocks_count or blocks_count > BLOCKS_MAX:
        raise FormatError(f"a layout of {blocks_count} blocks in {count} frames")
    if len(data) != PREAMBLE.size + 6 * count + 4 * blocks_count:
        raise FormatError("a layout that is cut short or goes on after its end")
    stored_sizes = struct.unpack_from(f"<{count}I", data, PREAMBLE.size)
    counts = struct.unpack_from(f"<{count}H", data, PREAMBLE.size + 4 * count)
    numbers = struct.unpack_from(f"<{blocks_count}I", data, PREAMBLE.size + 6 * count)
    ends = list(accumulate(counts, initial=0))
    if ends[-1] != blocks_count:
        raise FormatError("a layout whose frames do not make up its blocks")
    return stored_sizes, [numbers[a:b] for a, b in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class RoughLayout:
    """A layout before the block ids have come that it must be checked with: a hint where a block may lie.

    Whoever uses it verifies what he finds there.
    """

    places: tuple[tuple[int, int], ...]  # of each frame: offset in the file, stored bytes
    frames: tuple[tuple[int, ...], ...]
    frame_of: Mapping[int, int]  # of blocks that are stored themselves, not under the number of an equal one


def rough_layout(data: bytes, header: Header) -> RoughLayout:
    """Return where the frames are that `data`, untrusted, tells of.

    Args:
        data: the encoded layout.
        header: of the package.

    Raises:
        FormatError: it is no layout of such a file.
    """
    stored_sizes, frames = _columns(data)
    blocks = header.sections[Section.BLOCKS]
    if sum(stored_sizes) != blocks.stored_size:
        raise FormatError("a layout whose frames do not make up the blocks' section")
    starts = accumulate(stored_sizes, initial=blocks.offset)
    return RoughLayout(
        tuple(zip(starts, stored_sizes, strict=False)),
        tuple(frames),
        {block: frame for frame, blocks in enumerate(frames) for block in blocks},
    )


def plan_frames(tree: Tree, block_ids: bytes) -> list[tuple[int, ...]]:
    """Return which blocks go into one frame.

    each block of a large file alone, small files solid up to 256 KiB.
    """
    frames: list[tuple[int, ...]] = []
    solid: list[int] = []
    solid_size = 0
    sizes = tree.block_sizes()
    for block, holder in enumerate(holders_of(tree, block_ids)):
        if holder != block:
            continue
        entry, _ = tree.block_place(block)
        if tree.sizes[entry] > BLOCK_SIZE:
            frames.append((block,))
            continue
        if solid_size + sizes[block] > FRAME_PLAIN_MAX or len(solid) == BLOCKS_A_FRAME_MAX:
            frames.append(tuple(solid))
            solid, solid_size = [], 0
        solid.append(block)
        solid_size += sizes[block]
    if solid:
        frames.append(tuple(solid))
    return frames


def encode_frame(plains: Sequence[bytes], level: int = 9) -> bytes:
    """Return one stored frame of these blocks' plain bytes."""
    return compress(b"".join(plains), level)


def unpack_frame(
    tree: Tree, block_ids: bytes, blocks: Sequence[int], stored: bytes
) -> list[tuple[int, bytes]]:
    """Return the blocks of a frame, each with its number and its plain bytes, verified.

    Args:
        tree: the package's, verified.
        block_ids: the ids of all its blocks, verified.
        blocks: the numbers of the blocks in this frame, from a checked layout.
        stored: untrusted bytes, from a file or the network.

    Raises:
        CorruptBlockError: `stored` is not these blocks. Nothing of it is returned.
    """
    sizes = [tree.block_size(block) for block in blocks]
    expected = [block_ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE] for block in blocks]
    try:
        plain = decompress(stored, sum(sizes))
    except FormatError as error:
        raise CorruptBlockError(
            f"damaged frame of block {expected[0].hex()}: {error}", expected=expected[0]
        ) from error
    found: list[tuple[int, bytes]] = []
    start = 0
    for block, size, name in zip(blocks, sizes, expected, strict=True):
        part = plain[start : start + size]
        if block_id(part) != name:
            raise CorruptBlockError(f"damaged block {name.hex()}", expected=name)
        found.append((block, part))
        start += size
    return found
