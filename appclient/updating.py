"""Blocks of a new version from what the cache holds of an old one: copies, and the frames of a delta.

The choosing and decoding is in `deltas`, without network; here are the requests and the writes. The frames
that a launch needs are small and many: they come in a few streams, in the order of their use, and a fault for
one of them waits for it. Whatever goes wrong costs only what was tried: the package, or its launch pack, has
every block.

Invariants (the loop runs one step at a time; a step ends at an await):

- a version has at most one flow, from `bring` until that ends, however it ends; then nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor

from appclient.deltas import FIRST_BYTES, PREAMBLE_SIZE, Span, Update, delta_head_size
from appclient.door import CapabilityExpiredError, Door
from appclient.lanes import Part
from appclient.layer import Layer
from appclient.session import DeltaReference, Origin
from appclient.statistics import Tally
from appclient.together import together
from appclient.updateflow import Flow
from packageformat.delta import UnpackedFrame
from packageformat.errors import MillstreamError

_log = logging.getLogger(__name__)

_KEPT = 2
"""Deltas whose directories stay in memory."""

SPANS_MAX = 24
"""Of one stream (streamserver/PROTOCOL.md, *Objects*)."""

REST_SECONDS = 3.0
"""After what was wanted of a delta, before the blocks are written that came with it: a launch takes less."""

REST_BYTES_MAX = 64 << 20
"""Of unpacked frames of one version that are kept in memory meanwhile."""

_BATCH, _ARRIVED = 8, 64
"""Frames that are written at a time, and that may wait for it."""

_COPIES = 128
"""Blocks that are copied at a time: 8 MiB in memory."""

_STREAMS = 3
"""At once: the next one's first bytes are here when the last one's end."""

Told = Callable[[Sequence[int]], None]
"""Told of blocks that are in the cache now."""


class Updates:
    """The deltas of one user's packages. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        complete: Callable[[bytes], Awaitable[Layer]],
        origin_of: Callable[[bytes], Origin | None],
        door: Callable[[], Door],
        writer: Executor,
    ) -> None:
        """Prepare.

        Args:
            complete: returns the layer of a version with the rest of its head.
            origin_of: where a version is, and the deltas to it, as the server last said.
            door: to the server.
            writer: one thread, which unpacks frames and writes the cache.
        """
        self._complete = complete
        self._origin_of = origin_of
        self._door = door
        self._writer = writer
        self._known: OrderedDict[bytes, asyncio.Task[Update]] = OrderedDict()  # by the digest of the delta
        self._flows: dict[bytes, Flow] = {}  # by version
        self._turns: dict[bytes, asyncio.Lock] = {}
        self._rests: dict[bytes, _Rest] = {}  # by version
        self._tasks: asyncio.TaskGroup | None = None

    def start_in(self, tasks: asyncio.TaskGroup) -> None:
        """Use a group that somebody leaves for what runs in the background."""
        self._tasks = tasks

    def has_delta(self, version: bytes) -> bool:
        """Return whether the server has told of a delta to this version from one that is here."""
        origin = self._origin_of(version)
        return origin is not None and bool(origin.deltas)

    def prepare(self, version: bytes, tally: Tally) -> None:
        """Begin to fetch what says what the first delta to a version gives: `bring` is going to ask."""
        origin = self._origin_of(version)
        for reference in origin.deltas[:1] if origin is not None else ():
            self._learn(reference, version, tally)

    async def expect(self, version: bytes, block: int) -> bool:
        """Wait for a block that a delta or an old version is about to give; return whether one has."""
        rest = self._rests.get(version)
        if rest is not None and block in rest.frames:
            return await asyncio.get_running_loop().run_in_executor(self._writer, rest.write, [block])
        flow = self._flows.get(version)
        return flow is not None and await flow.expect(block)

    async def _finish(self, version: bytes) -> None:
        """Write what frames of deltas have brought beside what was wanted, when the launch is over."""
        await asyncio.sleep(REST_SECONDS)
        async with self._turns.setdefault(version, asyncio.Lock()):  # another pack may be adding to it
            rest = self._rests.get(version)
            if rest is None:
                return
            loop = asyncio.get_running_loop()
            try:
                for blocks in rest.by_frame():
                    await loop.run_in_executor(self._writer, rest.write, blocks)
            except Exception:  # noqa: BLE001 - whoever wants such a block asks for it
                _log.exception("what an update has left is dropped: a bug")
            finally:
                del self._rests[version]

    async def bring(self, version: bytes, blocks: Sequence[int], tally: Tally, told: Told) -> bool:
        """Bring those of `blocks` that an old version and a delta give, first wanted first.

        Args:
            version: the new one.
            blocks: of it, in the order of their use.
            tally: what counts it.
            told: told of blocks as they come.

        Returns:
            Whether anything came. What did not come is to be had from the package, or its launch pack.
        """
        async with self._turns.setdefault(version, asyncio.Lock()):  # of two packs each brings its own
            flow = self._flows[version] = Flow(blocks)
            try:
                await self._bring(version, blocks, tally, flow, told)
            except BaseException:
                self._rests.pop(version, None)
                raise
            finally:
                del self._flows[version]
                flow.end()
            if self._tasks is not None and version in self._rests:
                self._tasks.create_task(self._finish(version))
            return bool(flow.came)

    async def _bring(
        self, version: bytes, blocks: Sequence[int], tally: Tally, flow: Flow, told: Told
    ) -> None:
        def came(some: Sequence[int]) -> None:
            flow.take(some)
            told(some)

        origin = self._origin_of(version)
        for reference in origin.deltas if origin is not None else ():
            try:
                update = await asyncio.shield(self._learn(reference, version, tally))
                await self._apply(update, reference, blocks, tally, flow, came, version)
            except CapabilityExpiredError:
                _log.info("the address of a delta is too old: the package has the blocks")
            except (MillstreamError, OSError) as error:
                _log.warning("a delta is of no use: %s", error)
            else:
                break
            finally:
                flow.pause()

    def _learn(self, reference: DeltaReference, version: bytes, tally: Tally) -> asyncio.Task[Update]:
        """Return what fetches the head of a delta, or has."""
        known = self._known.get(reference.digest)
        if known is None:
            known = asyncio.get_running_loop().create_task(self._read(reference, version, tally))
            known.add_done_callback(lambda task: self._forget_failed(reference.digest, task))
            self._known[reference.digest] = known
        self._known.move_to_end(reference.digest)
        done = [digest for digest, task in self._known.items() if task.done()]
        for digest in done[: max(0, len(self._known) - _KEPT)]:  # those that run are held by nobody else
            del self._known[digest]
        return known

    def _forget_failed(self, digest: bytes, task: asyncio.Task[Update]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._known.get(digest) is task:
            del self._known[digest]

    async def _read(self, reference: DeltaReference, version: bytes, tally: Tally) -> Update:
        fetching = asyncio.ensure_future(self._fetch_head(reference, tally))
        try:
            old, new = await self._complete(reference.old_version), await self._complete(version)
            head = await fetching
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)  # nobody else looks how it ended
        return await asyncio.get_running_loop().run_in_executor(self._writer, Update.read, head, old, new)

    async def _fetch_head(self, reference: DeltaReference, tally: Tally) -> bytes:
        door = self._door()
        first = min(FIRST_BYTES, reference.size)
        head = await _part(door, reference.path, 0, first, tally)
        size = delta_head_size(head[:PREAMBLE_SIZE])
        if size > first:
            head += await _part(door, reference.path, first, size - first, tally)
        return head[:size]

    async def _apply(
        self,
        update: Update,
        reference: DeltaReference,
        blocks: Sequence[int],
        tally: Tally,
        flow: Flow,
        came: Told,
        version: bytes,
    ) -> None:
        loop = asyncio.get_running_loop()
        layer = await self._complete(version)
        order = await loop.run_in_executor(self._writer, update.order, blocks)
        spans = update.spans(order.frames) if order.delta_bytes < order.plain_bytes else []
        gives = _given_by(update, layer, order.frames if spans else (), blocks)
        due = dict.fromkeys(order.copies, 0)
        end = 0
        for span in spans:
            for frame, _, reached in span.frames:
                due |= dict.fromkeys(gives[frame], end + reached)
            end += span.size
        flow.begin(due)
        rest = self._rests.setdefault(version, _Rest(layer))
        streams = asyncio.Semaphore(_STREAMS)
        arrived: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_ARRIVED)

        async def copy() -> None:
            for start in range(0, len(order.copies), _COPIES):
                some = order.copies[start : start + _COPIES]
                copied = await loop.run_in_executor(self._writer, _copy, update, layer, some)
                if copied:
                    came(copied)
                flow.drop(some)

        async def fetch(some: Sequence[Span]) -> None:
            parts = [Part(reference.path, span.offset, span.size) for span in some]
            door = self._door()
            async with streams, door.parts(parts) as content:
                tally.requests += 1
                for span in some:
                    data = await door.take(content, span.size)
                    tally.bytes_received += len(data)
                    tally.delta_bytes += len(data)
                    flow.received += len(data)
                    for frame, start, end in span.frames:
                        await arrived.put((frame, data[start:end]))

        async def write() -> None:
            """Write what has arrived, several frames at a time: to change threads may take as long as one."""
            left = len(order.frames) if spans else 0
            while left:
                batch = [await arrived.get()]
                while len(batch) < _BATCH and not arrived.empty():
                    batch.append(arrived.get_nowait())
                left -= len(batch)
                written, failure = await loop.run_in_executor(
                    self._writer, _write, update, layer, batch, gives, rest
                )
                for frame in written:
                    came(gives[frame])
                if failure is not None:
                    raise failure
                for frame, _ in batch:
                    flow.drop(gives[frame])  # those that could not be

        requests = [spans[start : start + SPANS_MAX] for start in range(0, len(spans), SPANS_MAX)]
        frames = together([*map(fetch, requests), write()])
        # Copied is while the first answer comes, and whatever becomes of the frames.
        for result in await asyncio.gather(copy(), frames, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


class _Rest:
    """Blocks of a version that came in one frame with those that a launch needs: they are written later."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._size = 0
        self.frames: dict[int, UnpackedFrame] = {}  # by block

    def keep(self, unpacked: UnpackedFrame, besides: Collection[int]) -> None:
        """Keep a frame for the sake of its blocks but these; in the writing thread."""
        blocks = [block for block in unpacked.blocks if block not in besides]
        if self._size + unpacked.size > REST_BYTES_MAX:
            self._write([(block, unpacked) for block in blocks])
        elif blocks:
            self._size += unpacked.size
            self.frames |= dict.fromkeys(blocks, unpacked)

    def by_frame(self) -> list[list[int]]:
        """Return the blocks that are left, those of one frame together."""
        frames: dict[int, list[int]] = {}
        for block, unpacked in tuple(self.frames.items()):
            frames.setdefault(id(unpacked), []).append(block)
        return list(frames.values())

    def write(self, blocks: Iterable[int]) -> bool:
        """Write some of the blocks, in the writing thread; return whether they are in the cache now."""
        return self._write([(block, self.frames.pop(block)) for block in blocks if block in self.frames])

    def _write(self, blocks: Iterable[tuple[int, UnpackedFrame]]) -> bool:
        try:
            self._layer.write_blocks([(block, unpacked.block(block)) for block, unpacked in blocks], ())
        except (MillstreamError, OSError) as error:
            _log.warning("blocks of a delta are of no use: %s", error)
            return False
        return True


def _copy(update: Update, layer: Layer, blocks: Sequence[int]) -> list[int]:
    """Write those of some blocks that the old version has as they are; in the writing thread."""
    copied = dict(update.copies(blocks))
    layer.write_blocks(copied.items(), ())
    return list(copied)


def _given_by(
    update: Update, layer: Layer, frames: Sequence[int], wanted: Sequence[int]
) -> dict[int, list[int]]:
    """Return which of the wanted blocks frames of a delta give: their own, and those with the same bytes."""
    id_of = layer.package.block_id
    same: dict[bytes, list[int]] = {}
    for block in wanted:
        same.setdefault(id_of(block), []).append(block)
    return {
        frame: list(
            dict.fromkeys(
                one
                for block in update.delta.directory.frames[frame].blocks
                for one in same.get(id_of(block), ())
            )
        )
        for frame in frames
    }


def _write(
    update: Update,
    layer: Layer,
    batch: Sequence[tuple[int, bytes]],
    gives: Mapping[int, Sequence[int]],
    rest: _Rest,
) -> tuple[list[int], MillstreamError | OSError | None]:
    """Unpack frames of a delta and write what they give, in the writing thread.

    Args:
        update: the delta.
        layer: of the new version.
        batch: frames, as stored.
        gives: of each frame, which blocks are wanted.
        rest: takes those that are not.

    Returns:
        The frames that could be written, and why it ended before the last one, if it did.
    """
    id_of = layer.package.block_id
    written: list[int] = []
    for frame, stored in batch:
        try:
            unpacked = update.unpack(frame, stored)
            if unpacked is None:
                continue
            wanted = set(map(id_of, gives[frame]))
            now = [block for block in unpacked.blocks if id_of(block) in wanted]
            layer.write_blocks([(block, unpacked.block(block)) for block in now], gives[frame])
        except (MillstreamError, OSError) as error:
            return written, error
        written.append(frame)
        rest.keep(unpacked, set(now))
    return written, None


async def _part(door: Door, path: str, offset: int, size: int, tally: Tally) -> bytes:
    tally.requests += 1
    async with door.part(path, offset, size) as content:
        data = await door.take(content, size)
    tally.bytes_received += size
    tally.delta_bytes += size
    return data
