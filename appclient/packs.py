"""Launch packs: what a launch is going to touch, in one long response, before it is asked for.

The request goes out as soon as the server has said where the pack is, while trees are fetched, the bubble is
made and the application starts. Frames are verified (packageformat.launchpack), written to the cache, and
told to the bubble's views, which push their pages into the kernel. A fault for a page that is about to come
waits for it.

Invariants (the loop runs one step at a time; a step ends at an await):

- a bubble has one pack under way for each application; `_packs` holds it until it is done or given up;
- a frame's waiters are settled after its pages are in the cache, or when the pack is given up;
- memory: at most `_FRAMES_AHEAD` frames lie between the network and the writing thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from appclient.door import CapabilityExpiredError, Door
from appclient.errors import AgentError, ServerUnreachableError
from appclient.fronts import Fronts
from appclient.lanes import FAR_SECONDS, Body, Part
from appclient.layer import Layer
from appclient.nearness import is_near
from appclient.packwork import (
    Came,
    Pack,
    came_in,
    files_of,
    frames_here,
    learn,
    order_of,
    pages_of_pack,
    runs_of,
    write_frame,
)
from appclient.session import Origin
from appclient.statistics import Tally
from appclient.together import together
from appclient.updating import Updates
from bubble.launchorder import Run
from packageformat.errors import MillstreamError
from packageformat.launchpack import (
    PREAMBLE_SIZE,
    MissingHashesError,
    PackReader,
    directory_end,
)
from packageformat.pointer import PackReference

_log = logging.getLogger(__name__)

_FRAMES_AHEAD = 16
_REQUESTS = 3
"""Requests at once where frames are skipped."""

_TRIES = 4
_FIRST_GUESS_MIN, _FIRST_GUESS_MAX = 32 << 10, 512 << 10
"""Bytes asked for to have a directory, when frames may be skipped: a 48th of the pack, within these."""

_OPENED_MAX = 16
"""Packs of which is remembered that their directories have come."""

_DIRECTORY_SECONDS = 2.0
"""How long is waited for a pack's directory at most."""

_REST_SECONDS = 3.0
_CALLS, _CALL_BYTES = 16, 512 << 10
"""After the window's part of a pack: so long its rest waits, or until so many faults were for it, at most one
for so many bytes of it. A few are for it in many a launch, and cost a round trip each; all of firefox's rest
is 9 MB, which take 0.7 s."""

_LITTLE = 64
"""What is behind the window's part and at most a 64th of it is part of it: a fault for it takes longer. From
far away all of it is: a stream that begins anew has to grow anew, and a round trip is worth megabytes."""

LayersOf = Callable[[], Awaitable[Sequence[Layer]]]


@dataclass(frozen=True, slots=True)
class _Way:
    """How the packs of one launch are had."""

    door: Door
    origin: Callable[[bool], Awaitable[Origin]]
    layers_of: LayersOf


def _bind(pack: Pack, origin: Origin | None) -> None:
    """Say how much of a pack is brought first, unless that was said."""
    if not pack.bound:
        size = pack.reference.object_size
        window = origin.windows.get(pack.reference.object_digest, 0) if origin is not None else 0
        far = pack.round_trip >= FAR_SECONDS
        pack.window = window or size
        pack.bound = window if window and not far and size - window > window // _LITTLE else size


def _is_near(pack: Pack, frame: int) -> bool:
    elapsed = time.monotonic() - pack.began
    return is_near(pack.coming[frame] - pack.received, pack.received, elapsed, pack.round_trip)


