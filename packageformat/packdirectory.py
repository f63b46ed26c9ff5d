"""A launch pack's directory: whose it is, which pages come in which frame, and the proofs of their blocks.

It comes first. With it alone, every block id in the pack is proved to be the one under the publisher's
signature, before a page arrives: nobody needs to sign packs, and whoever stores or carries them is
trusted with nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from packageformat.encoding import Value, decode, encode
from packageformat.errors import FormatError
from packageformat.hashtree import root_of_multiproof, split
from packageformat.limits import (
    BLOCK_SIZE,
    BLOCKS_MAX,
    DIGEST_SIZE,
    FORMAT_VERSION,
    LABEL_MAX,
    PACK_BLOCKS_MAX,
    PACK_DIRECTORY_BYTES_MAX,
    PACK_EXTENTS_MAX,
    PACK_FRAME_PLAIN_MAX,
    PACK_FRAME_STORED_MAX,
    PACK_FRAMES_MAX,
    PAGE_SIZE,
    STACK_MAX,
)
from packageformat.names import check_application_id
from packageformat.record import Record
from packageformat.stack import bubble_id

EXTENT = struct.Struct("<BIBB")
"""Layer, block, first page (and `BY_COLUMNS`), pages."""

BY_COLUMNS = 0x80
"""In the byte of an extent's first page: its bytes are stored by columns (`records`)."""

FRAME_DIGEST_SIZE = 8
"""Bytes of a frame's SHA-256 that the directory keeps: enough to tell damage, which is all they are for."""


@dataclass(frozen=True, slots=True)
class PackExtent:
    """Pages of one block, one after the other."""

    layer: int  # position in the stack, bottom first
    block: int  # in that layer's package
    first_page: int  # 0 to 15
    pages: int  # 1 to 16
    by_columns: bool = False  # stored as records.by_columns makes them, in the frame of a pack


@dataclass(frozen=True, slots=True)
class PackLayer:
    """One layer as its verified manifest tells it: what a pack's proofs must lead to."""

    version_id: bytes
    blocks_root: bytes
    block_count: int


