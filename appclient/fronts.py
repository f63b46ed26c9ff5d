"""The fronts of a launch's packages, on their way: they come first in the stream that brings its packs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from appclient.door import Door
from appclient.lanes import Body, Part
from packageformat.errors import MillstreamError


class Fronts:
    """Fronts that a launch waits for. Made and used in the agent's loop."""

    def __init__(self, parts: Mapping[bytes, Part]) -> None:
        """Prepare.

        Args:
            parts: where the front of each version is, in the order in which they shall come.
        """
        loop = asyncio.get_running_loop()
        self._parts = dict(parts)
        self._arrivals: dict[bytes, asyncio.Future[bytes]] = {
            version: loop.create_future() for version in parts
        }
        for arrival in self._arrivals.values():
            arrival.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait

    @property
    def parts(self) -> list[Part]:
        """What is to be asked for, in order."""
        return list(self._parts.values())

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(part.size for part in self._parts.values())

    async def receive(self, door: Door, content: Body) -> None:
        """Take the fronts, which come next in `content`. Raises as Door.take."""
        for version, part in self._parts.items():
            self._arrivals[version].set_result(await door.take(content, part.size))

    def fail(self, error: MillstreamError) -> None:
        """Tell who waits that those which have not come will not."""
        for arrival in self._arrivals.values():
            if not arrival.done():
                arrival.set_exception(error)

    async def of(self, version: bytes) -> bytes:
        """Return a front as it came, untrusted.

        Raises:
            MillstreamError: it did not come.
        """
        return await asyncio.shield(self._arrivals[version])
