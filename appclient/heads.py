"""Heads of packages: everything before their blocks, verified, kept on disk and for a while in memory.

    cache/versions/<version id>/<object digest>.head

A version has one head at a time; another layout of the same version replaces it. A head is checked each
time it is read, so the disk is trusted with nothing.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appclient import workflow
from appclient.door import Door
from appclient.errors import storage_error
from appclient.session import Origin
from appclient.signin import SignIn
from appclient.storedfile import store
from packageformat.errors import FormatError
from packageformat.package import Package

_log = logging.getLogger(__name__)

_KEPT_IN_MEMORY = 12
"""Packages whose trees and block ids stay in memory (a few MB each)."""

_AT_SERVER = "tell the administrator, whose 'streamserver check' finds what is damaged"
_PIECE = 1 << 20

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def this_architecture() -> str:
    """Return this machine's architecture as Debian names it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


class Heads:
    """The heads of the packages in use. Runs in the agent's loop; parsing runs in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packages: OrderedDict[bytes, tuple[Package, bytes]] = OrderedDict()

    async def get(self, version: bytes, signin: SignIn) -> Package | None:
        """Return a package from memory or disk, or None. Damaged ones on disk count as missing.

        Raises:
            CacheError: the disk cannot be read.
        """
        known = self._packages.get(version)
        if known is not None:
            self._packages.move_to_end(version)
            return known[0]
        found = await asyncio.to_thread(self._load, version, signin)
        if found is not None:
            self._keep(version, *found)
            return found[0]
        return None

    def layout_of(self, version: bytes) -> bytes:
        """Return the digest of the object whose layout is in memory for a version, or nothing."""
        known = self._packages.get(version)
        return b"" if known is None else known[1]

    async def fetch(self, origin: Origin, door: Door, signin: SignIn) -> Package:
        """Return a package, its head fetched from the server in one request, and keep it.

        Raises:
            MillstreamError: no answer, a head that does not pass the checks, or no room to keep it.
        """
        pointer = origin.pointer
        parser = workflow.head_parser(pointer, signin)
        head = bytearray()
        size = pointer.header.head_size
        async with door.part(origin.path, 0, size) as content:
            while len(head) < size:
                head += await door.take(content, min(_PIECE, size - len(head)))
        data = bytes(head)
        try:
            await asyncio.to_thread(parser.feed, 0, data)
        except FormatError as error:
            text = f"package {pointer.version_id.hex()[:16]} of the server: {error}"
            raise type(error)(text, hint=_AT_SERVER if type(error) is FormatError else error.hint) from error
        if parser.package is None:
            raise FormatError(
                f"the head of {pointer.version_id.hex()} is not of the size that its pointer says"
            )
        package = workflow.accept_head(parser.package, pointer, this_architecture())
        await asyncio.to_thread(self._store, pointer.version_id, pointer.object_digest, data)
        self._keep(pointer.version_id, package, pointer.object_digest)
        return package

    def versions(self) -> Iterator[tuple[bytes, int]]:
        """Yield the version ids that are kept, and the bytes of their heads."""
        for folder in self._folder.glob("*"):
            with suppress(ValueError, OSError):
                yield bytes.fromhex(folder.name), sum(file.stat().st_size for file in folder.glob("*.head"))

    def forget(self, version: bytes) -> None:
        """Drop a version's head."""
        self._packages.pop(version, None)
        shutil.rmtree(self._folder / version.hex(), ignore_errors=True)

    def forget_all(self) -> None:
        """Forget what is in memory; the disk keeps its own."""
        self._packages.clear()

    def _keep(self, version: bytes, package: Package, digest: bytes) -> None:
        self._packages[version] = (package, digest)
        self._packages.move_to_end(version)
        while len(self._packages) > _KEPT_IN_MEMORY:
            self._packages.popitem(last=False)

    def _load(self, version: bytes, signin: SignIn) -> tuple[Package, bytes] | None:
        folder = self._folder / version.hex()
        for file in sorted(folder.glob("*.head")):
            try:
                digest = bytes.fromhex(file.stem)
                return workflow.accept_stored_head(file.read_bytes(), version, signin), digest
            except (FormatError, ValueError) as error:
                _log.warning("a kept head is damaged and will be fetched again: %s: %s", file, error)
                file.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("reading", file, error) from error
        return None

    def _store(self, version: bytes, digest: bytes, head: bytes) -> None:
        folder = self._folder / version.hex()
        wanted = folder / f"{digest.hex()}.head"
        store(wanted, head)
        for other in folder.glob("*.head"):
            if other != wanted:
                other.unlink(missing_ok=True)
