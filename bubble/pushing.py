"""What to push: the pages around those that are read, and those that come for files in use.

A view whose cache is not whole asks the kernel to read single pages only, because a page more than the
application wants could be one that must come from the network. What is here already is pushed instead, so
that a file costs one request and not one for each page.
"""

from __future__ import annotations

from array import array

from bubble.contentstore import ContentStore
from bubble.pusher import Pusher
from packageformat.limits import PAGE_SIZE, PAGES_A_BLOCK

FIRST_BEFORE, FIRST_AFTER = 64, 448
"""Pages around the first one that is read of a file: 2 MiB in all."""

BEFORE, AFTER = 8, 56
"""Pages around any later one: 256 KiB in all."""


class Pushing:
    """Decides for one view. Remembers what the kernel was given, so that nothing is given twice."""

    def __init__(self, store: ContentStore, pusher: Pusher) -> None:
        self._store = store
        self._pusher = pusher
        self._given: dict[int, array[int]] = {}  # for each file in use and block: bit n, page n

    @property
    def pages(self) -> int:
        """How many pages the kernel has taken."""
        return self._pusher.pages

    def read(self, content: int, offset: int, size: int) -> None:
        """Push what lies around a read that was just answered."""
        first, last = offset // PAGE_SIZE, (offset + max(size, 1) - 1) // PAGE_SIZE
        given = self._given.get(content)
        if given is None:
            given = self._given[content] = array("H", bytes(2 * self._store.block_count(content)))
            start, end = max(0, first - FIRST_BEFORE), last + FIRST_AFTER
        else:
            start, end = max(0, first - BEFORE), last + AFTER
        for page in range(first, min(last + 1, PAGES_A_BLOCK * len(given))):
            given[page // PAGES_A_BLOCK] |= 1 << page % PAGES_A_BLOCK  # read: the kernel has it
        for run, count in self._store.present(content, start, end - start):
            self._push(content, given, run, count)

    def came(self, content: int, block: int, pages: int) -> None:
        """Push pages that have just come, if the file is in use."""
        given = self._given.get(content)
        if given is None or block >= len(given) or not pages & ~given[block]:
            return
        for run, count in self._store.present(content, block * PAGES_A_BLOCK, PAGES_A_BLOCK):
            self._push(content, given, run, count)

    def _push(self, content: int, given: array[int], first: int, count: int) -> None:
        """Push a run of pages that are here, less those that were given before."""
        page, end = first, first + count
        while page < end:
            while page < end and given[page // PAGES_A_BLOCK] >> page % PAGES_A_BLOCK & 1:
                page += 1
            start = page
            while page < end and not given[page // PAGES_A_BLOCK] >> page % PAGES_A_BLOCK & 1:
                page += 1
            if start == page:
                return
            data = self._store.read(content, start * PAGE_SIZE, (page - start) * PAGE_SIZE)
            if not data or not self._pusher.push(content + 1, start * PAGE_SIZE, data):
                return
            for one in range(start, start + -(-len(data) // PAGE_SIZE)):
                given[one // PAGES_A_BLOCK] |= 1 << one % PAGES_A_BLOCK
