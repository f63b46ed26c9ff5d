"""What to push: the pages around those that are read, and those that come for files in use.

A view whose cache is not whole asks the kernel to read single pages only, because a page more than the
application wants could be one that must come from the network. What is here already is pushed instead, so
that a file costs one request and not one for each page. Of a file that a launch pack holds (`expect`)
everything is pushed, from the moment on at which the kernel knows the file (`met`).

Nothing is pushed at once: reading and verifying a large run takes milliseconds, and something more urgent may
be told meanwhile. It joins a backlog, of which a slice is done at a time (`work`), in a process beside the
view (pushline.py).
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Iterable, Mapping

from bubble.contentstore import ContentStore
from bubble.pusher import Pusher
from packageformat.limits import PAGE_SIZE, PAGES_A_BLOCK

FIRST_BEFORE, FIRST_AFTER = 64, 448
"""Pages around the first one that is read of a file: 2 MiB in all."""

BEFORE, AFTER = 8, 56
"""Pages around any later one: 256 KiB in all."""

SLICE = 32
"""Pages of one slice of the backlog: 128 KiB take a millisecond to read, to verify and to store."""


class Pushing:
    """Decides for one view. Remembers what the kernel was given, so that nothing is given twice."""

    def __init__(self, store: ContentStore, pusher: Pusher) -> None:
        self._store = store
        self._pusher = pusher
        self._given: dict[int, array[int]] = {}  # for each file in use and block: bit n, page n
        self._expected: dict[int, dict[int, int]] = {}  # files that a pack holds, and what came before the
        # kernel knew them: pages by block
        self._met: set[int] = set()  # nodes that the kernel knows
        self._backlog: deque[tuple[int, int, int]] = deque()  # file, first page, count

    @property
    def has_work(self) -> bool:
        """Whether there is a backlog."""
        return bool(self._backlog)

    def expect(self, contents: Iterable[int]) -> None:
        """Push what comes of these files, once the kernel knows them."""
        for content in contents:
            if content in self._met:
                self._use(content)
            else:
                self._expected.setdefault(content, {})

    def met(self, node: int) -> None:
        """Note that the kernel is being told of a node, as the view's image numbers them."""
        self._met.add(node)
        blocks = self._expected.pop(node, None)
        if blocks is not None:
            self._use(node)
            self.came(node, blocks)

    def read(self, content: int, offset: int, size: int) -> None:
        """Push what lies around a read, before anything else."""
        first, last = offset // PAGE_SIZE, (offset + max(size, 1) - 1) // PAGE_SIZE
        given = self._given.get(content)
        if given is None:
            given = self._use(content)
            start, end = max(0, first - FIRST_BEFORE), last + FIRST_AFTER
        else:
            start, end = max(0, first - BEFORE), last + AFTER
        for page in range(first, min(last + 1, PAGES_A_BLOCK * len(given))):
            given[page // PAGES_A_BLOCK] |= 1 << page % PAGES_A_BLOCK  # the view gives it, or it is not here
        if start < first:
            self._backlog.appendleft((content, start, first - start))
        self._backlog.appendleft((content, first, end - first))  # who reads goes on from there, mostly

    def came(self, content: int, blocks: Mapping[int, int]) -> None:
        """Push pages that have just come (by block: bit n, page n), if the file is in use, or expected."""
        given = self._given.get(content)
        if given is None:
            if content in self._expected:
                known = self._expected[content]
                known.update((block, known.get(block, 0) | pages) for block, pages in blocks.items())
            return
        first = count = 0
        for block in sorted(blocks):
            if block >= len(given) or not blocks[block] & ~given[block]:
                continue
            if count and block == (first + count) // PAGES_A_BLOCK:
                count += PAGES_A_BLOCK
                continue
            if count:
                self._backlog.append((content, first, count))
            first, count = block * PAGES_A_BLOCK, PAGES_A_BLOCK
        if count:
            self._backlog.append((content, first, count))

    def work(self, pages: int = SLICE) -> None:
        """Push a slice of the backlog."""
        while self._backlog and pages > 0:
            content, first, count = self._backlog.popleft()
            if count > pages:
                self._backlog.appendleft((content, first + pages, count - pages))
                count = pages
            given = self._given[content]
            for run, parts in self._store.verified(content, first, count, given):
                pages -= self._push(content, given, run, parts)
            pages -= 1  # looking costs something, too

    def _use(self, content: int) -> array[int]:
        """Return what the kernel was given of a file; from now on it is in use."""
        given = self._given.get(content)
        if given is None:
            given = self._given[content] = array("H", bytes(2 * self._store.block_count(content)))
        return given

    def _push(self, content: int, given: array[int], first: int, parts: list[bytes]) -> int:
        """Push a run of pages; return how many."""
        pages = -(-sum(map(len, parts)) // PAGE_SIZE)
        self._pusher.push(content + 1, first * PAGE_SIZE, parts, time.monotonic())
        page, left = first, pages
        while left:
            start = page % PAGES_A_BLOCK
            some = min(left, PAGES_A_BLOCK - start)
            given[page // PAGES_A_BLOCK] |= (1 << some) - 1 << start
            page += some
            left -= some
        return pages
