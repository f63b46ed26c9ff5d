"""Blocks of a new version on their way from a delta: faults for them wait, if that is sooner than to ask.

A waiter is settled after its block is in the cache, or when the flow ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from appclient.nearness import is_near

READY_SECONDS = 0.5
"""So long after a flow began a fault waits at most to learn what it gives."""

PATIENCE_SECONDS = 1.0
"""A fault waits no longer than this for a block, however near it should be."""


class Flow:
    """Some blocks of one version, on their way."""

    def __init__(self, blocks: Iterable[int]) -> None:
        """Begin. Made and used in one loop.

        Args:
            blocks: those that are to be brought.
        """
        self._wanted = frozenset(blocks)
        self._ready = asyncio.get_running_loop().create_future()
        self._born = self._began = time.monotonic()
        self._due: dict[int, int] = {}
        self._arrivals: dict[int, asyncio.Future[None]] = {}
        self.came: set[int] = set()
        self.received = 0  # bytes of the delta

    def begin(self, due: Mapping[int, int]) -> None:
        """Say what comes: block -> bytes of the delta up to the end of its frame; 0: it is a copy."""
        self._due = dict(due)
        self.received = 0
        self._began = time.monotonic()
        if not self._ready.done():
            self._ready.set_result(None)

    async def expect(self, block: int) -> bool:
        """Wait for a block that comes soon; return whether it came."""
        if block not in self._wanted:
            return False
        left = self._born + READY_SECONDS - time.monotonic()
        if not self._ready.done() and left > 0:
            await asyncio.wait([self._ready], timeout=left)
        if block not in self.came and self._is_near(block):
            arrival = self._arrivals.get(block)
            if arrival is None:
                arrival = self._arrivals[block] = asyncio.get_running_loop().create_future()
            await asyncio.wait([arrival], timeout=PATIENCE_SECONDS)
        return block in self.came

    def take(self, blocks: Iterable[int]) -> None:
        """Note blocks that are in the cache now."""
        some = list(blocks)
        self.came.update(some)
        self.drop(some)

    def drop(self, blocks: Iterable[int]) -> None:
        """Let those go who wait for these: they are here, or do not come."""
        for block in blocks:
            self._due.pop(block, None)
            arrival = self._arrivals.pop(block, None)
            if arrival is not None and not arrival.done():
                arrival.set_result(None)

    def pause(self) -> None:
        """Let everybody go who waits for a block: nothing comes just now."""
        self._due.clear()
        self.drop(tuple(self._arrivals))

    def end(self) -> None:
        """Let everybody go."""
        self.pause()
        if not self._ready.done():
            self._ready.set_result(None)

    def _is_near(self, block: int) -> bool:
        due = self._due.get(block)
        elapsed = time.monotonic() - self._began
        return due is not None and is_near(due - self.received, self.received, elapsed)