class LaunchPacks:
    """The packs of one user's bubbles. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        writer: Executor,
        complete: Callable[[bytes], Awaitable[Layer]],
        tell: Callable[[bytes, Came], None],
        soon: Callable[[bytes, Sequence[int]], None],
        updates: Updates,
        done: Callable[[bytes, PackReference, list[Run]], None],
        held: Callable[[bytes, PackReference, Mapping[tuple[bytes, int], int]], None],
    ) -> None:
        """Prepare.

        Args:
            writer: one thread, which unpacks frames and writes the cache.
            complete: returns the layer of a version with the rest of its head.
            tell: tells the views of a bubble what has come.
            soon: tells them of which files something is coming, by node, in order.
            updates: brings what an older version and a delta give.
            done: is told that a pack is in the cache, all of it, and of the pages that lead to the window.
            held: is told at the end which pages of a pack were to be brought, by version and block, if its
                directory came.
        """
        self._writer = writer
        self._complete = complete
        self._tell = tell
        self._soon = soon
        self._updates = updates
        self._done = done
        self._held = held
        self._packs: dict[tuple[bytes, str], Pack] = {}
        self._opened: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._tasks: asyncio.TaskGroup | None = None

    def start_in(self, tasks: asyncio.TaskGroup) -> None:
        """Use a group that somebody leaves for what runs in the background."""
        self._tasks = tasks
        self._updates.start_in(tasks)

    @property
    def busy(self) -> bool:
        """Whether a pack is on its way."""
        return any(not pack.resting for pack in self._packs.values())

    def is_coming(self, bubble: bytes) -> bool:
        """Return whether a pack of this bubble is on its way."""
        return any(of == bubble and not pack.resting for (of, _), pack in self._packs.items())

    def bring(
        self,
        bubble: bytes,
        references: Sequence[PackReference],
        door: Door,
        origin: Callable[[bool], Awaitable[Origin]],
        layers_of: LayersOf,
        tally: Tally,
        *,
        fresh: bool,
        fronts: Fronts,
    ) -> None:
        """Begin to bring fronts, and packs that are not on their way already.

        Args:
            bubble: the bubble that is launched.
            references: the packs, in the order in which they shall come.
            door: to the server.
            origin: where the packs can be fetched from; with True, an address newer than the last.
            layers_of: the bubble's layers, bottom first, as soon as their outlines are verified.
            tally: the bubble's counts.
            fresh: nothing of the bubble's packages is here: all of the packs is wanted, in one stream with
                the fronts.
            fronts: what the launch waits for first.
        """
        if self._tasks is None:
            raise AgentError("the agent ends")
        loop = asyncio.get_running_loop()
        packs = []
        for reference in references:
            key = (bubble, reference.application)
            if key not in self._packs:
                pack = Pack(
                    bubble,
                    reference,
                    tally,
                    loop.create_future(),
                    began=time.monotonic(),
                    round_trip=door.round_trip,
                )
                self._packs[key] = pack
                packs.append(pack)
        way = _Way(door, origin, layers_of)
        if fronts.parts or (fresh and packs):
            self._start(self._stream_all(packs if fresh else [], way, fronts))
        for pack in () if fresh else packs:
            self._start(self._bring_all(pack, way), pack)

    def _start(self, work: Coroutine[object, object, None], pack: Pack | None = None) -> None:
        """Begin some work; with its end a pack's is over, however it ended."""
        assert self._tasks is not None
        task = self._tasks.create_task(work)
        if pack is not None:
            task.add_done_callback(lambda _: self._end(pack))

    async def expect(self, bubble: bytes, version: bytes, block: int, pages: int) -> bool:
        """Wait for pages that a pack, or an update, is about to bring; return whether one has brought them.

        Returns at once with False if none will, or not soon: then they are worth a request of their own.
        """
        if await self._updates.expect(version, block):
            return True
        for (of, _), pack in tuple(self._packs.items()):
            if of != bubble:
                continue
            if not pack.directory.done():
                await asyncio.wait([pack.directory], timeout=_DIRECTORY_SECONDS)
            if not pack.directory.done() or not pack.directory.result():
                continue
            frames = pack.frames_of.get((version, block), ())
            wanted = pages
            last = -1
            for frame, bits in frames:
                if wanted & bits and frame in pack.missing:
                    last = max(last, frame)
                wanted &= ~bits
            if last >= 0 and pack.coming[last] > pack.bound:
                pack.called += 1
                if pack.called >= min(_CALLS, (pack.reference.object_size - pack.bound) // _CALL_BYTES):
                    pack.call.set()
                continue
            if last < 0 or wanted or not _is_near(pack, last) or pack.coming[last] > pack.asked:
                continue
            await asyncio.wait([self._arrival(pack, last)])
            if last not in pack.missing:
                return True
        return False

    def _end(self, pack: Pack) -> None:
        key = (pack.bubble, pack.reference.application)
        if self._packs.get(key) is pack:
            del self._packs[key]
        if not pack.directory.done():
            pack.directory.set_result(False)
        for arrival in pack.arrivals.values():
            if not arrival.done():
                arrival.set_result(None)

    async def _stream_all(self, packs: Sequence[Pack], way: _Way, fronts: Fronts) -> None:
        """Bring fronts and packs in one response; what that does not bring of the packs, afterwards."""
        left = deque(packs)
        try:
            origin = await way.origin(False) if packs else None
            paths = {} if origin is None else origin.packs
            parts = []
            for pack in packs:
                _bind(pack, origin)
                path = paths.get(pack.reference.object_digest)
                parts += [] if path is None else [Part(path, 0, pack.bound)]
            if len(parts) != len(packs):
                parts = []  # the server has another one by now: each pack asks anew
            async with way.door.parts([*fronts.parts, *parts]) as content:
                await fronts.receive(way.door, content)
                while left and parts:
                    left[0].tally.requests += 1
                    await self._take_all(left[0], way, content)
                    pack = left.popleft()
                    self._start(self._bring_rest(pack, way), pack)
        except (MillstreamError, OSError) as error:
            fronts.fail(error if isinstance(error, MillstreamError) else ServerUnreachableError(str(error)))
            _log.warning("the stream of a launch has ended early: %s", error)
        except Exception:  # noqa: BLE001 - the launch is owed an answer
            fronts.fail(AgentError("a bug in the agent (the stream of a launch)"))
            _log.exception("the stream of a launch has ended early: a bug")
        except BaseException:
            fronts.fail(AgentError("the agent ends"))
            for pack in left:
                self._end(pack)
            raise
        for pack in left:
            self._start(self._bring_all(pack, way), pack)

    async def _bring_all(self, pack: Pack, way: _Way) -> None:
        """Bring a pack of which frames may be here: first what leads to the window."""
        if await self._bring(pack, way):
            await self._bring_rest(pack, way)
        else:
            await self._tell_held(pack)

    async def _bring_rest(self, pack: Pack, way: _Way) -> None:
        """Bring what is behind the window's part of a pack, once the launch is over or asks for it."""
        await self._tell_held(pack)
        if not pack.is_bound_behind:
            pack.resting = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_REST_SECONDS):
                    await pack.call.wait()
            pack.resting = False
            pack.bound = pack.reference.object_size
            if pack.wanted and not await self._bring(pack, way):
                return
        try:
            order = await asyncio.get_running_loop().run_in_executor(self._writer, order_of, pack)
            self._done(pack.bubble, pack.reference, order)
        except (MillstreamError, OSError) as error:  # such as a disk that the pack has filled
            _log.warning(
                "that the launch pack of %s is here is not noted: %s", pack.reference.application, error
            )
        except Exception:  # noqa: BLE001 - the next launch asks for it again
            _log.exception("that the launch pack of %s is here is not noted", pack.reference.application)

    async def _tell_held(self, pack: Pack) -> None:
        if pack.reader is not None:
            loop = asyncio.get_running_loop()
            pages = await loop.run_in_executor(self._writer, pages_of_pack, pack)
            self._held(pack.bubble, pack.reference, pages)

    async def _bring(self, pack: Pack, way: _Way) -> bool:
        """Bring the frames that are wanted now; return whether they are all here."""
        digest = pack.reference.object_digest
        again = False
        for attempt in range(_TRIES):
            try:
                origin = await way.origin(again)
                path = origin.packs.get(digest)
                if path is None:
                    return False
                _bind(pack, origin)
                await self._fetch_missing(pack, way.door, path, way.layers_of)
            except CapabilityExpiredError:
                again = True
            except MissingHashesError:
                pass  # a frame that was thought to be here was not, wholly: now it is missing
            except ServerUnreachableError as error:
                _log.warning("the launch pack of %s: %s", pack.reference.application, error)
                await asyncio.sleep(0.2 * 2**attempt)
            except (MillstreamError, OSError) as error:
                _log.warning("no launch pack of %s: %s", pack.reference.application, error)
                return False
            except Exception:  # noqa: BLE001 - the launch goes on without it
                _log.exception("no launch pack of %s: a bug", pack.reference.application)
                return False
            else:
                return True
        return False

    async def _take_all(self, pack: Pack, way: _Way, content: Body) -> None:
        """Take all of a pack, which comes next in `content`."""
        pack.began = time.monotonic()
        head = await self._take(pack, way.door, content, PREAMBLE_SIZE)
        head += await self._take(pack, way.door, content, directory_end(head) - PREAMBLE_SIZE)
        await self._open(pack, head, way.layers_of)
        frames = pack.wanted
        end = pack.coming[frames[-1]] if frames else len(head)
        await self._receive(pack, way.door, content, frames)
        await self._take(pack, way.door, content, max(0, pack.bound - end))  # the hint was of no frame's end

    async def _fetch_missing(self, pack: Pack, door: Door, path: str, layers_of: LayersOf) -> None:
        """Bring the directory, then only the frames with pages that are not here."""
        reader = pack.reader
        if reader is not None:
            await self._settle_frames_here(pack)
        else:
            size = pack.reference.object_size
            guess = min(size, max(_FIRST_GUESS_MIN, min(size // 48, _FIRST_GUESS_MAX)))
            pack.tally.requests += 1
            pack.asked = guess
            async with door.part(path, 0, guess) as content:
                head = await self._take(pack, door, content, PREAMBLE_SIZE)
                end = directory_end(head)
                head += await self._take(pack, door, content, min(guess, end) - PREAMBLE_SIZE)
                if end <= guess:
                    reader = await self._open(pack, head, layers_of)
                    await self._settle_frames_here(pack)
                    places = reader.frame_places()
                    whole = [n for n, (start, length) in enumerate(places) if start + length <= guess]
                    await self._receive(pack, door, content, whole)
                    rest = guess - (sum(places[whole[-1]]) if whole else end)
                    await self._take(pack, door, content, rest)
            if reader is None:
                async with door.part(path, guess, end - guess) as content:
                    head += await self._take(pack, door, content, end - guess)
                reader = await self._open(pack, head, layers_of)
                await self._settle_frames_here(pack)
        await self._update(pack, reader)
        pack.asked = pack.reference.object_size
        runs = runs_of(pack.wanted, reader.frame_places())
        queue = asyncio.Semaphore(_REQUESTS)

        async def fetch(run: list[int]) -> None:
            places = reader.frame_places()
            start = places[run[0]][0]
            pack.tally.requests += 1
            part = Part(path, start, sum(places[run[-1]]) - start)
            async with queue, door.parts([part]) as content:  # over lanes, from far away
                await self._receive(pack, door, content, run)

        await together(fetch(run) for run in runs)

    async def _settle_frames_here(self, pack: Pack) -> None:
        loop = asyncio.get_running_loop()
        here = await loop.run_in_executor(self._writer, frames_here, pack)
        self._tell(pack.bubble, here.came)  # views push them, in the order of their use
        for frame in here.frames:
            self._settle(pack, frame)

    async def _update(self, pack: Pack, reader: PackReader) -> None:
        """Have what an older version and a delta give; the pack's frames bring the rest."""
        assert reader.directory is not None
        for number, layer in enumerate(pack.layers):
            if not self._updates.has_delta(layer.version):
                continue
            blocks = [
                extent.block
                for frame in pack.wanted
                for extent in reader.directory.frames[frame].extents
                if extent.layer == number
            ]

            def told(came: Sequence[int], number: int = number, layer: Layer = layer) -> None:
                self._tell(pack.bubble, came_in(pack, number, layer, came))

            if blocks and await self._updates.bring(
                layer.version, list(dict.fromkeys(blocks)), pack.tally, told
            ):
                await self._settle_frames_here(pack)

    async def _take(self, pack: Pack, door: Door, content: Body, size: int) -> bytes:
        data = await door.take(content, size) if size else b""
        pack.received += len(data)
        pack.tally.bytes_received += len(data)
        pack.tally.last_fetch = time.time()
        return data

    async def _open(self, pack: Pack, head: bytes, layers_of: LayersOf) -> PackReader:
        """Check the directory, learn the block ids that it proves, and let faults look into it."""
        reader = PackReader(None, pack.reference.application)
        loop = asyncio.get_running_loop()
        decoding = loop.run_in_executor(self._writer, reader.feed, head)  # while the outlines come
        pack.layers = tuple(await layers_of())
        updated = [layer.version for layer in pack.layers if self._updates.has_delta(layer.version)]
        for version in updated:
            self._updates.prepare(version, pack.tally)
        if not updated:
            pack.asked = pack.reference.object_size  # what is missing is asked for at once
        await decoding
        unnamed = await loop.run_in_executor(self._writer, learn, reader, pack)
        for version in unnamed:
            await self._complete(version)
        pack.reader = reader
        places = reader.frame_places()
        pack.coming = [start + size for start, size in places]
        pack.missing = set(range(len(places)))
        self._opened[pack.bubble, pack.reference.application] = None
        while len(self._opened) > _OPENED_MAX:
            self._opened.popitem(last=False)
        pack.directory.set_result(True)
        self._soon(pack.bubble, await loop.run_in_executor(self._writer, files_of, pack))
        return reader

    def pages_of(self, bubble: bytes, version: bytes, block: int) -> tuple[bool, int, int]:
        """Return what is known of a block from the packs under way that have told what they hold.

        Returns:
            Whether a launch's own is among them, the block's pages in them, and how much of that launch's
            own window's part has come, in thousandths.
        """
        known, bits, come = False, 0, 0
        for (of, _), pack in self._packs.items():
            if of == bubble and pack.directory.done() and pack.directory.result():
                if not pack.beside:
                    known, come = True, min(1000, 1000 * pack.received // max(1, pack.bound))
                for _, pages in pack.frames_of.get((version, block), ()):
                    bits |= pages
        return known, bits, come

    def knows(self, bubble: bytes) -> bool:
        """Return whether a launch pack of the bubble has come, or is coming."""
        return any(of == bubble for of, _ in (*self._packs, *self._opened))

    async def _receive(self, pack: Pack, door: Door, content: Body, frames: Sequence[int]) -> None:
        """Take neighbouring frames from a response, and write each that is missing as the next one comes."""
        assert pack.reader is not None
        places = pack.reader.frame_places()
        queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(_FRAMES_AHEAD)
        loop = asyncio.get_running_loop()

        async def write() -> None:
            while (item := await queue.get()) is not None:
                frame, part = item
                await self._firsts_of(pack, frame)
                came = await loop.run_in_executor(self._writer, write_frame, pack, frame, part)
                self._tell(pack.bubble, came)
                self._settle(pack, frame)

        async def give(item: tuple[int, bytes] | None) -> None:
            """Put an item into the queue, unless nobody takes it any more: a frame could not be written."""
            put = asyncio.ensure_future(queue.put(item))
            try:
                await asyncio.wait([put, writing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                put.cancel()

        writing = asyncio.ensure_future(write())
        try:
            for frame in frames:
                part = await self._take(pack, door, content, places[frame][1])
                if frame in pack.missing:  # else it is here
                    await give((frame, part))
                if writing.done():
                    break
            await give(None)
            await writing
        finally:
            writing.cancel()

    async def _firsts_of(self, pack: Pack, frame: int) -> None:
        """Wait for the frames that bring the hashes by which this one is checked, if they are on their way.

        They are earlier ones, and earlier requests begin first: nobody waits for who waits for him.
        """
        assert pack.reader is not None
        for first in sorted(pack.reader.first_frames(frame)):
            if first < frame and first in pack.missing:
                await asyncio.wait([self._arrival(pack, first)])

    def _arrival(self, pack: Pack, frame: int) -> asyncio.Future[None]:
        arrival = pack.arrivals.get(frame)
        if arrival is None:
            arrival = pack.arrivals[frame] = asyncio.get_running_loop().create_future()
        return arrival

    def _settle(self, pack: Pack, frame: int) -> None:
        pack.missing.discard(frame)
        arrival = pack.arrivals.pop(frame, None)
        if arrival is not None and not arrival.done():
            arrival.set_result(None)
