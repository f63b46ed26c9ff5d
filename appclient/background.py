"""What the agent does when nobody waits: the fill, reports of launches, warm connections.

And what it has to hear for that: launches, faults, packs, damages. Runs in the agent's loop; nothing here is
waited for by a launch.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from itertools import chain

from appclient import catalogue
from appclient.bubbles import Bubbles
from appclient.catalogue import Choice
from appclient.changes import named_bubbles
from appclient.errors import NotSignedInError, UnknownPackageError
from appclient.fetching import Fetching
from appclient.filling import Filling
from appclient.fillpolicy import Wanted
from appclient.folders import Folders
from appclient.foresight import STACKS_MAX, Foresight
from appclient.launchreports import LaunchReports, report_of
from appclient.launchwatch import Launch, LaunchWatch, RoundTrips
from appclient.layer import Layer
from appclient.packs import LaunchPacks
from appclient.session import Session
from appclient.settings import Fill, SettingsFile
from appclient.statistics import Statistics, Tally
from appclient.wire import Message
from bubble.cachefile import CacheFolder
from packageformat.errors import MillstreamError
from packageformat.publishing import Published
from packageformat.stack import bubble_id

_log = logging.getLogger(__name__)

WARM_SECONDS = 1800.0
"""Connections are kept open so long after the last launch or refresh."""

PING_SECONDS, PING_JITTER = 60.0, 5.0
"""How often a connection that rests is used: the server ends it after 75 s, `door.KEPT_SECONDS` is 70."""

RESEND_SECONDS = 600.0
"""Reports that could not be sent are tried again so often."""

_HOUSE_SECONDS = 0.5
_LOCAL_SECONDS = 0.001
"""A fault that is answered sooner did not wait for the network."""

_jitter = random.SystemRandom()


class Background:
    """The agent's work behind everything else."""

    def __init__(
        self,
        folders: Folders,
        *,
        session: Callable[[], Session],
        bubbles: Bubbles,
        fetching: Fetching,
        packs: LaunchPacks,
        writer: Executor,
        statistics: Statistics,
        is_maintained: Callable[[], bool],
        foresight: Foresight,
    ) -> None:
        """Prepare. `is_maintained` tells whether the cache is being worked on."""
        self._folders = folders
        self._session = session
        self._bubbles = bubbles
        self._packs = packs
        self._fetching = fetching
        self._statistics = statistics
        self._is_maintained = is_maintained
        self._foresight = foresight
        self._settings = SettingsFile(folders.config)
        self._watch = LaunchWatch()
        self._round_trips = RoundTrips()
        self._reports = LaunchReports(folders.state / "reports")
        self._send_at = time.monotonic()
        self._last_use = float("-inf")
        self.filling = Filling(
            session=session,
            bubbles=bubbles,
            origin=fetching.origin,
            writer=writer,
            cache=CacheFolder(folders.cache),
            settings=self._settings,
            published=self._published,
            is_busy=self._somebody_waits,
        )

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin, in a group that somebody leaves."""
        tasks.create_task(self.filling.run())
        tasks.create_task(self._keep_house())
        tasks.create_task(self._keep_warm())

    @property
    def busy(self) -> bool:
        """Whether the agent should live on for this."""
        return self.filling.busy or self._watch.busy

    # What it hears

    def launch(self, choice: Choice, tally: Tally) -> None:
        """A launch begins."""
        self._last_use = now = time.monotonic()
        published = choice.package
        bubble = bubble_id(published.stack)
        self._watch.begin(bubble, published.version_id, choice.application.id, tally.bytes_received, now)
        self.filling.launch()

    def prepared(self) -> None:
        """The bubble of a launch can start: its packages are among those that are used now."""
        self.filling.look()

    def refreshed(self) -> None:
        """The list of applications has come."""
        self._last_use = self._send_at = time.monotonic()
        self.filling.look()

    def pack_held(self, bubble: bytes, application: str, pages: Mapping[tuple[bytes, int], int]) -> None:
        """A launch's pack has brought these pages; none: it was in the cache before, all of it."""
        self._statistics.of(bubble).misses += self._watch.packed(bubble, application, pages)

    def fault(self) -> None:
        """An application waits."""
        self.filling.fault()

    def need(self, bubble: bytes, version: bytes, block: int, pages: int, *, has_pack: bool) -> None:
        """An application waits for these pages, which no pack under way brings; whether one has said so."""
        new = self._watch.need(bubble, version, block, pages, time.monotonic(), has_pack=has_pack)
        self._statistics.of(bubble).misses += new

    def late(self, bubble: bytes, version: bytes, block: int, pages: int, come: int) -> None:
        """An application waits for these pages, which a pack brings, but not soon; so much of it has come."""
        self._watch.late(bubble, version, block, pages, come)

    def fetched(self, bubble: bytes, began: float) -> None:
        """An application waited since `began` for a request of its own, and has what it wanted."""
        now = time.monotonic()
        if now - began > _LOCAL_SECONDS:
            self._statistics.of(bubble).round_trips += self._round_trips.wait(bubble, began, now)

    def damaged(self, version: bytes, block: int) -> None:
        """A block was found damaged and is forgotten."""
        self._watch.forget(version, block)
        self.cache_changed()

    def cache_changed(self) -> None:
        """Something may have gone from the cache: no version counts as whole until it was looked at."""
        self._bubbles.heads.forget_whole()
        self.filling.look()

    # What it is asked

    def fill(self, question: Message) -> Message:
        """Fill an application's packages, or those that the settings name (launched ones if they say off)."""
        wanted = question.text("application")
        session = self._session()
        publishing = session.kept()
        if publishing is None:
            raise UnknownPackageError("the list of applications has run out")
        if wanted:
            tops = [catalogue.choose(publishing, wanted).package.version_id]
        else:
            everything = self._settings.current().fill is Fill.ALL
            tops = [found.stack[-1] for found in self._published() if everything or found.used]
        try:
            limit = max(0.0, float(question.text("limit_mbit")))
        except ValueError:
            limit = 0.0
        self.filling.ask(tops, limit)
        return Message("done", {"tops": [top.hex() for top in tops]})

    def fill_progress(self, question: Message) -> Message:
        """Return how far these stacks are."""
        tops = {bytes.fromhex(top) for top in question.texts("tops")}
        stacks = [found.stack for found in self._published() if found.stack[-1] in tops]
        versions = list(dict.fromkeys(version for stack in stacks for version in reversed(stack)))
        return Message(
            "done",
            {
                **self._fill_status(versions),
                "known": len(stacks) == len(tops),
                "whole": all(map(self._bubbles.heads.is_whole, versions)),
                "asked": all(self.filling.is_asked(top) for top in tops),
            },
        )

    def status(self) -> dict[str, object]:
        """Return what `appclient status` shows of all this."""
        settings = self._settings.current()
        state = self.filling.state
        return {
            "fill": {"policy": str(settings.fill), **self._fill_status(list(state.versions))},
            "reports": {"on": settings.reports, "waiting": self._reports.count},
            "settings_trouble": self._settings.trouble,
        }

    def _fill_status(self, versions: list[bytes]) -> dict[str, object]:
        state = self.filling.state
        return {
            "doing": state.doing,
            "reason": state.reason,
            "rate": int(state.rate),
            "bytes_received": state.bytes_received,
            "pieces": state.pieces,
            "pieces_ended": state.pieces_ended,
            "versions": [
                {
                    "version_id": version.hex(),
                    "package": progress.name,
                    "bytes": progress.plain_bytes,
                    "bytes_here": progress.bytes_here,
                    "stored_left": progress.stored_left,
                    "whole": progress.whole,
                }
                for version in versions
                if (progress := state.versions.get(version)) is not None
            ],
        }

    # What it does by itself

    async def foresee(self) -> None:
        """Ask and recall what the launch of a likely application needs first: of those that are not all here.

        Raises:
            MillstreamError: the server does not say, or the disk cannot be read.
        """
        publishing = self._session().kept()
        items = [] if publishing is None else publishing.items
        used = await asyncio.to_thread(self._last_uses)
        missing = [one for one in items if not all(map(self._bubbles.heads.is_whole, one.stack))]
        likely = sorted(missing, key=lambda one: used.get(one.name, 0.0), reverse=True)[:STACKS_MAX]
        before = await asyncio.to_thread(lambda: [self._bubbles.versions_before(one) for one in likely])
        await self._foresight.look(likely, list(dict.fromkeys(chain.from_iterable(before))))
        await self._bubbles.recall(
            version
            for one, earlier in zip(likely, before, strict=True)
            if one.name in used
            for version in (*one.stack, *earlier)
        )

    def _published(self) -> list[Wanted]:
        try:
            publishing = self._session().kept()
        except NotSignedInError:
            return []
        return [Wanted(item.stack, self._used(item)) for item in publishing.items] if publishing else []

    def _used(self, published: Published) -> float:
        """Return when an application of a package was started here last; 0: never, or it was cleaned."""
        bubble = bubble_id(published.stack)
        if not (self._bubbles.state_path(bubble) / "package").exists():
            return 0.0
        if not self._bubbles.image_path(bubble).exists():
            return 0.0
        return max(1.0, self._statistics.last_fetch(bubble))

    def _last_uses(self) -> dict[str, float]:
        """Return by name when packages that were started here, in any version, were so last."""
        used: dict[str, float] = {}
        for name, folder in named_bubbles(self._folders):
            with suppress(ValueError):
                last = max(1.0, self._statistics.last_fetch(bytes.fromhex(folder.name)))
                used[name] = max(used.get(name, 0.0), last)
        return used

    def _somebody_waits(self) -> bool:
        return self._packs.busy or self._fetching.busy or self._is_maintained()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSE_SECONDS)
            try:
                await self._report()
            except MillstreamError as error:
                _log.warning("%s", error.line())
            except Exception:  # noqa: BLE001 - a report is worth less than the agent
                _log.exception("reporting launches failed: a bug")

    async def _report(self) -> None:
        now = time.monotonic()
        wanted = self._settings.current().reports
        for launch in self._watch.ended(now, self._packs.is_coming):
            if wanted:
                await self._keep_report(launch, now)
                self._send_at = now
        if not wanted:
            self._reports.drop()
        elif now >= self._send_at and not self._somebody_waits() and not self._watch.busy:
            self._send_at = now + RESEND_SECONDS
            if self._reports.count:
                with suppress(NotSignedInError):
                    await self._reports.send(self._session(), time.time())

    async def _keep_report(self, launch: Launch, now: float) -> None:
        layers: dict[bytes, Layer] = {}
        versions = {version for version, _ in launch.missed} | {version for version, _, _ in launch.late}
        for version in versions:
            layers[version] = await self._bubbles.layer_of(version, None)
        received = max(0, self._statistics.of(launch.bubble).bytes_received - launch.bytes_before)
        report = report_of(launch, layers, seconds=now - launch.began, received=received)
        self._reports.keep(report, self._session().signin.server_key, time.time())

    async def _keep_warm(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS + _jitter.uniform(-PING_JITTER, PING_JITTER))
            if time.monotonic() - self._last_use <= WARM_SECONDS:
                try:
                    await self._session().door.warm()
                    await self.foresee()
                except (MillstreamError, ExceptionGroup) as error:
                    _log.debug("not kept warm: %s", error)
                except Exception:  # noqa: BLE001 - a launch asks then
                    _log.exception("keeping warm failed: a bug")
