"""Brings blocks before the rest of their package's head has come, by what the launch pack has proved.

A pack's directory proves the ids of all blocks of every file that it touches. What a launch then misses in
such a file needs only the layout (30 KB), not the rest of the head (500 KB, and its check). While the line is
idle, the blocks around it come along: what one launch misses lies together, mostly (three pages of one font).

Invariant: a frame is fetched once at a time; `_coming` holds it until its blocks are in the cache, or not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor

from appclient.door import Door
from appclient.layer import Layer
from appclient.statistics import Tally
from packageformat.errors import MillstreamError
from packageformat.layout import RoughLayout

_log = logging.getLogger(__name__)

AROUND_BYTES = 96 << 10
"""Stored bytes fetched along before a block, and as many behind it; of its file only. A third of it in a file
of more than LARGE_FILE bytes: what a launch misses of firefox's libxul (150 MB) lies further apart. For a
server 20 ms away: from one further away as many times more comes."""

LARGE_FILE = 8 << 20

SMALL_FILE = 1 << 20
"""Of a file of up to so many bytes (a font), all of it is fetched along."""

Where = Callable[[Layer], Awaitable[tuple[Door, str]]]
"""Gives the door and the address of a layer's package, as it is laid out."""


class RoughFetching:
    """Fetches by rough layouts. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        layout: Callable[[bytes], Awaitable[RoughLayout]],
        where: Where,
        writer: Executor,
        farness: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            layout: where a version's frames are, unproved.
            where: where a layer's package can be fetched from.
            writer: one thread, which unpacks frames and writes the cache.
            farness: tells how far away the server is (`lanes.farness`).
        """
        self._farness = farness
        self._layout = layout
        self._where = where
        self._writer = writer
        self._coming: dict[tuple[bytes, int], asyncio.Future[bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def bring(self, layer: Layer, block: int, tally: Tally, *, alone: bool) -> bool:
        """Bring a block; return whether it is in the cache now. If not, it needs the whole head.

        Args:
            layer: of a package of which only the front has come.
            block: its number there.
            tally: what counts it.
            alone: the line is busy: nothing comes along.
        """
        if not layer.knows_id(block):
            return False
        try:
            layout = await self._layout(layer.version)
        except MillstreamError as error:
            _log.info("no layout: %s", error)
            return False
        frame = layout.frame_of.get(block)
        if frame is None:
            return False
        coming = self._coming.get((layer.version, frame))
        if coming is None:
            coming = self._start(layer, layout, [frame], tally, ahead=False)
        if not alone:
            far = self._farness()
            for run in _around(layer, layout, block, far, lambda one: (layer.version, one) in self._coming):
                self._start(layer, layout, run, tally, ahead=True)
        return await asyncio.shield(coming)

    def _start(
        self, layer: Layer, layout: RoughLayout, run: Sequence[int], tally: Tally, *, ahead: bool
    ) -> asyncio.Future[bool]:
        """Begin to fetch neighbouring frames with one request; return the arrival of the first."""
        loop = asyncio.get_running_loop()
        arrivals = {frame: loop.create_future() for frame in run}
        self._coming |= {(layer.version, frame): arrival for frame, arrival in arrivals.items()}
        task = loop.create_task(self._fetch(layer, layout, arrivals, tally, ahead=ahead))
        self._tasks.add(task)

        def end(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            for frame, arrival in arrivals.items():
                del self._coming[layer.version, frame]
                if not arrival.done():
                    arrival.set_result(False)

        task.add_done_callback(end)
        return arrivals[run[0]]

    async def _fetch(
        self,
        layer: Layer,
        layout: RoughLayout,
        arrivals: dict[int, asyncio.Future[bool]],
        tally: Tally,
        *,
        ahead: bool,
    ) -> None:
        frames = list(arrivals)
        start, end = layout.places[frames[0]][0], sum(layout.places[frames[-1]])
        loop = asyncio.get_running_loop()
        tally.requests += 1
        try:
            door, path = await self._where(layer)
            async with door.part(path, start, end - start) as content:
                for frame in frames:
                    stored = await door.take(content, layout.places[frame][1])
                    tally.bytes_received += len(stored)
                    tally.last_fetch = time.time()
                    count = await loop.run_in_executor(
                        self._writer, layer.write_known_blocks, layout.frames[frame], stored
                    )
                    tally.blocks_fetched += count
                    if ahead:
                        tally.blocks_ahead += count
                    arrivals[frame].set_result(True)
        except (MillstreamError, OSError) as error:
            _log.info("a block is fetched with the whole head: %s", error)


def _around(
    layer: Layer, layout: RoughLayout, block: int, far: float, is_coming: Callable[[int], bool]
) -> Iterator[list[int]]:
    """Give the frames behind, and those before, the frame of a block: of its file alone, and not here yet."""
    frame = layout.frame_of[block]
    entry, _, _ = layer.file_of(block)
    whole = layer.tree.file_size(entry)
    around = far * (AROUND_BYTES if whole <= LARGE_FILE else AROUND_BYTES // 3)
    most = SMALL_FILE if whole <= SMALL_FILE else around
    for step in (1, -1):
        run: list[int] = []
        size = 0
        one = frame + step
        while 0 <= one < len(layout.places):
            blocks = layout.frames[one]
            size += layout.places[one][1]
            if size > most or is_coming(one) or len(blocks) != 1 or not layer.has_entry(blocks[0], entry):
                break
            if layer.has_block(blocks[0]):
                break
            run.append(one)
            one += step
        if run:
            yield sorted(run)
