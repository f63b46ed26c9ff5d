"""Blocks of a new version on their way from a delta: faults for them wait, if that is sooner than to ask.

A waiter is settled after its block is in the cache, or when the flow ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

READY_SECONDS = 0.5
"""A fault waits so long at most to learn what a delta gives."""

WAIT_SECONDS = 0.12
"""A fault waits for a block that should be here within this time."""

_SLOWEST = 1 << 20
"""Bytes a second that a stream is trusted to have from its beginning."""


@dataclass(slots=True, eq=False)
class Flow:
    """Blocks of one version on their way."""

    ready: asyncio.Future[None]  # it is known what comes
    due: dict[int, int] = field(default_factory=dict)  # block: bytes of the delta up to the end of its frame
    came: set[int] = field(default_factory=set)
    received: int = 0
    began: float = 0.0
    _arrivals: dict[int, asyncio.Future[None]] = field(default_factory=dict)

    def is_near(self, block: int, now: float) -> bool:
        """Return whether a block should be here soon."""
        rate = max(self.received / max(now - self.began, 0.001), _SLOWEST)
        return self.due[block] - self.received <= rate * WAIT_SECONDS

    async def expect(self, block: int) -> bool:
        """Wait for a block that comes soon; return whether it came."""
        if not self.ready.done():
            await asyncio.wait([self.ready], timeout=READY_SECONDS)
        if block not in self.came and block in self.due and self.is_near(block, time.monotonic()):
            arrival = self._arrivals.get(block)
            if arrival is None:
                arrival = self._arrivals[block] = asyncio.get_running_loop().create_future()
            await asyncio.wait([arrival])
        return block in self.came

    def take(self, blocks: Sequence[int]) -> None:
        """Note blocks that are in the cache now."""
        self.came.update(blocks)
        for block in blocks:
            self._settle(block)

    def end(self) -> None:
        """Let everybody go."""
        self.due.clear()
        for waiter in (self.ready, *self._arrivals.values()):
            if not waiter.done():
                waiter.set_result(None)
        self._arrivals.clear()

    def _settle(self, block: int) -> None:
        arrival = self._arrivals.pop(block, None)
        if arrival is not None and not arrival.done():
            arrival.set_result(None)
