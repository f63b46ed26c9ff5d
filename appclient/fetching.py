"""The fetch engine: brings blocks into the cache, those that somebody waits for before all others.

Invariants (the loop runs one step at a time; a step ends at an await):

- a frame is fetched by one job at a time, whoever wants it; `_jobs` holds it until its blocks are in the
  cache or it has failed;
- a job is in exactly one place: a queue (not started) or a worker's batch (started);
- two of the workers take nothing but faults, so a fault waits for no read-ahead;
- memory: each worker holds one stored frame at a time, queues hold numbers only, read-ahead is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from appclient.door import CapabilityExpiredError, Door
from appclient.errors import ServerUnreachableError, ServerUntrustedError, storage_error
from appclient.lanes import farness
from appclient.layer import Layer
from appclient.readahead import ReadAhead
from appclient.roughly import RoughFetching
from appclient.session import Origin, Session
from appclient.statistics import Tally
from packageformat.errors import CorruptBlockError, MillstreamError
from packageformat.layout import RoughLayout

_log = logging.getLogger(__name__)

WORKERS = 6
WORKERS_FOR_FAULTS = 2
FAULT_BYTES = 256 << 10
"""Stored bytes fetched with a fault: its frame and those that follow it, in the order of installation."""

AHEAD_BYTES = 1 << 20
"""Stored bytes of one request that nobody waits for."""

AHEAD_JOBS_MAX = 512
PATIENCE_SECONDS = 30.0
"""How long the server may be gone before an application's read fails with EIO."""

_BACKOFF_FIRST, _BACKOFF_MOST = 0.1, 2.0
_RENEWALS_MOST = 3
_DAMAGED_MAX = 64


class Urgency(IntEnum):
    """Who waits."""

    FAULT = 0
    AHEAD = 1


class _LayoutChangedError(Exception):
    """The server has another layout of this version now: find the frame again."""


@dataclass(slots=True, eq=False)
class _Job:
    layer: Layer
    frame: int
    urgency: Urgency
    tally: Tally
    arrival: asyncio.Future[None]
    wanted: set[int] = field(default_factory=set)
    started: bool = False
    alone: bool = False

    @property
    def key(self) -> tuple[bytes, int]:
        return self.layer.version, self.frame

    @property
    def stored_size(self) -> int:
        return self.layer.package.frame_extent(self.frame)[1]


