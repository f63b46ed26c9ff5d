"""What to push: what a launch is known to want, what lies around reads, what comes for files in use.

A view whose cache is not whole asks the kernel to read single pages only, because a page more than the
application wants could be one that must come from the network. What is here already is pushed instead, so
that a file costs one request and not one for each page.

Of a file that a launch pack holds (`expect`), or the order of an earlier launch (`plan`), the pages that
these name are pushed and no others, from the moment on at which the kernel knows the file (`met`). Only when
the application reads a page that neither names, what lies around that is pushed, whatever it is.

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
from bubble.launchorder import Run
from bubble.pusher import Pusher
from packageformat.limits import PAGE_SIZE, PAGES_A_BLOCK

FIRST_BEFORE, FIRST_AFTER = 64, 448
"""Pages around the first one that is read of a file of which nothing is foreseen: 2 MiB in all."""

BEFORE, AFTER = 8, 56
"""Pages around any other one: 256 KiB in all."""

SLICE = 32
"""Pages of one slice of the backlog: 128 KiB take a millisecond to read, to verify and to store."""

_ALL = (1 << PAGES_A_BLOCK) - 1

_Item = tuple[int, int, int, bool]
"""A file, the first page, how many, and whether only those that are foreseen."""


class Pushing:
    """Decides for one view. Remembers what the kernel was given, so that nothing is given twice."""

    def __init__(self, store: ContentStore, pusher: Pusher) -> None:
        self._store = store
        self._pusher = pusher
        self._given: dict[int, array[int]] = {}  # for each file in use and block: bit n, page n
        self._foreseen: dict[int, array[int]] = {}  # likewise what a pack or an order names of its files
        self._held: dict[int, list[_Item]] = {}  # files that are foreseen, and what waits for them to be met
        self._met: set[int] = set()  # nodes that the kernel knows
        self._urgent: deque[_Item] = deque()  # around reads, and what was held
        self._backlog: deque[_Item] = deque()

    @property
    def has_work(self) -> bool:
        """Whether there is a backlog."""
        return bool(self._urgent or self._backlog)

    def expect(self, contents: Iterable[int]) -> None:
        """Push what comes of these files, once the kernel knows them."""
        for content in contents:
            self._foresee(content)

    def plan(self, order: Iterable[Run]) -> None:
        """Push these pages as far as they are in the cache, all those of a block when its first is due."""
        for content, first, count in order:
            try:
                foreseen = self._foresee(content)
            except IndexError:
                continue  # of another view
            end = min(first + count, PAGES_A_BLOCK * len(foreseen))
            for block in range(first // PAGES_A_BLOCK, -(-end // PAGES_A_BLOCK)):
                if not foreseen[block]:
                    self._backlog.append((content, block * PAGES_A_BLOCK, PAGES_A_BLOCK, True))
                foreseen[block] |= _within(block, first, end)

    def met(self, node: int) -> None:
        """Note that the kernel is being told of a node, as the view's image numbers them."""
        self._met.add(node)
        if node in self._held:
            self._use(node)

    def read(self, content: int, offset: int, size: int) -> None:
        """Push what lies around a read, before anything else."""
        first, last = offset // PAGE_SIZE, (offset + max(size, 1) - 1) // PAGE_SIZE
        foreseen = self._foreseen.get(content)
        is_new = content not in self._given
        given = self._use(content)
        before, after = (FIRST_BEFORE, FIRST_AFTER) if is_new and foreseen is None else (BEFORE, AFTER)
        end = min(last + 1, PAGES_A_BLOCK * len(given))
        is_foreseen = foreseen is not None
        for page in range(first, end):
            block, bit = page // PAGES_A_BLOCK, 1 << page % PAGES_A_BLOCK
            given[block] |= bit  # the view gives it, or it is not here
            if foreseen is not None and not foreseen[block] & bit:
                is_foreseen = False
        start = max(0, first - before)
        if start < first:
            self._urgent.appendleft((content, start, first - start, is_foreseen))
        # Mostly it goes on from there: that comes before what precedes.
        self._urgent.appendleft((content, first, last + after - first, is_foreseen))

    def came(self, content: int, blocks: Mapping[int, int]) -> None:
        """Push pages that have just come (by block: bit n, page n), if the file is in use, or expected."""
        foreseen = self._foreseen.get(content)
        given = self._given.get(content)
        if foreseen is None and given is None:
            return
        known = self._store.block_count(content)
        items: list[_Item] = []
        first = count = 0
        for block in sorted(blocks):
            pages = blocks[block]
            if block >= known or (given is not None and not pages & ~given[block]):
                continue
            if foreseen is not None:
                foreseen[block] |= pages & _ALL
            if count and block == (first + count) // PAGES_A_BLOCK:
                count += PAGES_A_BLOCK
                continue
            if count:
                items.append((content, first, count, foreseen is not None))
            first, count = block * PAGES_A_BLOCK, PAGES_A_BLOCK
        if count:
            items.append((content, first, count, foreseen is not None))
        (self._backlog if given is not None else self._held[content]).extend(items)

    def work(self, pages: int = SLICE) -> None:
        """Push a slice of the backlog."""
        while pages > 0 and self.has_work:
            queue = self._urgent or self._backlog
            content, first, count, is_foreseen = queue.popleft()
            held = self._held.get(content)
            if held is not None:
                held.append((content, first, count, is_foreseen))
                continue
            if count > pages:
                queue.appendleft((content, first + pages, count - pages, is_foreseen))
                count = pages
            given = self._given[content]
            foreseen = self._foreseen[content] if is_foreseen else None
            start = first // PAGES_A_BLOCK
            asked = [
                _within(block, first, first + count)
                & ~given[block]
                & (_ALL if foreseen is None else foreseen[block])
                for block in range(start, min(-(-(first + count) // PAGES_A_BLOCK), len(given)))
            ]
            if any(asked):
                for run, parts in self._store.verified(content, start, asked):
                    pages -= self._push(content, given, run, parts)
            pages -= 1  # looking costs something, too

    def _foresee(self, content: int) -> array[int]:
        """Return what is foreseen of a file; if the kernel knows it already, it is in use from now on."""
        foreseen = self._foreseen.get(content)
        if foreseen is None:
            foreseen = array("H", bytes(2 * self._store.block_count(content)))
            self._foreseen[content] = foreseen
            if content in self._met:
                self._use(content)
            elif content not in self._given:
                self._held[content] = []
        return foreseen

    def _use(self, content: int) -> array[int]:
        """Return what the kernel was given of a file; from now on it is in use."""
        given = self._given.get(content)
        if given is None:
            given = self._given[content] = array("H", bytes(2 * self._store.block_count(content)))
            self._urgent.extend(self._held.pop(content, ()))
        return given

    def _push(self, content: int, given: array[int], first: int, parts: list[bytes]) -> int:
        """Push a run of pages; return how many."""
        pages = -(-sum(map(len, parts)) // PAGE_SIZE)
        self._pusher.push(content + 1, first * PAGE_SIZE, parts, time.monotonic())
        for block in range(first // PAGES_A_BLOCK, -(-(first + pages) // PAGES_A_BLOCK)):
            given[block] |= _within(block, first, first + pages)
        return pages


def _within(block: int, first: int, end: int) -> int:
    """Return which pages of a block are among those from `first` to before `end`."""
    base = block * PAGES_A_BLOCK
    low, high = max(0, first - base), min(PAGES_A_BLOCK, end - base)
    return (1 << high) - (1 << low) if low < high else 0
