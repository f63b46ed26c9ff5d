"""What of a package is not in the cache: every block is looked at, step by step, in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from appclient.caching import contents_of
from appclient.errors import storage_error
from bubble.cachefile import CacheFolder
from packageformat.limits import BLOCK_SIZE
from packageformat.package import Package


@dataclass(slots=True)
class Gap:
    """A frame that holds blocks which are missing."""

    frame: int
    wanted: set[int] = field(default_factory=set)  # blocks that are missing, of any file
    plain_bytes: int = 0  # of those blocks
    touched: bool = False  # a file of it is here in part: an application was in it


class MissingFrames:
    """Looks through the cache for one package."""

    def __init__(self, package: Package, cache: CacheFolder) -> None:
        self._package = package
        self._cache = cache
        self._contents = contents_of(package)
        self._gaps: dict[int, Gap] = {}
        self.plain_bytes = 0  # of the contents looked at
        self.bytes_here = 0  # of them

    def step(self, count: int) -> bool:
        """Look at the next `count` contents; return whether there are more. Blocks.

        Raises:
            CacheError: the cache cannot be read.
        """
        seen = 0
        for entry, content, size in islice(self._contents, count):
            seen += 1
            self.plain_bytes += size
            self.bytes_here += size
            try:
                self._look(entry, content, size)
            except OSError as error:
                raise storage_error("reading the cache", self._cache.path, error) from error
        return seen == count

    def _look(self, entry: int, content: bytes, size: int) -> None:
        file = self._cache.open(content, size)
        first = self._package.tree.first_block(entry)
        if file is None:
            missing = list(range(self._package.tree.file_block_count(entry)))
        else:
            missing = file.missing_blocks()
        for block in missing:
            block_size = min(BLOCK_SIZE, size - block * BLOCK_SIZE)
            self.bytes_here -= block_size
            frame = self._package.layout.frame_of(first + block)
            gap = self._gaps.get(frame)
            if gap is None:
                gap = self._gaps[frame] = Gap(frame)
            gap.wanted.add(first + block)
            gap.plain_bytes += block_size
            gap.touched = gap.touched or file is not None

    @property
    def stored_bytes(self) -> int:
        """Bytes that have to come."""
        return sum(self._package.frame_extent(frame)[1] for frame in self._gaps)

    def gaps(self) -> list[Gap]:
        """Return what is missing: the rest of files that were touched, then as the package is laid out."""
        return sorted(self._gaps.values(), key=lambda gap: (not gap.touched, gap.frame))
