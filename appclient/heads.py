"""Heads of packages, verified, kept on disk and for a while in memory: first their front, then all of it.

    cache/versions/<version id>/<object digest>.front   the header, and what is stored up to the tree
    cache/versions/<version id>/<object digest>.head    everything before the blocks; replaces the front
    cache/versions/<version id>/layer                   the tree as a view reads it (bubble.layerimage)
    cache/versions/<version id>/ids                     block ids, as far as they are known (bubble.blockids)
    cache/versions/<version id>/whole                   there if all of the version was found in the cache

A launch begins with the front (the tree, 50 to 130 KB); the rest (block ids and layout, 0.3 to 0.7 MB) comes
behind the launch pack, or with the first fault that the pack does not answer. A version has one head at a
time; another layout of the same version replaces it. What is read from disk is checked as if it came from the
network; the layer image and the table are made from what was checked.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appclient import workflow
from appclient.door import Door
from appclient.errors import storage_error
from appclient.session import Origin
from appclient.signin import SignIn
from appclient.storedfile import store
from bubble.blockids import make_table, write_ids
from bubble.layerwriter import encode_layer, layer_of_tree
from bubble.viewimage import LayerFiles
from packageformat.compression import decompress
from packageformat.errors import FormatError
from packageformat.layout import RoughLayout, rough_layout
from packageformat.package import (
    HEADER_SIZE,
    Outline,
    Package,
    Section,
    complete,
    encode_header,
    front_extent,
)

_log = logging.getLogger(__name__)

_KEPT_IN_MEMORY = 12
"""Packages whose trees and block ids stay in memory (a few MB each)."""

_AT_SERVER = "tell the administrator, whose 'streamserver check' finds what is damaged"
_PIECE = 1 << 18

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def this_architecture() -> str:
    """Return this machine's architecture as Debian names it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a version: its outline, and once the rest has come, the package."""

    outline: Outline
    front: bytes  # as stored, without the header
    object_digest: bytes  # of the object whose layout this is
    package: Package | None = None