@dataclass(frozen=True, slots=True)
class TouchedBlocks:
    """The blocks of one layer that the pack proves, in order of their numbers.

    Those are all blocks of each file that has a page in the pack: with them the file's content id is known,
    which is its name in a cache. And those of other files with the same content: their pages have come, too.
    """

    version_id: bytes
    block_count: int  # of the whole layer
    sizes: dict[int, int]  # plain bytes of each
    ids: dict[int, bytes]
    proof: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.block_count <= BLOCKS_MAX or self.sizes.keys() != self.ids.keys():
            raise FormatError("a launch pack with a layer that is not one")
        if any(not 0 < size <= BLOCK_SIZE for size in self.sizes.values()):
            raise FormatError("a launch pack with a block of impossible size")

    def page_count(self, block: int) -> int:
        """Return how many pages a block has.

        Raises:
            FormatError: it is not one of these blocks.
        """
        size = self.sizes.get(block)
        if size is None:
            raise FormatError("a launch pack with pages of a block that it does not prove")
        return -(-size // PAGE_SIZE)

    def size_of(self, extent: PackExtent) -> int:
        """Return the plain bytes of pages of one of these blocks, which has them."""
        end = min((extent.first_page + extent.pages) * PAGE_SIZE, self.sizes[extent.block])
        return end - extent.first_page * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class PackFrame:
    """One frame: sibling hashes, then compressed pages."""

    extents: tuple[PackExtent, ...]
    stored_size: int  # bytes of the compressed pages
    digest: bytes  # the first 8 bytes of the SHA-256 over hashes and compressed pages


@dataclass(frozen=True, slots=True)
class PackDirectory:
    """What a launch pack holds. Its pages are in the order of the first touch."""

    application: str
    bubble_id: bytes
    layers: tuple[TouchedBlocks, ...]  # the whole stack, bottom first
    frames: tuple[PackFrame, ...]

    def __post_init__(self) -> None:
        check_application_id(self.application)
        if bubble_id([layer.version_id for layer in self.layers]) != self.bubble_id:
            raise FormatError("a launch pack whose bubble is not that of its layers")
        if sum(len(layer.ids) for layer in self.layers) > PACK_BLOCKS_MAX:
            raise FormatError(f"a launch pack of more than {PACK_BLOCKS_MAX} blocks")
        if len(self.frames) > PACK_FRAMES_MAX:
            raise FormatError(f"a launch pack of {len(self.frames)} frames, allowed {PACK_FRAMES_MAX}")
        seen: dict[tuple[int, int], int] = {}
        for frame in self.frames:
            if not 0 < frame.stored_size <= PACK_FRAME_STORED_MAX or len(frame.digest) != FRAME_DIGEST_SIZE:
                raise FormatError("a launch pack with a frame of impossible size")
            plain = 0
            for extent in frame.extents:
                if extent.layer >= len(self.layers):
                    raise FormatError("a launch pack with pages of a layer that it does not have")
                layer = self.layers[extent.layer]
                count = layer.page_count(extent.block)
                end = extent.first_page + extent.pages
                if extent.first_page < 0 or extent.pages < 1 or end > count:
                    raise FormatError("a launch pack with pages that are not in their block")
                bits = ((1 << extent.pages) - 1) << extent.first_page
                key = (extent.layer, extent.block)
                if seen.get(key, 0) & bits:
                    raise FormatError("a launch pack with a page twice")
                seen[key] = seen.get(key, 0) | bits
                plain += layer.size_of(extent)
            if not 0 < plain <= PACK_FRAME_PLAIN_MAX:
                raise FormatError(
                    f"a launch pack with a frame of {plain} bytes, allowed {PACK_FRAME_PLAIN_MAX}"
                )

    def check_stack(self, stack: Sequence[PackLayer]) -> None:
        """Check that every block id is the one in the verified manifests of `stack`, bottom first.

        Raises:
            FormatError: the pack is for another stack, or a proof does not hold.
        """
        if [layer.version_id for layer in stack] != [layer.version_id for layer in self.layers]:
            raise FormatError("a launch pack of another bubble")
        for trusted, layer in zip(stack, self.layers, strict=True):
            if layer.block_count != trusted.block_count:
                raise FormatError("a launch pack that counts a layer's blocks wrong")
            if layer.ids:
                found = root_of_multiproof(layer.block_count, layer.ids, layer.proof)
                if found != trusted.blocks_root:
                    raise FormatError("a launch pack whose blocks are not those of the manifest")
            elif layer.proof:
                raise FormatError("a launch pack with a proof of nothing")


def siblings(
    frame: PackFrame, layers: Sequence[TouchedBlocks], seen: set[tuple[int, int]]
) -> list[PackExtent]:
    """Return the pages whose hashes stand in front of a frame, and add its blocks to `seen`.

    These are, of each block that no earlier frame had, the pages that are not in this frame: blocks in
    the order of their first extent here, pages in order.
    """
    present: dict[tuple[int, int], int] = {}
    for extent in frame.extents:
        key = (extent.layer, extent.block)
        if key not in seen:
            present[key] = present.get(key, 0) | ((1 << extent.pages) - 1) << extent.first_page
    seen.update(present)
    return [
        PackExtent(layer, block, page, 1)
        for (layer, block), bits in present.items()
        for page in range(layers[layer].page_count(block))
        if not bits >> page & 1
    ]


def frame_sizes(directory: PackDirectory) -> tuple[list[int], dict[tuple[int, int], int]]:
    """Return the bytes of each frame as stored, hashes included, and the first frame of each block."""
    sizes: list[int] = []
    firsts: dict[tuple[int, int], int] = {}
    for number, frame in enumerate(directory.frames):
        present: dict[tuple[int, int], int] = {}
        for extent in frame.extents:
            key = (extent.layer, extent.block)
            if firsts.setdefault(key, number) == number:
                present[key] = present.get(key, 0) + extent.pages
        hashes = sum(
            directory.layers[layer].page_count(block) - pages for (layer, block), pages in present.items()
        )
        sizes.append(hashes * DIGEST_SIZE + frame.stored_size)
    return sizes, firsts


def encode_directory(directory: PackDirectory) -> bytes:
    """Return the one encoding of `directory` (FORMAT.md, *Launch pack*).

    Raises:
        FormatError: it is longer than a reader would accept.
    """
    data = encode(
        (
            FORMAT_VERSION,
            directory.application,
            directory.bubble_id,
            tuple(_layer_value(layer) for layer in directory.layers),
            struct.pack(f"<{len(directory.frames)}I", *[frame.stored_size for frame in directory.frames]),
            b"".join(frame.digest for frame in directory.frames),
            struct.pack(f"<{len(directory.frames)}H", *[len(frame.extents) for frame in directory.frames]),
            b"".join(
                EXTENT.pack(
                    extent.layer,
                    extent.block,
                    extent.first_page | (BY_COLUMNS if extent.by_columns else 0),
                    extent.pages,
                )
                for frame in directory.frames
                for extent in frame.extents
            ),
        )
    )
    if len(data) > PACK_DIRECTORY_BYTES_MAX:
        raise FormatError(f"a launch pack's directory of {len(data)} bytes")
    return data


def _layer_value(layer: TouchedBlocks) -> Value:
    blocks = sorted(layer.ids)
    return (
        layer.version_id,
        layer.block_count,
        struct.pack(f"<{len(blocks)}I", *blocks),
        struct.pack(f"<{len(blocks)}H", *[layer.sizes[block] - 1 for block in blocks]),
        b"".join(layer.ids[block] for block in blocks),
        b"".join(layer.proof),
    )


def decode_directory(data: bytes) -> PackDirectory:
    """Return the directory that `data`, untrusted, encodes; its proofs are for `check_stack` to check.

    Raises:
        FormatError: it is not one.
    """
    record = Record(decode(data, max_bytes=PACK_DIRECTORY_BYTES_MAX), "launch pack's directory", 8)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    application = record.text(2 * LABEL_MAX)
    bubble = record.digest()
    layers = tuple(_layer_of(item) for item in record.items(STACK_MAX))
    sizes = _numbers(record.octets(4 * PACK_FRAMES_MAX), "I")
    digests = record.octets(FRAME_DIGEST_SIZE * PACK_FRAMES_MAX)
    counts = _numbers(record.octets(2 * PACK_FRAMES_MAX), "H")
    packed = record.octets(EXTENT.size * PACK_EXTENTS_MAX)
    ends = list(accumulate(counts, initial=0))
    if len(counts) != len(sizes) or len(digests) != FRAME_DIGEST_SIZE * len(sizes):
        raise FormatError("a launch pack whose columns are of different length")
    if ends[-1] * EXTENT.size != len(packed):
        raise FormatError("a launch pack whose extents do not make up its frames")
    extents = [
        PackExtent(layer, block, first & ~BY_COLUMNS, pages, first >= BY_COLUMNS)
        for layer, block, first, pages in EXTENT.iter_unpack(packed)
    ]
    frames = tuple(
        PackFrame(
            tuple(extents[start:end]),
            sizes[index],
            digests[index * FRAME_DIGEST_SIZE : (index + 1) * FRAME_DIGEST_SIZE],
        )
        for index, (start, end) in enumerate(pairwise(ends))
    )
    return PackDirectory(application, bubble, layers, frames)


def _layer_of(value: Value) -> TouchedBlocks:
    record = Record(value, "launch pack's layer", 6)
    version = record.digest()
    count = record.number(BLOCKS_MAX)
    blocks = _numbers(record.octets(4 * PACK_BLOCKS_MAX), "I")
    sizes = _numbers(record.octets(2 * PACK_BLOCKS_MAX), "H")
    leaves = record.octets(DIGEST_SIZE * PACK_BLOCKS_MAX)
    proof = record.octets(PACK_DIRECTORY_BYTES_MAX)
    if len(sizes) != len(blocks) or len(leaves) != DIGEST_SIZE * len(blocks) or len(proof) % DIGEST_SIZE:
        raise FormatError("a launch pack whose columns are of different length")
    if any(before >= after for before, after in pairwise(blocks)):
        raise FormatError("a launch pack whose blocks are not in order")
    return TouchedBlocks(
        version,
        count,
        {block: size + 1 for block, size in zip(blocks, sizes, strict=True)},
        dict(zip(blocks, split(leaves), strict=True)),
        split(proof),
    )


def _numbers(packed: bytes, code: str) -> tuple[int, ...]:
    size = struct.calcsize("<" + code)
    if len(packed) % size:
        raise FormatError("a launch pack with a column that is cut short")
    return struct.unpack(f"<{len(packed) // size}{code}", packed)
