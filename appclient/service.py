"""What the agent does for commands and views: sign-in, bubbles, fetching, cache, desktop. No sockets here.

Runs in the agent's loop; what takes more than a moment runs in threads. The order of locks, outermost
first: `_maintaining` (cache, reset), then those of `Bubbles`, then those of `Fetching` and `Session`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from pathlib import Path

from appclient import caching, catalogue, integration, wire
from appclient import signin as signins
from appclient.background import Background
from appclient.bubbles import Bubbles
from appclient.catalogue import Choice
from appclient.changes import all_bubbles, bubbles_of, claim_idle, drop_changes
from appclient.errors import (
    AgentError,
    NotSignedInError,
    ServerUnreachableError,
    UnknownPackageError,
    storage_error,
)
from appclient.fetching import Fetching, Urgency
from appclient.folders import Folders
from appclient.foresight import Foresight
from appclient.fronts import Fronts
from appclient.layer import Layer
from appclient.packagefile import read_file
from appclient.packs import LaunchPacks
from appclient.packwork import Came
from appclient.session import Origin, Session
from appclient.signin import SignIn
from appclient.statistics import Statistics, Tally
from appclient.updating import Updates
from appclient.wire import Message
from bubble.cachefile import CacheFolder
from bubble.launchorder import Run
from bubble.spec import encode_spec
from packageformat.errors import MillstreamError
from packageformat.launchpack import is_language_pack, language_of, language_pack
from packageformat.limits import PAGES_A_BLOCK
from packageformat.package import Package
from packageformat.pointer import PackReference
from packageformat.publishing import Published
from packageformat.stack import bubble_id

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]

_REST_SECONDS = 3.0
"""After a launch pack, before the rest of the heads is fetched; a fault that needs it does not wait."""

_LAYOUTS_SECONDS = 0.4
"""After a bubble can start, before the layouts are fetched: reading them would slow down the first frames."""

ALL_PAGES = (1 << PAGES_A_BLOCK) - 1

_BUBBLE: ContextVar[bytes] = ContextVar("bubble")
"""Which view a task serves: set once for each view's connection, inherited by the tasks that it starts."""


