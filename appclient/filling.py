"""The background fill: brings the rest of packages into the cache, strictly behind whoever waits.

What is missing is looked up in the cache (`missing`), so a fill that was cut off, by the agent's end or by
anything else, goes on where it was. Small pieces over one connection of its own, no piece while an
application waits or is being launched; a fault ends the piece that is on its way (`fillpolicy.Road`). A
version of which every block is found in the cache gets its mark (`Heads.note_whole`), whoever brought them.

Invariants (the loop runs one step at a time; a step ends at an await):

- one piece is on its way at a time; `_reading` is its task, `_left` what is still to come of it;
- between the look that found nothing missing and the mark there is no await, and `_look` was not called
  since that look began;
- memory: one frame and one piece.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from appclient.bubbles import Bubbles
from appclient.door import CapabilityExpiredError, Door
from appclient.errors import ServerUntrustedError, storage_error
from appclient.fillpolicy import Pace, Road, Wanted, obstacle, runs_of, versions_to_fill
from appclient.layer import Layer
from appclient.metered import is_metered
from appclient.missing import Gap, MissingFrames
from appclient.session import Origin, Session
from appclient.settings import Metered, Settings, SettingsFile
from bubble.cachefile import CacheFolder
from packageformat.errors import CorruptBlockError, MillstreamError

_log = logging.getLogger(__name__)

ABORT_ABOVE = 32 << 10
"""A piece of which no more than this is to come is not ended by a fault: a new connection costs as much."""

_TAKE = 16 << 10
_LOOK_AT = 128
"""Contents that are looked at in one go; a fault waits for no more."""

_POLL_SECONDS = 2.0
_BUSY_SECONDS = 0.05
_AGAIN_SECONDS = 30.0
_DAMAGED_SECONDS = 600.0
_METERED_SECONDS = 30.0
_RENEWALS_MOST = 3


@dataclass(slots=True)
class Progress:
    """How far a version is."""

    name: str
    plain_bytes: int = 0
    bytes_here: int = 0
    stored_left: int = 0  # bytes still to be fetched
    whole: bool = False


@dataclass(slots=True)
class FillState:
    """How the fill stands, for `status`."""

    doing: str = "rests"  # rests, looks, fills, waits
    reason: str = ""  # why it waits, one line
    bytes_received: int = 0  # since the agent began
    pieces: int = 0
    pieces_ended: int = 0  # of them, by a fault
    rate: float = 0.0  # bytes a second, lately
    versions: dict[bytes, Progress] = field(default_factory=dict)


class _ChangedError(Exception):
    """Something happened that makes looking again necessary."""


class Filling:
    """The fill. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        session: Callable[[], Session],
        bubbles: Bubbles,
        origin: Callable[..., Awaitable[Origin]],
        writer: Executor,
        cache: CacheFolder,
        settings: SettingsFile,
        published: Callable[[], Iterable[Wanted]],
        is_busy: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            session: the sign-in of now; raises NotSignedInError.
            bubbles: the packages.
            origin: where a version can be fetched from; `newer=True`: an address newer than the last.
            writer: the thread that writes the cache.
            cache: the cache.
            settings: the user's.
            published: what is published now; used: seconds since 1970.
            is_busy: whether somebody waits, or the cache is being worked on.
        """
        self._session = session
        self._bubbles = bubbles
        self._origin = origin
        self._writer = writer
        self._cache = cache
        self._settings = settings
        self._published = published
        self._is_busy = is_busy
        self._asked: dict[bytes, float] = {}  # topmost versions that somebody asked for; Mbit/s, 0: as set
        self._checked: set[bytes] = set()  # marks that were found true since the agent began
        self._changed = asyncio.Event()
        self._epoch = 0
        self._road = Road()
        self._pace = Pace()
        self._door: tuple[Session, Door] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._left = 0
        self._metered: tuple[float, bool] = (float("-inf"), False)
        self.state = FillState()

    # What others tell

    def fault(self) -> None:
        """An application waits: get out of the way."""
        self._road.fault(time.monotonic())
        if self._reading is not None and self._left > ABORT_ABOVE:
            self._reading.cancel()

    def launch(self) -> None:
        """A launch begins."""
        self._road.launch(time.monotonic())
        self.fault()

    def look(self) -> None:
        """Look again at what is wanted and what is here."""
        self._epoch += 1
        self._changed.set()

    def ask(self, tops: Iterable[bytes], limit_mbit: float) -> None:
        """Fill the stacks of these topmost versions, whatever the settings say."""
        for top in tops:
            self._asked[top] = limit_mbit
        self.look()

    def is_asked(self, top: bytes) -> bool:
        """Return whether somebody has asked for a topmost version that is not whole yet."""
        return top in self._asked

    def let_go(self, top: bytes) -> None:
        """No longer fill what somebody asked for."""
        self._asked.pop(top, None)

    @property
    def busy(self) -> bool:
        """Whether the agent should live on for this."""
        return self.state.doing in ("fills", "looks")

    # The work

    async def run(self) -> None:
        """Fill as long as the agent lives."""
        self._road.launch(time.monotonic())  # an agent is mostly started by a launch
        pause = 0.0
        try:
            while True:
                settings = await self._rest(pause)
                try:
                    pause = await self._round(settings)
                except _ChangedError:
                    pause = 0.0
                except MillstreamError as error:
                    self._wait_for(error.line())
                    pause = _AGAIN_SECONDS
                except Exception:  # noqa: BLE001 - the agent is worth more than the fill
                    _log.exception("filling failed: a bug")
                    self._wait_for(f"a bug: see the agent's log ({type(self).__name__})")
                    pause = _DAMAGED_SECONDS
        finally:
            if self._door is not None:
                await self._door[1].close()

    async def _rest(self, pause: float) -> Settings:
        """Wait for `pause` seconds (0: not at all; below: for ever), a call of `look`, or other settings."""
        before = self._settings.current()
        end = time.monotonic() + pause if pause >= 0 else float("inf")
        while not self._changed.is_set() and time.monotonic() < end:
            try:
                async with asyncio.timeout(min(_POLL_SECONDS, end - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                if self._settings.current() != before:
                    break
        self._changed.clear()
        return self._settings.current()

    async def _round(self, settings: Settings) -> float:
        """Go through all that is wanted once; return for how long to rest."""
        epoch = self._epoch
        published = list(self._published())
        wanted = versions_to_fill(settings.fill, published, self._asked)
        asked = {version for found in published if found.stack[-1] in self._asked for version in found.stack}
        used = [version for found in published if found.used for version in reversed(found.stack)]
        versions = self.state.versions
        self.state.versions = {
            version: versions[version] for version in dict.fromkeys((*wanted, *used)) if version in versions
        }
        reasons = []
        rest = -1.0
        for version in dict.fromkeys((*wanted, *used)):  # used, not wanted: marked if it is whole
            reason, again = await self._version(
                version, settings, epoch, wanted=version in wanted, asked=version in asked
            )
            if reason:
                reasons.append(reason)
            if again:
                rest = again if rest < 0 else min(rest, again)
        for found in published:
            if found.stack[-1] in self._asked and all(map(self._bubbles.heads.is_whole, found.stack)):
                self.let_go(found.stack[-1])
        self.state.rate = 0.0
        if reasons:
            self._wait_for(reasons[0])
        else:
            self.state.doing, self.state.reason = "rests", ""
        return rest

    async def _version(
        self, version: bytes, settings: Settings, epoch: int, *, wanted: bool, asked: bool
    ) -> tuple[str, float]:
        """Bring the rest of one version; return why that is not done, and when to try again (0: never)."""
        heads = self._bubbles.heads
        if heads.is_whole(version) and version in self._checked:
            if version in self.state.versions:
                self.state.versions[version].whole = True
                return "", 0.0
            head = await heads.get(version, self._session().signin)
            if head is not None:
                manifest = head.outline.manifest
                name, size = f"{manifest.name} {manifest.version}", manifest.plain_bytes
                self.state.versions[version] = Progress(name, size, size, whole=True)
            return "", 0.0
        reason = await self._obstacle(settings, asked=asked) if wanted else "not wanted"
        head = await heads.get(version, self._session().signin)
        if (head is None or head.package is None) and reason:
            return (reason, _AGAIN_SECONDS) if wanted else ("", 0.0)
        await self._clear(epoch)
        kept = self._bubbles.holds(version)
        layer = await self._bubbles.complete(version)
        try:
            damaged = False
            for _ in range(2):
                gaps = await self._look_through(layer, epoch)
                if not gaps:
                    self._note_whole(layer)
                    return "", 0.0
                heads.note_whole(version, whole=False)
                if reason:
                    return (reason, _AGAIN_SECONDS) if wanted else ("", 0.0)
                if damaged:
                    return f"a frame of {layer.name} comes damaged from the server", _DAMAGED_SECONDS
                reason, damaged = await self._fetch(layer, gaps, settings, epoch, asked=asked)
            return reason or f"blocks of {layer.name} do not stay in the cache", _AGAIN_SECONDS
        finally:
            if not kept:
                self._bubbles.let_go(version)

    def _note_whole(self, layer: Layer) -> None:
        self._bubbles.heads.note_whole(layer.version)
        self._checked.add(layer.version)
        progress = self.state.versions[layer.version]
        progress.whole, progress.stored_left = True, 0
        _log.info("wholly in the cache: %s", layer.name)

    async def _look_through(self, layer: Layer, epoch: int) -> list[Gap]:
        """Return what is missing of a package; between applications that wait."""
        scan = MissingFrames(layer.package, self._cache)
        self.state.doing = "looks"
        while True:
            await self._clear(epoch)
            if not await asyncio.to_thread(scan.step, _LOOK_AT):
                break
        self._still(epoch)
        self.state.versions[layer.version] = Progress(
            layer.name, scan.plain_bytes, scan.bytes_here, scan.stored_bytes
        )
        return scan.gaps()

    async def _fetch(
        self, layer: Layer, gaps: list[Gap], settings: Settings, epoch: int, *, asked: bool
    ) -> tuple[str, bool]:
        """Bring what is missing; return why not all of it, and whether a frame came damaged."""
        by_frame = {gap.frame: gap for gap in gaps}
        holed = {gap.frame for gap in gaps if layer.has_frame(gap.frame)}  # looks present at both ends
        damaged = False
        renewals = 0
        runs = deque(runs_of([gap.frame for gap in gaps]))
        while runs:
            run = deque(frame for frame in runs.popleft() if frame in holed or not layer.has_frame(frame))
            while run:
                reason = await self._obstacle(settings, asked=asked)
                if reason:
                    return reason, damaged
                try:
                    await self._fetch_run(layer, run, by_frame, settings, epoch, asked=asked)
                except CorruptBlockError as error:
                    _log.warning("a frame of %s comes damaged: %s", layer.name, error)
                    run.popleft()
                    damaged = True
                except CapabilityExpiredError as error:
                    renewals += 1
                    if renewals > _RENEWALS_MOST:
                        raise ServerUntrustedError(
                            "the server refuses addresses that it has just given out"
                        ) from error
                    await self._origin(layer.version, newer=True)
        return "", damaged

    async def _fetch_run(
        self,
        layer: Layer,
        run: deque[int],
        gaps: dict[int, Gap],
        settings: Settings,
        epoch: int,
        *,
        asked: bool,
    ) -> None:
        """Bring neighbouring frames, piece by piece; each leaves `run` when it is in the cache."""
        package = layer.package
        at = package.frame_extent(run[0])[0]
        end = sum(package.frame_extent(run[-1]))
        limit = max(self._asked.values(), default=0.0) if asked else 0.0
        limit = limit or settings.limit_mbit
        held = bytearray()
        while run:
            await self._clear(epoch, pause=self._pace.wait(time.monotonic()))
            reason = await self._obstacle(settings, asked=asked)
            if reason:
                return
            origin = await self._origin(layer.version)
            if origin.pointer.object_digest != layer.object_digest:
                await self._bubbles.layer_of(layer.version, origin)
                self.look()
                raise _ChangedError
            size = min(self._pace.piece(limit, self._road.piece), end - at)
            self.state.doing, self.state.reason = "fills", ""
            began = time.monotonic()
            self._pace.took(size, limit, began)
            whole = await self._piece(origin.path, at, size, held)
            at = package.frame_extent(run[0])[0] + len(held)
            self._measure(size if whole else 0, began)
            while run and len(held) >= package.frame_extent(run[0])[1]:
                stored_size = package.frame_extent(run[0])[1]
                await self._clear(epoch)
                stored = bytes(held[:stored_size])
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self._writer, layer.write_frame, run[0], stored, frozenset(gaps[run[0]].wanted)
                    )
                except OSError as error:
                    raise storage_error("writing the cache", self._cache.path, error) from error
                del held[:stored_size]
                progress = self.state.versions[layer.version]
                progress.bytes_here += gaps[run[0]].plain_bytes
                progress.stored_left -= stored_size
                run.popleft()

    async def _piece(self, path: str, at: int, size: int, held: bytearray) -> bool:
        """Append a piece to `held`; return False if a fault ended it before all of it was there."""
        door = self._own_door()
        self._left = size
        self.state.pieces += 1

        async def read() -> None:
            async with door.part(path, at, size) as content:
                began = 0.0
                while self._left:
                    data = await door.take(content, min(_TAKE, self._left))
                    began = began or time.monotonic()
                    held.extend(data)
                    self._left -= len(data)
                    self.state.bytes_received += len(data)
                if size >= 2 * _TAKE:  # what came behind the first of it tells of the line alone
                    self._road.came(size - _TAKE, time.monotonic() - began)

        reading = self._reading = asyncio.ensure_future(read())
        try:
            await asyncio.wait([reading])
        finally:
            self._reading = None
            reading.cancel()
        if reading.cancelled():
            self.state.pieces_ended += 1
            return False
        reading.result()
        return True

    def _measure(self, size: int, began: float) -> None:
        rate = size / max(time.monotonic() - began, 0.001)
        self.state.rate = 0.8 * self.state.rate + 0.2 * rate if self.state.rate else rate

    def _own_door(self) -> Door:
        """Return the fill's own connection: it takes none of those that launches and faults find warm."""
        session = self._session()
        if self._door is None or self._door[0] is not session:
            if self._door is not None:
                closing = asyncio.get_running_loop().create_task(self._door[1].close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            self._door = (session, session.another_door())
        return self._door[1]

    async def _clear(self, epoch: int, *, pause: float = 0.0) -> None:
        """Return when nobody would be disturbed, at least `pause` seconds from now.

        Raises:
            _ChangedError: it is better to look again.
        """
        end = time.monotonic() + pause
        while True:
            self._still(epoch)
            now = time.monotonic()
            wait = max(self._road.closed_for(now), end - now)
            if wait <= 0:
                if not self._is_busy():
                    return
                wait = _BUSY_SECONDS
            await asyncio.sleep(min(wait, _POLL_SECONDS))

    def _still(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise _ChangedError

    async def _obstacle(self, settings: Settings, *, asked: bool) -> str:
        if self._settings.trouble and not asked:
            return self._settings.trouble
        if self._settings.current() != settings:
            raise _ChangedError
        place = self._cache.path
        try:
            disk = os.statvfs(place if place.exists() else place.parent)
        except OSError as error:
            raise storage_error("looking at the disk of", place, error) from error
        return obstacle(
            settings,
            metered=await self._is_metered(settings),
            free=disk.f_bavail * disk.f_frsize,
            size=disk.f_blocks * disk.f_frsize,
            asked=asked,
        )

    async def is_metered(self) -> bool:
        """Return whether bytes cost something here, by the settings or as far as anybody knows."""
        return await self._is_metered(self._settings.current())

    async def _is_metered(self, settings: Settings) -> bool:
        if settings.metered is not Metered.AUTO:
            return settings.metered is Metered.YES
        now = time.monotonic()
        if now - self._metered[0] >= _METERED_SECONDS:
            self._metered = (now, await is_metered())
        return self._metered[1]

    def _wait_for(self, reason: str) -> None:
        if reason != self.state.reason:
            _log.info("the fill waits: %s", reason)
        self.state.doing, self.state.reason = "waits", reason
        self.state.rate = 0.0
