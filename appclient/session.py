"""The signed-in user's dealings with the server: publishing, pointers, tokens. All answers are checked."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from appclient import signin as signins
from appclient import workflow
from appclient.address import Address
from appclient.door import Answer, Door, whole_number
from appclient.errors import (
    NotEntitledError,
    NotSignedInError,
    ServerUnreachableError,
    ServerUntrustedError,
    UnknownPackageError,
)
from appclient.folders import Folders
from appclient.remembered import publishing_path, recall_seen, remember_seen, seen_path
from appclient.rollback import Rollbacks
from appclient.signin import SignIn
from appclient.storedfile import store, stored
from appclient.workflow import Seen
from packageformat.errors import FormatError
from packageformat.launchpack import language_pack
from packageformat.limits import ENVELOPE_BYTES_MAX
from packageformat.pointer import PackReference, Pointer
from packageformat.publishing import Published, Publishing

_log = logging.getLogger(__name__)

RENEW_SECONDS = 6 * 3600
"""A token that lives no longer than this is exchanged for a younger one when the server is asked anyway."""

HURRY_SECONDS = 4.0
"""A launch waits no longer for a newer publishing list if the kept one is still good."""

STALE_SECONDS = 300
"""A publishing list older than this is asked for again before a launch."""


DELTA_BYTES_MAX = 1 << 40
DELTAS_MAX = 64
LANGUAGE_PACKS_MAX = 256


@dataclass(frozen=True, slots=True)
class DeltaReference:
    """A delta to a version from one that is here. A hint of the server's: it proves nothing."""

    old_version: bytes
    digest: bytes
    size: int  # bytes
    path: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one package version can be fetched from, for a while."""

    pointer: Pointer
    path: str  # a capability URL on the server, without the host
    expires: int  # seconds since 1970
    packs: Mapping[bytes, str] = field(default_factory=dict)  # URLs of launch packs, by their digests
    windows: Mapping[bytes, int] = field(default_factory=dict)  # bytes of them that lead to the window: hints
    deltas: tuple[DeltaReference, ...] = ()
    language_packs: tuple[PackReference, ...] = ()  # hints, unsigned; their URLs are in `packs`


class Session:
    """One sign-in, and what the server said under it.

    Runs in the agent's loop. Between two awaits it changes its fields only together with their files.
    """

    def __init__(self, folders: Folders, signin: SignIn) -> None:
        self.signin = signin
        self.door = self.another_door()
        self.publishing: Publishing | None = None  # with rollbacks applied
        self._listed: Publishing | None = None  # as the server signed it
        self._rollbacks = Rollbacks(folders.state, signin)
        self.fetched_at = 0.0  # seconds since 1970: when the server last confirmed the publishing list
        self._folders = folders
        self._etag = ""
        self._seen = recall_seen(seen_path(folders), signin)
        self._refreshing = asyncio.Lock()
        self._renewing = asyncio.Lock()
        self._load_kept()

    def another_door(self) -> Door:
        """Return a door to the server with connections of its own. Whoever asks for it closes it."""
        return Door(Address(self.signin.url), self.signin.certificate)

    async def close(self) -> None:
        """End the connections to the server."""
        await self.door.close()

    async def current(self, *, at_most: float = STALE_SECONDS) -> Publishing:
        """Return the publishing list, from the server if the last word is older than `at_most` seconds.

        Offline, the kept list is good until it expires.

        Raises:
            ServerUnreachableError: no answer, and no list that is still good.
            MillstreamError: the answer did not pass the checks of `workflow`.
        """
        now = time.time()
        if self.publishing is not None and 0 <= now - self.fetched_at < at_most:
            return self.publishing
        kept = self.kept()
        try:
            async with asyncio.timeout(None if kept is None else HURRY_SECONDS):
                return await self.refresh()
        except (ServerUnreachableError, TimeoutError):
            if kept is None:
                raise
            _log.warning("the server does not answer: going on with the kept publishing list")
            return kept

    def kept(self) -> Publishing | None:
        """Return the last publishing list if it has not expired."""
        if self.publishing is not None and self.publishing.expires > time.time():
            return self.publishing
        return None

    async def refresh(self) -> Publishing:
        """Ask the server for the publishing list and keep it. Raises as `current`."""
        async with self._refreshing:
            if self.signin.token_expires - time.time() < RENEW_SECONDS:
                with suppress(NotSignedInError):  # what follows says it if the token is of no use
                    await self._renew(self.signin.token)
            etag = self._etag if self.kept() is not None else ""
            answer = await self._authorized("GET", "/v1/publishing", etag=etag)
            if answer.status == 304 and self.publishing is not None:
                self.fetched_at = time.time()
                return self.publishing
            now = int(time.time())
            publishing = await asyncio.to_thread(
                workflow.accept_publishing, answer.body, self.signin, self._seen, now
            )
            before = stored(self._kept_path(), most=ENVELOPE_BYTES_MAX)
            if before is not None:
                self._rollbacks.replaced(before, publishing)
            store(self._kept_path(), answer.body)
            self._see(self._seen.with_publishing(publishing))
            self._listed, self._etag, self.fetched_at = publishing, answer.etag, time.time()
            self.publishing = self._rollbacks.applied(publishing)
            return self.publishing

    def earlier(self, package: str) -> Published:
        """Return the version before of a published package. Raises UnknownPackageError if none is known."""
        assert self._listed is not None, "a list was asked for before"
        return self._rollbacks.before(self._listed, package)

    def roll_back(self, package: str, *, undo: bool) -> tuple[Published, Published]:
        """Run the version before of a package, or the published one again; return it, and the published one.

        Raises:
            UnknownPackageError: no version before is known, or there is nothing to undo.
            CacheError: it cannot be kept.
        """
        assert self._listed is not None, "a list was asked for before"
        if not undo:
            self._rollbacks.go_back(self._listed, package)
        elif not self._rollbacks.undo(package):
            raise UnknownPackageError(f"{package} is as it is published", hint="there is nothing to undo")
        self.publishing = self._rollbacks.applied(self._listed)
        found = [
            next(item for item in items if item.name == package)
            for items in (self.publishing.items, self._listed.items)
        ]
        return found[0], found[1]

    async def origins(
        self, versions: Sequence[bytes], have: Sequence[bytes] = (), language: str = ""
    ) -> dict[bytes, Origin]:
        """Return where these package versions are, from one request.

        Args:
            versions: their ids.
            have: versions that are here, in part at least: deltas from them are told, if there are some.
            language: a locale, whose language's packs are told.

        Raises:
            NotEntitledError: the server does not give one of them to this user.
            ServerUnreachableError: no answer.
            MillstreamError: a pointer did not pass the checks of `workflow`.
        """
        answer = await self._authorized(
            "POST",
            "/v1/pointers",
            value={
                "version_ids": [version.hex() for version in versions],
                "have": [version.hex() for version in have[:DELTAS_MAX]],
                "language": language,
            },
        )
        now = int(time.time())
        found: dict[bytes, Origin] = {}
        try:
            listed = answer.json()["pointers"]
            if not isinstance(listed, list):
                raise _nonsense()
            for item in listed[: len(versions)]:
                version = bytes.fromhex(item["version_id"])
                if version not in versions:
                    raise _nonsense()
                envelope = _base64(item["pointer"])
                pointer = workflow.accept_pointer(envelope, version, self.signin, self._seen, now)
                path = _object_path(item["url"], pointer.object_digest)
                packs, windows = _packs(pointer, item.get("packs"))
                deltas = _deltas(item.get("deltas"), have)
                spoken = _language_packs(item.get("language_packs"), packs)
                expires = whole_number(item["expires"])
                found[version] = Origin(pointer, path, expires, packs, windows, deltas, spoken)
        except (KeyError, TypeError, ValueError) as error:
            raise _nonsense() from error
        missing = [version for version in versions if version not in found]
        if missing:
            raise NotEntitledError(f"the server does not give you package {missing[0].hex()[:16]}")
        seen = self._seen
        for origin in found.values():
            seen = seen.with_pointer(origin.pointer)
        self._see(seen)
        return found

    async def report_launch(self, report: Mapping[str, object]) -> None:
        """Tell the server what a launch pack lacked (launchreports).

        Raises:
            MillstreamError: it does not take it; ServerUnreachableError: not now.
        """
        await self._authorized("POST", "/v1/launches", value=report)

    async def _authorized(
        self, method: str, path: str, *, value: Mapping[str, object] | None = None, etag: str = ""
    ) -> Answer:
        """Ask with the token, renewed once if the server no longer takes it."""
        for fresh in (False, True):
            token = self.signin.token
            try:
                if method == "GET":
                    answer = await self.door.get(path, token=token, etag=etag)
                else:
                    answer = await self.door.post(path, value or {}, token=token)
            except NotSignedInError:
                if fresh:
                    raise
                await self._renew(token)
            else:
                return answer
        raise AssertionError("either answered or raised")

    async def _renew(self, old: str) -> None:
        async with self._renewing:
            if self.signin.token != old:
                return  # another task did
            answer = (await self.door.post("/v1/renew", {}, token=old)).json()
            try:
                token, expires = str(answer["token"]), whole_number(answer["expires"])
            except (KeyError, TypeError, ValueError) as error:
                raise _nonsense() from error
            renewed = replace(self.signin, token=token, token_expires=expires)
            with suppress(NotSignedInError):
                if signins.recall(self._folders.config) == self.signin:  # nobody signed in or out meanwhile
                    signins.remember(self._folders.config, renewed)
            self.signin = renewed

    def _kept_path(self) -> Path:
        return publishing_path(self._folders)

    def _load_kept(self) -> None:
        envelope = stored(self._kept_path(), most=ENVELOPE_BYTES_MAX)
        if envelope is None:
            return
        try:
            self._listed = workflow.accept_publishing(envelope, self.signin, self._seen, int(time.time()))
            self.publishing = self._rollbacks.applied(self._listed)
        except (FormatError, ServerUntrustedError) as error:
            _log.warning("the kept publishing list is not used: %s", error)

    def _see(self, seen: Seen) -> None:
        if seen != self._seen:
            remember_seen(seen_path(self._folders), self.signin, seen)
            self._seen = seen


def _nonsense() -> ServerUntrustedError:
    return ServerUntrustedError(
        "the server's answer makes no sense", hint="is it a Millstream server, and as new?"
    )


def _object_path(url: object, digest: bytes) -> str:
    if not isinstance(url, str) or not url.startswith("/v1/objects/" + digest.hex()):
        raise _nonsense()
    return url


def _packs(pointer: Pointer, told: object) -> tuple[dict[bytes, str], dict[bytes, int]]:
    """Return what an answer tells of each launch pack that the signed pointer names; the rest is left alone.

    Returns:
        URLs, and bytes that lead to the window where that is told, both by digest.
    """
    paths: dict[bytes, str] = {}
    windows: dict[bytes, int] = {}
    if isinstance(told, list):
        named = {(pack.application, pack.bubble_id.hex()): pack for pack in pointer.packs}
        for item in told[: len(pointer.packs)]:
            pack = named.get((item["application"], item["bubble_id"]))
            if pack is not None:
                paths[pack.object_digest] = _object_path(item["url"], pack.object_digest)
                if "window_size" in item:
                    windows[pack.object_digest] = min(whole_number(item["window_size"]), pack.object_size)
    return paths, windows


def _language_packs(told: object, paths: dict[bytes, str]) -> tuple[PackReference, ...]:
    """Return the language packs that an answer tells of, and add their URLs to `paths`."""
    found = []
    for item in told[:LANGUAGE_PACKS_MAX] if isinstance(told, list) else ():
        digest = bytes.fromhex(item["digest"])
        name = language_pack(str(item["application"]), str(item["language"]))
        found.append(
            PackReference(name, bytes.fromhex(item["bubble_id"]), digest, whole_number(item["size"]))
        )
        paths[digest] = _object_path(item["url"], digest)
    return tuple(found)


def _deltas(told: object, have: Sequence[bytes]) -> tuple[DeltaReference, ...]:
    found = []
    for item in told[:DELTAS_MAX] if isinstance(told, list) else ():
        old, digest, size = bytes.fromhex(item["from"]), bytes.fromhex(item["digest"]), item["size"]
        if old in have and 0 < whole_number(size) <= DELTA_BYTES_MAX:
            found.append(DeltaReference(old, digest, size, _object_path(item["url"], digest)))
    return tuple(found)


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("not text")
    return base64.b64decode(text, validate=True)