class Service:
    """The agent's work, for one user."""

    def __init__(self, folders: Folders, *, patience: float) -> None:
        self._folders = folders
        self._session: Session | None = None
        self._signin_stamp: tuple[int, int] = (0, 0)
        self._closing: set[asyncio.Task[None]] = set()
        self._statistics = Statistics(folders.state / "statistics.json")
        self._writer = ThreadPoolExecutor(1, "cache-writer")
        self._foresight = Foresight(self.session)
        self._bubbles = Bubbles(
            folders, self.session, lambda version: self.fetching.origin(version), self._foresight
        )
        self._cache = CacheFolder(folders.cache)
        self._maintaining = asyncio.Lock()
        self.tell: Callable[[bytes, Came], None] = lambda bubble, came: None
        self.soon: Callable[[bytes, Sequence[int]], None] = lambda bubble, contents: None
        self.updates = Updates(
            complete=self._bubbles.complete,
            origin_of=lambda version: self.fetching.known_origin(version),
            door=lambda: self.session().door,
            writer=self._writer,
        )
        self.packs = LaunchPacks(
            writer=self._writer,
            updates=self.updates,
            complete=self._bubbles.complete,
            tell=lambda bubble, came: self.tell(bubble, came),
            soon=lambda bubble, contents: self.soon(bubble, contents),
            done=self._pack_is_here,
            held=lambda bubble, reference, pages: self.background.pack_held(
                bubble, reference.application, pages
            ),
        )
        self.fetching = Fetching(
            session=self.session,
            layer_of=self._bubbles.layer_of,
            complete=self._bubbles.complete,
            rough_layout=self._bubbles.rough_layout,
            writer=self._writer,
            cache=folders.cache,
            patience=patience,
        )
        self.background = Background(
            folders,
            session=self.session,
            bubbles=self._bubbles,
            fetching=self.fetching,
            packs=self.packs,
            writer=self._writer,
            statistics=self._statistics,
            is_maintained=self._maintaining.locked,
            foresight=self._foresight,
        )
        self._answers: dict[str, Callable[[Message, Tell], Awaitable[Message]]] = {
            "prepare": self._prepare,
            "refresh": self._refresh,
            "status": self._status,
            "bubble": self._bubble,
            "fill": self._fill,
            "fill progress": self._fill_progress,
            "cache list": self._cache_list,
            "cache verify": self._cache_verify,
            "cache clean": self._cache_clean,
            "reset": self._reset,
            "rollback": self._rollback,
        }

    async def close(self) -> None:
        """End connections and the writing thread; keep the counts."""
        if self._session is not None:
            await self._session.close()
        self._writer.shutdown(wait=True, cancel_futures=True)
        self.save()

    def save(self) -> None:
        """Keep the counts; a disk that refuses costs only them."""
        try:
            self._statistics.save()
        except MillstreamError as error:
            _log.warning("%s", error.line())

    def session(self) -> Session:
        """Return the session of the sign-in on disk, made anew if that is another than before.

        Raises:
            NotSignedInError: there is none.
        """
        path = signins.path_of(self._folders.config)
        try:
            status = path.stat()
        except OSError as error:
            raise NotSignedInError("nobody is signed in") from error
        stamp = (status.st_ino, status.st_mtime_ns)
        session = self._session
        if session is not None and stamp == self._signin_stamp:
            return session
        signin = signins.recall(self._folders.config)
        if session is None or session.signin != signin:
            if session is not None:
                self._later(session.close())
                self.fetching.forget_origins()
                self._bubbles.forget_layers()
            session = self._session = Session(self._folders, signin)
        self._signin_stamp = stamp
        return session

    async def answer(self, question: Message, tell: Tell) -> Message:
        """Return the answer to a command; what goes wrong is an answer too."""
        try:
            answer = self._answers.get(question.kind)
            if answer is None:
                raise AgentError(f"the agent does not know {question.kind!r}")  # noqa: TRY301
            return await answer(question, tell)
        except MillstreamError as error:
            return wire.failure(error)
        except OSError as error:
            return wire.failure(storage_error("using", Path(str(error.filename or "")), error))
        except Exception:  # noqa: BLE001 - the command is owed a reply
            _log.exception("%s failed: a bug", question.kind)
            bug = MillstreamError(f"a bug in the agent ({question.kind})", hint=f"see {self._folders.log}")
            return wire.failure(bug)

    # For views (bubble.supply)

    def image_of(self, bubble: bytes) -> Path:
        """Return the view image of a bubble; the task that asks serves that bubble from now on."""
        _BUBBLE.set(bubble)
        return self._bubbles.image_of(bubble)

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        """Bring pages of a block into the cache. Raises as Fetching.bring."""
        bubble = _BUBBLE.get()
        tally = self._statistics.of(bubble)
        if urgency == 0:
            self.background.fault()
        packed = await self.packs.expect(bubble, layer, block, pages or ALL_PAGES)
        if packed:
            tally.faults_packed += 1
        elif urgency == 0:
            wanted = pages or ALL_PAGES
            has_pack, brought, come = self.packs.pages_of(bubble, layer, block)
            self.background.need(bubble, layer, block, wanted & ~brought, has_pack=has_pack)
            if wanted & brought:
                self.background.late(bubble, layer, block, wanted & brought, come)
        how = Urgency.FAULT if urgency == 0 else Urgency.AHEAD
        alone = self.packs.busy and self.packs.knows(bubble)
        began = time.monotonic()
        await self.fetching.bring(layer, block, how, tally, pages=pages, alone=alone)
        if urgency == 0:
            tally.faults_served += 1
            self.background.fault()
            if not packed:
                self.background.fetched(bubble, began)

    async def damaged(self, layer: bytes, block: int) -> None:
        """Forget a block that is damaged in the cache."""
        await self.fetching.damaged(layer, block, self._statistics.of(_BUBBLE.get()))
        self.background.damaged(layer, block)

    # For commands

    async def _prepare(self, question: Message, tell: Tell) -> Message:
        session = self.session()
        wanted = question.text("application")
        before = session.fetched_at
        publishing = await session.current()
        try:
            choice = catalogue.choose(publishing, wanted)
        except UnknownPackageError:
            choice = catalogue.choose(await session.current(at_most=0), wanted)  # published just now, perhaps
        tally = self._tally(choice.package)
        tally.application = choice.application.id
        if session.fetched_at > before:
            tally.round_trips += 1
        self.background.launch(choice, tally)
        application = choice.application
        language = question.text("language")
        self._foresight.speaks(language)
        asked = False

        def found(origins: Mapping[bytes, Origin], fresh: bool, fronts: Fronts) -> None:
            nonlocal asked
            asked = True
            tally.round_trips += 1  # the packages' outlines
            self.fetching.know(origins.values())
            self._bring_packs(choice, tally, language, fresh=fresh, fronts=fronts)

        resumes = self._bubbles.is_begun(choice.package.stack)
        if resumes:  # while the bubble is made
            self._later(self._resume_packs(choice, tally, language))
        made = await self._bubbles.make(choice, tally, tell, found, language)
        self.background.prepared()
        if made.spec.streamed:
            self._later(self._layouts(made.spec.bubble_id))
        if made.spec.streamed and not asked and not resumes:
            self._later(self._resume_packs(choice, tally, language))
        return Message(
            "done",
            {
                "spec": encode_spec(made.spec),
                "notice": made.notice,
                "package": tally.package,
                "id": application.id,
                "name": application.name,
                "command": application.command,
                "icon": application.icon,
                "desktop_file": application.desktop_file.hex(),
                "terminal": application.terminal,
            },
        )

    def _bring_packs(
        self, choice: Choice, tally: Tally, language: str, *, fresh: bool, fronts: Fronts
    ) -> None:
        """Begin to bring fronts, and the launch packs of an application that are not here yet.

        There may be two: the files of the user's language, and what every launch needs. The former come
        first: there are few of them, and nobody knows when the launch reads them.
        """
        published, version = choice.package, choice.package.version_id
        bubble = bubble_id(published.stack)
        origin = self.fetching.known_origin(version)
        names = (choice.application.id, language_pack(choice.application.id, language_of(language)))

        async def layers() -> list[Layer]:
            return [await self._bubbles.layer_of(one, None) for one in published.stack]

        wanted = []
        for reference in (*origin.language_packs, *origin.pointer.packs) if origin else ():
            if reference.bubble_id != bubble or reference.application not in names:
                continue
            if self._bubbles.packs.digest_of(bubble, reference.application) == reference.object_digest:
                self.background.pack_held(bubble, reference.application, {})
                continue
            wanted.append(reference)
        self.packs.bring(
            bubble,
            wanted,
            self.session().door,
            lambda newer: self.fetching.origin(version, newer=newer),
            layers,
            tally,
            fresh=fresh,
            fronts=fronts,
        )

    async def _resume_packs(self, choice: Choice, tally: Tally, language: str) -> None:
        """Bring what the last launch did not bring to its end, or a pack that is new."""
        published = choice.package
        try:
            have = await asyncio.to_thread(self._bubbles.versions_before, published)
            origins = self._foresight.origins(published.stack, language, have)
            if not origins:
                origins = await self.session().origins(published.stack, have, language)
            self.fetching.know(origins.values())
        except MillstreamError as error:
            _log.info("no launch pack is asked for: %s", error.line())
            return
        self._bring_packs(choice, tally, language, fresh=False, fronts=Fronts({}))

    def _pack_is_here(self, bubble: bytes, reference: PackReference, order: list[Run]) -> None:
        self._bubbles.packs.note(bubble, reference.application, reference.object_digest, order)
        if not is_language_pack(reference.application):
            self._later(self._complete_stack(bubble))

    async def _complete_stack(self, bubble: bytes) -> None:
        """Have the rest of each head, once the launch no longer needs the processor."""
        try:
            await asyncio.sleep(_REST_SECONDS)
            for version in self._bubbles.stack_here(bubble):
                await self._bubbles.complete(version)
        except MillstreamError as error:
            _log.info("the rest of a head will come later: %s", error.line())

    async def _layouts(self, bubble: bytes) -> None:
        """Have the layouts, 30 KB each: what a launch misses costs one round trip then, not two."""
        try:
            await asyncio.sleep(_LAYOUTS_SECONDS)
            for version in self._bubbles.stack_here(bubble):
                if not (await self._bubbles.layer_of(version, None)).is_complete:
                    await self._bubbles.rough_layout(version)
        except MillstreamError as error:
            _log.info("a layout will come later: %s", error.line())

    def _later(self, work: Coroutine[object, object, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _refresh(self, question: Message, tell: Tell) -> Message:
        publishing = await self.session().refresh()
        self._foresight.speaks(question.text("language"))
        self._foresight.forget()
        self._later(self._warm())
        self.background.refreshed()
        tell(f"{len(publishing.items)} packages published to {publishing.user}")
        added, removed = await integration.integrate(self._folders, publishing, self._read_file)
        count = sum(len(item.applications) for item in publishing.items)
        return Message(
            "done",
            {"packages": len(publishing.items), "applications": count, "added": added, "removed": removed},
        )

    async def _warm(self) -> None:
        """Have connections open for the launch that may come."""
        with suppress(MillstreamError, ExceptionGroup):
            session = self.session()
            await session.door.warm()
            with suppress(MillstreamError):
                await self.background.foresee()
            if not await self.background.filling.is_metered():
                await session.door.rehearse(session.signin.token)

    async def _read_file(self, published: Published, path: bytes) -> bytes:
        layer = await self._bubbles.layer_of(published.version_id, None)
        tally = self._tally(published)
        return await read_file(
            layer, path, lambda block: self.fetching.bring(layer.version, block, Urgency.FAULT, tally)
        )

    def _tally(self, published: Published) -> Tally:
        tally = self._statistics.of(bubble_id(published.stack))
        tally.package = f"{published.name} {published.version}"
        return tally

    async def _status(self, question: Message, tell: Tell) -> Message:
        signed: dict[str, object] = {}
        try:
            session = self.session()
        except NotSignedInError:
            pass
        else:
            publishing = session.publishing
            signed = {
                "server": session.signin.url,
                "user": session.signin.user,
                "server_name": session.signin.server_name,
                "publishers": [key.hex() for key in session.signin.publishers],
                "packages": len(publishing.items) if publishing else 0,
                "generation": publishing.generation if publishing else 0,
                "expires": publishing.expires if publishing else 0,
                "confirmed": int(session.fetched_at),
            }
        return Message(
            "done",
            {
                "agent": os.getpid(),
                "signed_in": signed,
                "trouble": self.fetching.trouble,
                "fetching": self.fetching.busy,
                "bubbles": self._statistics.table(),
                **self.background.status(),
                "log": str(self._folders.log),
            },
        )

    async def _bubble(self, question: Message, tell: Tell) -> Message:
        tally = self._statistics.of(question.octets("bubble"))
        return Message(
            "done",
            {
                "trouble": self.fetching.trouble,
                "bytes_received": tally.bytes_received,
                "blocks_fetched": tally.blocks_fetched,
                "faults_served": tally.faults_served,
                "idle_ms": int(1000 * (time.time() - tally.last_fetch)),
            },
        )

    async def _fill(self, question: Message, tell: Tell) -> Message:
        session = self.session()
        if session.kept() is None:
            await session.current()
        return self.background.fill(question)

    async def _fill_progress(self, question: Message, tell: Tell) -> Message:
        return self.background.fill_progress(question)

    async def _packages(self) -> list[Package]:
        """Return every package whose head is kept; of one that is here in part the rest is fetched."""
        signin: SignIn = self.session().signin
        found = []
        for version, _ in tuple(self._bubbles.heads.versions()):
            head = await self._bubbles.heads.get(version, signin)
            if head is not None and head.package is None:
                try:
                    head = (await self._bubbles.complete(version)).head
                except MillstreamError as error:
                    _log.warning("only part of a head is here: %s", error.line())
            if head is not None and head.package is not None:
                found.append(head.package)
        return found

    async def _cache_list(self, question: Message, tell: Tell) -> Message:
        async with self._maintaining:
            packages = await self._packages()
            published = self._published_versions()
            listed = []
            for package in packages:
                held = await asyncio.to_thread(caching.held, package, self._cache)
                listed.append(
                    {
                        "version_id": held.version.hex(),
                        "package": held.name,
                        "files": held.files,
                        "files_here": held.files_here,
                        "bytes": held.plain_bytes,
                        "bytes_here": held.bytes_here,
                        "published": held.version in published,
                    }
                )
            size = await asyncio.to_thread(caching.disk_bytes, [self._folders.cache])
        return Message("done", {"packages": listed, "disk_bytes": size, "folder": str(self._folders.cache)})

    async def _cache_verify(self, question: Message, tell: Tell) -> Message:
        async with self._maintaining:
            tell("checking every block in the cache")
            found = await asyncio.to_thread(caching.verify, await self._packages(), self._cache)
            if found.damaged_count:
                self.background.cache_changed()
        return Message(
            "done",
            {
                "blocks": found.blocks,
                "damaged": found.damaged,
                "damaged_count": found.damaged_count,
                "unknown": found.unknown,
            },
        )

    async def _cache_clean(self, question: Message, tell: Tell) -> Message:
        """Drop what neither a published nor a running bubble needs; with "all", all that is not running."""
        async with self._maintaining:
            with ExitStack() as claims:  # nothing starts while what it needs may go
                return await self._clean(question, claims)

    async def _clean(self, question: Message, claims: ExitStack) -> Message:
        packages = await self._packages()
        by_version = {package.version_id: package for package in packages}
        kept = set() if question.flag("all") else self._published_versions()
        names = question.texts("keep")
        for package in packages:
            manifest = package.manifest
            if manifest.name in names or f"{manifest.name} {manifest.version}" in names:
                kept.update((package.version_id, *manifest.requires))
        bubbles = all_bubbles(self._folders)
        busy = await asyncio.to_thread(claim_idle, bubbles, claims)
        running = {folder.name for folder in busy}
        for package in packages:
            if bubble_id((*package.manifest.requires, package.version_id)).hex() in running:
                kept.update((package.version_id, *package.manifest.requires))
        images = {
            bubble_id((*package.manifest.requires, version)).hex()
            for version, package in by_version.items()
            if version in kept
        }
        contents, size = await asyncio.to_thread(
            caching.sweep, [by_version[version] for version in kept if version in by_version], self._cache
        )
        dropped = [version for version, _ in self._bubbles.heads.versions() if version not in kept]
        for version in dropped:
            self._bubbles.heads.forget(version)
        for image in self._folders.views.glob("[0-9a-f]*"):
            if image.name.partition(".")[0] not in images | running:
                image.unlink(missing_ok=True)
        self._bubbles.forget_layers()
        self.background.cache_changed()
        folders = (self._folders.cache, self._folders.state)
        await asyncio.to_thread(caching.remove_scratch, folders, time.time())
        return Message("done", {"contents": contents, "bytes": size, "packages": len(dropped)})

    def _published_versions(self) -> set[bytes]:
        publishing = self.session().publishing
        return {version for item in publishing.items for version in item.stack} if publishing else set()

    async def _rollback(self, question: Message, tell: Tell) -> Message:
        """Run the version before of a package from the next start on, or the published one again.

        What runs goes on: another version is another bubble.
        """
        session = self.session()
        package = catalogue.choose(await session.current(), question.text("application")).package.name
        undo = question.flag("undo")
        if not undo:
            with suppress(ServerUnreachableError):  # offline, what is cached runs
                await session.origins(session.earlier(package).stack)
        running, listed = session.roll_back(package, undo=undo)
        assert session.publishing is not None
        await integration.integrate(self._folders, session.publishing, self._read_file)
        return Message("done", {"package": package, "version": running.version, "published": listed.version})

    async def _reset(self, question: Message, tell: Tell) -> Message:
        """Drop the copy-on-write layers of a package, of all its versions."""
        async with self._maintaining:
            session = self.session()
            if session.publishing is None:
                await session.current()
            assert session.publishing is not None
            choice = catalogue.choose(session.publishing, question.text("application"))
            bubbles = bubbles_of(self._folders, choice.package.name)
            homes = [await self._bubbles.home_path(choice.package)] if question.flag("home") else []
            name, only_look = choice.application.name, question.flag("only_look")
            await asyncio.to_thread(drop_changes, bubbles, homes, name, only_look=only_look)
        return Message(
            "done",
            {"package": choice.package.name, "folders": [str(folder) for folder in (*bubbles, *homes)]},
        )
