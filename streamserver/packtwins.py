"""Twins: files of a stack that have the content of a file that a launch touches. Pure.

A launch profile names contents, and a content's pages come from one of its places. A client keeps them by
content, so they are there for every file that has it; but he finds them only if he knows that file's block
ids, and for the want of two of them would fetch the whole head of a package (half a megabyte, in the middle
of a launch). So a pack proves the ids of the twins, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PACK_BLOCKS_MAX
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree

Place = tuple[int, int]
"""A file: its layer (position, bottom first) and its first block there."""

TwinIndex = Mapping[Place, tuple[Place, ...]]
"""For each file whose content lies in more than one place: all of those, itself among them."""

TWINS_MAX = 16
"""Twins of one content that are proved at most: of a licence or an empty picture there are hundreds, of which
a launch that touches one reads few others."""

EXTRA_PART = 4
"""All twins together have at most a part of one in so many of the blocks that are proved anyway: a directory
comes before the first page, and each block in it costs 38 bytes and up to 500 of proof."""

EXTRA_MIN = 16
"""So many blocks of twins are proved even so: a quarter of a small language's pack is nothing."""


def twin_index(layers: Sequence[tuple[Tree, bytes]]) -> TwinIndex:
    """Return which files of a stack have the same content. A hard link is no file of its own.

    Args:
        layers: for each package, bottom first, its tree and its block ids.
    """
    places: dict[bytes, list[Place]] = {}
    for layer, (tree, block_ids) in enumerate(layers):
        sizes = tree.sizes
        for entry, first in tree.files():
            end = first - -sizes[entry] // BLOCK_SIZE
            # A block id covers the block's length, so the ids alone tell a content.
            ids = block_ids[first * DIGEST_SIZE : end * DIGEST_SIZE]
            places.setdefault(ids, []).append((layer, first))
    groups = (tuple(group) for group in places.values() if len(group) > 1)
    return {place: group for group in groups for place in group}


def twins_of(extents: Iterable[PackExtent], index: TwinIndex, trees: Sequence[Tree]) -> list[Place]:
    """Return the twins of the files that `extents` touch, those of the smallest files first.

    They are limited (`TWINS_MAX`, `EXTRA_PART`). The smallest come first because they cost least for what
    they save, which is the same for each: one head.

    Args:
        extents: the pages of a pack.
        index: the stack's.
        trees: the stack's, bottom first.

    Returns:
        The files, none of which `extents` touch.
    """
    touched: dict[Place, int] = {}  # file -> how many blocks it has
    for layer, block in {(extent.layer, extent.block) for extent in extents}:
        entry, offset = trees[layer].block_place(block)
        touched[layer, block - offset // BLOCK_SIZE] = trees[layer].file_block_count(entry)
    proved = sum(touched.values())
    left = min(max(proved // EXTRA_PART, EXTRA_MIN), PACK_BLOCKS_MAX - proved)
    groups = {index[place]: blocks for place, blocks in touched.items() if place in index}
    twins: list[Place] = []
    for group, blocks in sorted(groups.items(), key=lambda item: (item[1], item[0])):
        others = [place for place in group if place not in touched][:TWINS_MAX]
        others = others[: max(left, 0) // blocks]
        twins += others
        left -= blocks * len(others)
    return twins
