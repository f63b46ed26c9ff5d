"""By which classes a launch pack is cut, and whether cutting it anew would pay. Pure.

A page's class is its layer and the other known launches that touch the same content: whoever ran those
applications has the page and need not read it again. Content is a block's id and a page in it, so that
applications that carry the same library in layers of their own share it, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from packageformat.limits import PAGE_SIZE
from packageformat.packdirectory import PackDirectory, PackExtent
from packageformat.packplan import PageClass, fold_classes

RULES = 7
"""Grows when packs should be built again because they are built otherwise."""

GAIN_MIN = 0.1
"""A pack is cut anew for other launches if one of them would save this part of its bytes more than now."""

TouchedPages = Mapping[bytes, int]
"""What a launch touches: block id to pages, as bits."""


def touched_pages(extents: Iterable[PackExtent], block_id: Callable[[int, int], bytes]) -> dict[bytes, int]:
    """Return the pages of `extents` by content; `block_id` names a block by layer and number."""
    touched: dict[bytes, int] = {}
    for extent in extents:
        name = block_id(extent.layer, extent.block)
        bits = ((1 << extent.pages) - 1) << extent.first_page
        touched[name] = touched.get(name, 0) | bits
    return touched


def classes_of(
    extents: Sequence[PackExtent], block_id: Callable[[int, int], bytes], others: Sequence[TouchedPages]
) -> Callable[[PackExtent], PageClass]:
    """Return what gives the class of an extent of one page, small classes folded."""

    def exact(layer: int, block: int, page: int) -> PageClass:
        name = block_id(layer, block)
        return layer, frozenset(
            number for number, other in enumerate(others) if other.get(name, 0) >> page & 1
        )

    weights: Counter[PageClass] = Counter()
    for extent in extents:
        for page in range(extent.first_page, extent.first_page + extent.pages):
            weights[exact(extent.layer, extent.block, page)] += PAGE_SIZE
    folded = fold_classes(weights)
    return lambda extent: folded[exact(extent.layer, extent.block, extent.first_page)]


def gain(directory: PackDirectory, other: TouchedPages) -> float:
    """Return which part of a pack's bytes whoever ran `other` would save more if it were cut for him."""
    total = saved = could = 0.0
    for frame in directory.frames:
        pages = shared = 0
        for extent in frame.extents:
            bits = ((1 << extent.pages) - 1) << extent.first_page
            name = directory.layers[extent.layer].ids[extent.block]
            pages += extent.pages
            shared += (other.get(name, 0) & bits).bit_count()
        total += frame.stored_size
        could += frame.stored_size * shared / pages
        saved += frame.stored_size if shared == pages else 0
    return (could - saved) / total if total else 0.0