class Fetching:
    """The engine. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        session: Callable[[], Session],
        layer_of: Callable[[bytes, Origin | None], Awaitable[Layer]],
        complete: Callable[[bytes], Awaitable[Layer]],
        rough_layout: Callable[[bytes], Awaitable[RoughLayout]],
        writer: Executor,
        cache: Path,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            session: the sign-in of now; raises NotSignedInError.
            layer_of: the layer of a version; with an origin, one with exactly that origin's layout.
            complete: the layer of a version with the rest of its head.
            rough_layout: where a version's frames are, unproved, without that rest.
            writer: one thread, which unpacks frames and writes the cache.
            cache: the cache's folder, for messages.
            patience: seconds, see PATIENCE_SECONDS.
        """
        self._trouble = ""  # one line; any frame that arrives ends it
        self._came_damaged: OrderedDict[tuple[bytes, int], str] = OrderedDict()  # until that frame arrives
        self._session = session
        self._layer_of = layer_of
        self._complete = complete
        self._roughly = RoughFetching(
            layout=rough_layout,
            where=self._where,
            writer=writer,
            farness=lambda: farness(self._session().door.round_trip),
        )
        self._writer = writer
        self._cache = cache
        self._patience = patience
        self._jobs: dict[tuple[bytes, int], _Job] = {}
        self._queues: dict[Urgency, OrderedDict[tuple[bytes, int], _Job]] = {
            urgency: OrderedDict() for urgency in Urgency
        }
        self._wake = asyncio.Event()
        self._read_ahead = ReadAhead()
        self._origins: dict[bytes, Origin] = {}
        self._renewing = asyncio.Lock()
        self._down_since: float | None = None  # monotonic seconds

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start the workers in a group that somebody leaves."""
        for number in range(WORKERS):
            tasks.create_task(self._work(faults_only=number < WORKERS_FOR_FAULTS))

    def know(self, origins: Iterable[Origin]) -> None:
        """Remember where packages can be fetched from."""
        for origin in origins:
            self._origins[origin.pointer.version_id] = origin

    def forget_origins(self) -> None:
        """Forget all addresses: somebody else signed in."""
        self._origins.clear()

    @property
    def trouble(self) -> str:
        """Why blocks do not come, in one line for people; empty if they do."""
        return self._trouble or next(reversed(self._came_damaged.values()), "")

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._jobs)

    async def bring(
        self,
        version: bytes,
        block: int,
        urgency: Urgency,
        tally: Tally,
        *,
        pages: int = 0,
        alone: bool = False,
    ) -> None:
        """Return when a block, or those pages of it, are in the cache; readers of one frame share one fetch.

        Args:
            version: the package's.
            block: number in that package.
            urgency: who waits.
            tally: what counts it.
            pages: bit n: page n of the block; 0 means all.
            alone: do not fetch what lies behind it: a launch pack brings what belongs to it.

        Raises:
            MillstreamError: it cannot be had.
            OSError: it cannot be kept.
        """
        for _ in range(4):
            layer = await self._layer_of(version, None)
            if layer.has_pages(block, pages):
                return
            if not layer.is_complete and await self._roughly.bring(layer, block, tally, alone=alone):
                return
            layer = await self._completed(version)
            if layer.has_pages(block, pages):
                return
            job = self._job(layer, layer.frame_of(block), urgency, tally)
            job.wanted.add(block)
            job.alone = alone
            if not alone:
                self._look_ahead(layer, block, tally)
            self._wake.set()
            try:
                await asyncio.shield(job.arrival)  # a reader that leaves spares the others
            except _LayoutChangedError:
                continue
        layer = await self._layer_of(version, None)
        if not layer.has_block(block):
            raise ServerUnreachableError(f"{layer.describe(block)} does not stay in the cache")

    async def _completed(self, version: bytes) -> Layer:
        try:
            return await self._complete(version)
        except MillstreamError as error:
            self._trouble = error.line()
            raise

    async def damaged(self, version: bytes, block: int, tally: Tally) -> None:
        """Forget a block that a view found damaged in the cache."""
        layer = await self._complete(version)
        _log.warning("damaged in the cache, fetched again: %s", layer.describe(block))
        tally.damaged += 1
        layer.forget_block(block)

    def _look_ahead(self, layer: Layer, block: int, tally: Tally) -> None:
        entry, number, count = layer.file_of(block)
        for following in self._read_ahead.following((layer.version, entry), number, count):
            if len(self._queues[Urgency.AHEAD]) >= AHEAD_JOBS_MAX:
                break
            frame = layer.frame_of(block - number + following)
            if (layer.version, frame) not in self._jobs and not layer.has_frame(frame):
                self._job(layer, frame, Urgency.AHEAD, tally)

    def _job(self, layer: Layer, frame: int, urgency: Urgency, tally: Tally) -> _Job:
        """Return the job of a frame: the one under way, made more urgent if need be, or a new one."""
        job = self._jobs.get((layer.version, frame))
        if job is None:
            job = self._new_job(layer, frame, urgency, tally)
            self._queues[urgency][job.key] = job
        elif urgency < job.urgency:
            if not job.started:
                del self._queues[job.urgency][job.key]
                self._queues[urgency][job.key] = job
            job.urgency = urgency
        return job

    def _new_job(self, layer: Layer, frame: int, urgency: Urgency, tally: Tally) -> _Job:
        arrival = asyncio.get_running_loop().create_future()
        arrival.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait
        job = _Job(layer, frame, urgency, tally, arrival)
        self._jobs[job.key] = job
        return job

    async def _work(self, *, faults_only: bool) -> None:
        while True:
            batch = self._next_batch(faults_only=faults_only)
            if not batch:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._fetch(deque(batch))
            except Exception as bug:  # noqa: BLE001 - readers in bubbles are owed a reply
                _log.exception("fetching failed: a bug")
                self._fail(batch, bug)

    def _next_batch(self, *, faults_only: bool) -> list[_Job]:
        """Take the most urgent frame, and those that lie right behind it in the package file."""
        for urgency, queue in self._queues.items():
            if queue and (urgency is Urgency.FAULT or not faults_only):
                _, job = queue.popitem(last=False)
                break
        else:
            return []
        job.started = True
        batch = [job]
        if job.alone:
            return batch
        size = job.stored_size
        limit = FAULT_BYTES if job.urgency is Urgency.FAULT else AHEAD_BYTES
        for frame in range(job.frame + 1, job.layer.frame_count):
            size += job.layer.package.frame_extent(frame)[1]
            if size > limit:
                break
            following = self._jobs.get((job.layer.version, frame))
            if following is None:
                if job.urgency is not Urgency.FAULT or job.layer.has_frame(frame):
                    break
                following = self._new_job(job.layer, frame, Urgency.AHEAD, job.tally)
            elif following.started or following.layer is not job.layer:
                break
            else:
                del self._queues[following.urgency][following.key]
            following.started = True
            batch.append(following)
        return batch

    async def _fetch(self, pending: deque[_Job]) -> None:
        """Bring neighbouring frames, and end each one's job."""
        pause = _BACKOFF_FIRST
        renewals = 0
        came_damaged: set[_Job] = set()
        while pending:
            try:
                await self._stream(pending)
            except CapabilityExpiredError as error:
                renewals += 1
                self._origins.pop(pending[0].layer.version, None)
                if renewals > _RENEWALS_MOST:
                    refused = ServerUntrustedError("the server refuses addresses that it has just given out")
                    refused.__cause__ = error
                    self._fail(pending, refused)
            except ServerUnreachableError as error:
                nobody = all(not job.wanted for job in pending)
                if self._gone(error) or nobody:
                    self._fail(pending, error)
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _BACKOFF_MOST)
            except CorruptBlockError as error:
                self._damaged_on_the_way(pending, came_damaged, error)
            except _LayoutChangedError as change:
                self._fail(pending, change)
            except OSError as error:
                self._trouble = storage_error("writing the cache", self._cache, error).line()
                _log.error("%s", self._trouble)
                self._fail(pending, error)
            except MillstreamError as error:
                self._trouble = error.line()
                _log.error("%s", self._trouble)
                self._fail(pending, error)
            else:
                pause = _BACKOFF_FIRST

    async def _stream(self, pending: deque[_Job]) -> None:
        """Fetch frames that are neighbours with one request, each done as its bytes are there."""
        layer, tally = pending[0].layer, pending[0].tally
        origin = await self._origin(layer)
        door = self._session().door
        start, _ = layer.package.frame_extent(pending[0].frame)
        end = sum(layer.package.frame_extent(pending[-1].frame))
        tally.requests += 1
        async with door.part(origin.path, start, end - start) as content:
            while pending:
                job = pending[0]
                stored = await door.take(content, job.stored_size)
                tally.bytes_received += len(stored)
                tally.last_fetch = time.time()
                self._down_since = None
                count = await asyncio.get_running_loop().run_in_executor(
                    self._writer, layer.write_frame, job.frame, stored, frozenset(job.wanted)
                )
                tally.blocks_fetched += count
                if not job.wanted:
                    tally.blocks_ahead += count
                self._trouble = ""
                self._came_damaged.pop(job.key, None)
                pending.popleft()
                self._end(job)
                if not job.arrival.done():
                    job.arrival.set_result(None)

    def known_origin(self, version: bytes) -> Origin | None:
        """Return where a package was when the server last said so; None if it has not."""
        return self._origins.get(version)

    async def origin(self, version: bytes, *, newer: bool = False) -> Origin:
        """Return where a package is now; asks the server if that is not known (or too old), once for all.

        Raises:
            MillstreamError: the server does not say.
        """
        before = self._origins.get(version)
        async with self._renewing:
            origin = self._origins.get(version)
            if origin is None or origin.expires <= time.time() + 5 or (newer and origin is before):
                found = await self._session().origins([version])
                origin = self._origins[version] = found[version]
            return origin

    async def _origin(self, layer: Layer) -> Origin:
        """Return where a layer's package is now, if that is still laid out as the layer is."""
        origin = await self.origin(layer.version)
        if origin.pointer.object_digest != layer.object_digest:
            await self._layer_of(layer.version, origin)
            raise _LayoutChangedError
        return origin

    async def _where(self, layer: Layer) -> tuple[Door, str]:
        """Return how a layer's package is reached. Raises ServerUnreachableError if it is laid out anew."""
        try:
            return self._session().door, (await self._origin(layer)).path
        except _LayoutChangedError as change:
            raise ServerUnreachableError(f"{layer.name} has another layout now") from change

    def _damaged_on_the_way(
        self, pending: deque[_Job], came_damaged: set[_Job], error: CorruptBlockError
    ) -> None:
        """A frame came damaged: ask once more, then give it up."""
        job = pending[0]
        job.tally.corrupt += 1
        where = job.layer.describe(job.layer.package.layout.blocks(job.frame)[0])
        told = CorruptBlockError(
            f"the server or a proxy sent a damaged frame ({where}): {error}",
            expected=error.expected,
            hint="tell the administrator: 'streamserver' can verify its packages; the block was not used",
        )
        told.__cause__ = error
        _log.error("%s", told.line())
        self._came_damaged[job.key] = told.line()
        if len(self._came_damaged) > _DAMAGED_MAX:
            self._came_damaged.popitem(last=False)
        if job in came_damaged:
            self._fail([job], told)
            pending.popleft()
        came_damaged.add(job)

    def _gone(self, error: ServerUnreachableError) -> bool:
        """Note that the server is gone; return whether that has lasted too long."""
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
            _log.warning("%s", error)
        self._trouble = f"{error}; trying again, or check the network"
        return now - self._down_since >= self._patience

    def _fail(self, jobs: Iterable[_Job], error: Exception) -> None:
        failed = list(jobs)
        if isinstance(jobs, deque):
            jobs.clear()
        for job in failed:
            self._end(job)
            if not job.arrival.done():
                job.arrival.set_exception(error)

    def _end(self, job: _Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