class Heads:
    """The heads of the packages in use. Runs in the agent's loop; parsing runs in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heads: OrderedDict[bytes, Head] = OrderedDict()

    async def get(self, version: bytes, signin: SignIn) -> Head | None:
        """Return a head from memory or disk, or None. Damaged ones on disk count as missing.

        Raises:
            CacheError: the disk cannot be read.
        """
        known = self._heads.get(version)
        if known is not None:
            self._heads.move_to_end(version)
            return known
        found = await asyncio.to_thread(self._load, version, signin)
        if found is not None:
            self._keep(version, found)
        return found

    def is_here(self, version: bytes) -> bool:
        """Return whether a head, or its front, is in memory or on disk."""
        if version in self._heads:
            return True
        return any(file.suffix in {".head", ".front"} for file in (self._folder / version.hex()).glob("*.*"))

    def files_of(self, version: bytes) -> LayerFiles:
        """Return where a version has what views read; it is there once a head was returned."""
        folder = self._folder / version.hex()
        return LayerFiles(version, folder / "layer", folder / "ids")

    def is_whole(self, version: bytes) -> bool:
        """Return whether all of a version was found in the cache (`note_whole`)."""
        return (self._folder / version.hex() / "whole").exists()

    def note_whole(self, version: bytes, *, whole: bool = True) -> None:
        """Note that all of a version is in the cache, or that something of it is no longer."""
        place = self._folder / version.hex() / "whole"
        if whole:
            store(place, b"")
        else:
            place.unlink(missing_ok=True)

    def forget_whole(self) -> None:
        """Take the mark from every version: something was found damaged, and contents are shared."""
        for place in self._folder.glob("*/whole"):
            place.unlink(missing_ok=True)

    async def fetch(self, origin: Origin, door: Door, signin: SignIn) -> Head:
        """Return a head of which only the front is fetched, and keep it. Raises as `accept`."""
        offset, size = front_extent(origin.pointer.header)
        return await self.accept(origin, await _fetched(door, origin.path, offset, size), signin)

    async def accept(self, origin: Origin, front: bytes, signin: SignIn) -> Head:
        """Return a head of which only the front has come, and keep it.

        Args:
            origin: where the package is.
            front: untrusted.
            signin: what was pinned at login.

        Raises:
            MillstreamError: no answer, a front that does not pass the checks, or no room to keep it.
        """
        pointer = origin.pointer
        try:
            outline = await asyncio.to_thread(
                workflow.accept_front, pointer, front, signin, this_architecture()
            )
        except FormatError as error:
            raise _told(pointer.version_id, error) from error
        head = Head(outline, front, pointer.object_digest)
        await asyncio.to_thread(self._store, head)
        self._keep(pointer.version_id, head)
        return head

    async def frames(self, head: Head, origin: Origin, door: Door) -> RoughLayout:
        """Return where a package's frames are, unproved: enough to fetch a block whose id is known.

        Raises:
            MillstreamError: no answer, or one that is no layout.
        """
        extent = head.outline.header.sections[Section.LAYOUT]
        stored = await _fetched(door, origin.path, extent.offset, extent.stored_size)
        try:
            return rough_layout(decompress(stored, extent.plain_size), head.outline.header)
        except FormatError as error:
            raise _told(head.outline.version_id, error) from error

    async def complete(self, head: Head, origin: Origin, door: Door) -> Head:
        """Return `head` with its package: the rest is fetched, in one request, and kept.

        Raises:
            MillstreamError: no answer, a rest that does not belong to the front, or no room to keep it.
        """
        offset, size = front_extent(head.outline.header)
        start = offset + size
        rest = await _fetched(door, origin.path, start, head.outline.header.head_size - start)
        version = head.outline.version_id
        try:
            package = await asyncio.to_thread(complete, head.outline, head.front, rest)
        except FormatError as error:
            raise _told(version, error) from error
        whole = Head(head.outline, head.front, head.object_digest, package)
        await asyncio.to_thread(self._store, whole, rest)
        self._keep(version, whole)
        return whole

    def versions(self) -> Iterator[tuple[bytes, int]]:
        """Yield the version ids that are kept, and the bytes of their folders."""
        for folder in self._folder.glob("*"):
            with suppress(ValueError, OSError):
                yield bytes.fromhex(folder.name), sum(file.stat().st_size for file in folder.iterdir())

    def forget(self, version: bytes) -> None:
        """Drop a version's head."""
        self._heads.pop(version, None)
        shutil.rmtree(self._folder / version.hex(), ignore_errors=True)

    def forget_all(self) -> None:
        """Forget what is in memory; the disk keeps its own."""
        self._heads.clear()

    def _keep(self, version: bytes, head: Head) -> None:
        self._heads[version] = head
        self._heads.move_to_end(version)
        while len(self._heads) > _KEPT_IN_MEMORY:
            self._heads.popitem(last=False)

    def _load(self, version: bytes, signin: SignIn) -> Head | None:
        folder = self._folder / version.hex()
        for file in sorted((*folder.glob("*.head"), *folder.glob("*.front")), reverse=True):
            try:
                head = _read(file, version, signin)
                self._prepare(head)
            except (FormatError, ValueError) as error:
                _log.warning("a kept head is damaged and will be fetched again: %s: %s", file, error)
                file.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("reading", file, error) from error
            else:
                return head
        return None

    def _store(self, head: Head, rest: bytes = b"") -> None:
        outline = head.outline
        folder = self._folder / outline.version_id.hex()
        suffix = "front" if head.package is None else "head"
        wanted = folder / f"{head.object_digest.hex()}.{suffix}"
        store(wanted, encode_header(outline.header) + head.front + rest)
        for other in (*folder.glob("*.head"), *folder.glob("*.front")):
            if other != wanted:
                other.unlink(missing_ok=True)
        try:
            self._prepare(head)
        except OSError as error:
            raise storage_error("writing", folder, error) from error

    def _prepare(self, head: Head) -> None:
        """Make what views read, unless it is there."""
        files = self.files_of(head.outline.version_id)
        if not files.image.exists():
            store(files.image, encode_layer(layer_of_tree(head.outline.tree)))
        make_table(files.block_ids, head.outline.tree.block_count)
        if head.package is not None:
            write_ids(files.block_ids, {0: head.package.block_ids})


def _read(file: Path, version: bytes, signin: SignIn) -> Head:
    digest = bytes.fromhex(file.stem)
    data = file.read_bytes()
    if file.suffix == ".head":
        package = workflow.accept_stored_head(data, version, signin)
        _, size = front_extent(package.header)
        return Head(package.outline, data[HEADER_SIZE : HEADER_SIZE + size], digest, package)
    outline = workflow.accept_stored_front(data, version, signin)
    return Head(outline, data[HEADER_SIZE:], digest)


async def _fetched(door: Door, path: str, offset: int, size: int) -> bytes:
    data = bytearray()
    if size:
        async with door.part(path, offset, size) as content:
            while len(data) < size:
                data += await door.take(content, min(_PIECE, size - len(data)))
    return bytes(data)


def _told(version: bytes, error: FormatError) -> FormatError:
    text = f"package {version.hex()[:16]} of the server: {error}"
    return type(error)(text, hint=_AT_SERVER if type(error) is FormatError else error.hint)
