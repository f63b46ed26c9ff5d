"""A stack's pages in one row, in installation order, and when a profile touches each. Pure.

Layers come bottom first, files in the order of the tree; the last page of a file counts as a whole one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packageformat.launchprofile import LaunchProfile, content_index, places_of
from packageformat.limits import PAGE_SIZE
from packageformat.package import Package
from packageformat.tree import Kind, Tree

NEVER = 0xFFFFFFFF
"""Of a page: no touch."""


@dataclass(frozen=True, slots=True)
class Region:
    """Pages side by side that belong together: a layer, a folder, a file."""

    name: str
    start: int
    end: int

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return self.end - self.start


class StackMap:
    """The row of pages.

    Attributes:
        pages: how many there are.
        layers: a region for each package.
        touches: of each page, the position of its touch in the profile, or NEVER.
        missing: pages of the profile that the stack does not have.
    """

    def __init__(self, packages: Sequence[Package], profile: LaunchProfile) -> None:
        self._trees = [package.tree for package in packages]
        self._block_starts: list[array[int]] = []
        self.layers: list[Region] = []
        start = 0
        for package in packages:
            starts = array("I")
            first = start
            for size in package.tree.block_sizes():
                starts.append(start)
                start += -(-size // PAGE_SIZE)
            self._block_starts.append(starts)
            manifest = package.manifest
            self.layers.append(Region(f"{manifest.name} {manifest.version}", first, start))
        self.pages = start
        self.touches = array("I", [NEVER]) * start
        index = content_index([(one.version_id, one.tree, one.block_ids) for one in packages])
        places = places_of(profile, index, self._trees)
        self.missing = 0
        for position, touch in enumerate(profile.touches):
            place = places[touch.content]
            end = min(touch.first_page + touch.pages, place.pages) if place else 0
            self.missing += touch.pages - max(0, end - touch.first_page)
            if place is not None:
                first = self._block_starts[place.layer][place.first_block]
                for page in range(first + touch.first_page, first + end):
                    self.touches[page] = min(self.touches[page], position)

    def touched(self, region: Region) -> int:
        """Return how many pages of a region are touched."""
        return sum(position != NEVER for position in self.touches[region.start : region.end])

    def regions(self, least_pages: int) -> list[Region]:
        """Return the smallest folders and files that have at least so many pages, in the order of the row."""
        found: list[Region] = []
        for tree, starts, layer in zip(self._trees, self._block_starts, self.layers, strict=True):
            found.extend(_regions(tree, starts, layer, least_pages))
        return found


def _regions(tree: Tree, starts: array[int], layer: Region, least_pages: int) -> Iterator[Region]:
    """Give the regions of one layer: of folders that have none themselves, and files."""
    first_pages: list[int] = []
    page = layer.start
    for entry in range(len(tree)):
        first = tree.first_block(entry) if tree.kinds[entry] == Kind.FILE else -1
        if first >= 0:
            page = starts[first]
        first_pages.append(page)
        if first >= 0:
            page += -(-tree.sizes[entry] // PAGE_SIZE)
    first_pages.append(layer.end)
    ends = _subtree_ends(tree.depths)
    large = [first_pages[ends[entry]] - first_pages[entry] >= least_pages for entry in range(len(tree))]
    has_large = bytearray(len(tree))
    for entry in range(len(tree) - 1, 0, -1):
        if large[entry]:
            has_large[tree.parents[entry]] = 1
    for entry in range(1, len(tree)):
        if large[entry] and not has_large[entry]:
            name = tree.path(entry).decode("utf-8", "replace")
            yield Region(name, first_pages[entry], first_pages[ends[entry]])


def _subtree_ends(depths: bytes) -> list[int]:
    """Return, for each entry in preorder, the first entry after those below it."""
    ends = [len(depths)] * len(depths)
    open_entries: list[int] = []
    for entry, depth in enumerate(depths):
        while open_entries and depths[open_entries[-1]] >= depth:
            ends[open_entries.pop()] = entry
        open_entries.append(entry)
    return ends
