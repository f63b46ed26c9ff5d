"""From a published package to a bubble that can start: heads, view image, folders.

What it keeps: cache/views/<bubble id> (the view image), state/bubbles/<bubble id>/ (the user's
copy-on-write layer, with `package` in it to say whose it is), state/homes (homes.py). Beside a view image
lies <bubble id>.publishers: who signed the stack, 32 bytes each, bottom first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appclient import workflow
from appclient.agentlink import agent_command
from appclient.catalogue import Choice
from appclient.errors import UnknownPackageError, storage_error
from appclient.folders import Folders
from appclient.heads import Heads
from appclient.homes import home_of, owner_of
from appclient.layer import Layer
from appclient.session import Origin, Session
from appclient.statistics import Tally
from appclient.storedfile import store, stored
from bubble import viewimage
from bubble.cachefile import CacheFolder
from bubble.composition import compose
from bubble.spec import BubbleSpec
from packageformat.errors import FormatError, MillstreamError
from packageformat.limits import PUBLIC_KEY_SIZE
from packageformat.package import Package
from packageformat.publishing import Published
from packageformat.stack import bubble_id

_log = logging.getLogger(__name__)

Telling = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A bubble that can start."""

    spec: BubbleSpec
    origins: tuple[Origin, ...]  # addresses that were learnt on the way
    notice: str  # one line that the user should read; mostly empty


class Bubbles:
    """The bubbles of one user, as far as the agent makes them. Runs in the agent's loop.

    `_layers` and the heads' memory change together, between two awaits.
    """

    def __init__(self, folders: Folders, session: Callable[[], Session]) -> None:
        self._folders = folders
        self._session = session
        self._cache = CacheFolder(folders.cache)
        self._heads = Heads(folders.versions)
        self._layers: dict[bytes, Layer] = {}
        self._making: dict[bytes, asyncio.Lock] = {}
        self._loading: dict[bytes, asyncio.Lock] = {}

    @property
    def heads(self) -> Heads:
        """The kept heads."""
        return self._heads

    def forget_layers(self) -> None:
        """Forget what is in memory: the cache was cleaned, or somebody else signed in."""
        self._layers.clear()
        self._heads.forget_all()

    async def layer_of(self, version: bytes, origin: Origin | None) -> Layer:
        """Return the layer of a version, from memory, the disk, or the server.

        Args:
            version: its id.
            origin: if given, the layer must have the layout that is stored there.

        Raises:
            MillstreamError: it is not here and cannot be fetched.
        """
        layer = self._layers.get(version)
        if layer is not None and (origin is None or layer.object_digest == origin.pointer.object_digest):
            return layer
        async with self._loading.setdefault(version, asyncio.Lock()):
            layer = self._layers.get(version)
            if layer is not None and (origin is None or layer.object_digest == origin.pointer.object_digest):
                return layer
            session = self._session()
            package = await self._heads.get(version, session.signin)
            if origin is not None and self._heads.layout_of(version) != origin.pointer.object_digest:
                package = None
            if package is None:
                if origin is None:
                    origin = (await session.origins([version]))[version]
                package = await self._heads.fetch(origin, session.door, session.signin)
            layer = Layer(package, self._cache, self._heads.layout_of(version))
            self._layers[version] = layer
            return layer

    async def stack_of(self, published: Published, tally: Tally, tell: Telling) -> list[Origin]:
        """Have the heads of a whole stack; return where its packages are, if that had to be asked.

        One request for all pointers, then the heads in parallel.

        Raises:
            MillstreamError: one cannot be had, or they do not belong together.
        """
        session = self._session()
        missing = [
            version
            for version in published.stack
            if version not in self._layers and await self._heads.get(version, session.signin) is None
        ]
        origins: dict[bytes, Origin] = {}
        if missing:
            tell(f"asking {session.signin.url} for {published.title or published.name}")
            origins = await session.origins(published.stack)
            size = sum(origins[version].pointer.header.head_size for version in missing)
            tell(f"fetching {size / 1e6:.1f} MB of tables of contents")
            before = session.door.received
            await _all(self.layer_of(version, origins[version]) for version in missing)
            tally.bytes_received += session.door.received - before
            tally.requests += len(missing)
        layers = {version: await self.layer_of(version, None) for version in published.stack}
        workflow.check_stack(published, {version: layer.package for version, layer in layers.items()})
        return list(origins.values())

    async def make(self, choice: Choice, tally: Tally, tell: Telling) -> Made:
        """Return the bubble of an application, ready to start.

        Raises:
            MillstreamError: a package cannot be had, or there is no room.
        """
        published = choice.package
        bubble = bubble_id(published.stack)
        async with self._making.setdefault(bubble, asyncio.Lock()):
            image = self.image_path(bubble)
            origins: list[Origin] = []
            publishers = self._publishers(published)
            if publishers is None or not await asyncio.to_thread(_is_whole, image):
                origins = await self.stack_of(published, tally, tell)
                tell("composing the view")
                packages = [(await self.layer_of(version, None)).package for version in published.stack]
                publishers = tuple(package.manifest.publisher for package in packages)
                store(_beside(image), b"".join(publishers))
                await asyncio.to_thread(_compose, packages, image)
            signin = self._session().signin
            workflow.check_publishers(published, publishers, signin)
            state = self.state_path(bubble)
            home = home_of(self._folders.homes, published.name, owner_of(signin.server_key, publishers[-1]))
            notice = ""
            if home.name != published.name and not home.exists():
                notice = (
                    f"{published.name} is the name of another server's or publisher's package here, too: "
                    "this one begins with an empty home of its own"
                )
                _log.warning("%s", notice)
            for folder in (state, home):
                try:
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                except OSError as error:
                    raise storage_error("making the folder", folder, error) from error
            if not (state / "package").exists():
                store(state / "package", f"{published.name}\n{published.version}\n".encode())
        spec = BubbleSpec(
            bubble_id=bubble,
            view_image=image,
            cache=self._folders.cache,
            supplier=self._folders.supplier_socket,
            supplier_restart=agent_command(),
            state=state,
            home=home,
            runtime=self._folders.runtime,
            policy=published.policy,
            hidden=self._folders.own,
        )
        return Made(spec, tuple(origins), notice)

    def image_path(self, bubble: bytes) -> Path:
        """Return where the view image of a bubble is or will be."""
        return self._folders.views / bubble.hex()

    def state_path(self, bubble: bytes) -> Path:
        """Return the folder with the user's copy-on-write layer of a bubble."""
        return self._folders.bubbles / bubble.hex()

    async def home_path(self, published: Published) -> Path:
        """Return a package's private home.

        Raises:
            MillstreamError: whose package it is must be asked, and cannot be.
        """
        publishers = self._publishers(published)
        if publishers is None:
            publishers = ((await self.layer_of(published.version_id, None)).package.manifest.publisher,)
        owner = owner_of(self._session().signin.server_key, publishers[-1])
        return home_of(self._folders.homes, published.name, owner)

    def _publishers(self, published: Published) -> tuple[bytes, ...] | None:
        """Return who signed the stack of a package, bottom first, if its view image was made here."""
        size = PUBLIC_KEY_SIZE * len(published.stack)
        keys = stored(_beside(self.image_path(bubble_id(published.stack))), most=size)
        if keys is None or len(keys) != size:
            return None
        return tuple(keys[at : at + PUBLIC_KEY_SIZE] for at in range(0, size, PUBLIC_KEY_SIZE))

    def image_of(self, bubble: bytes) -> Path:
        """Return the view image of a bubble that was started before.

        Raises:
            UnknownPackageError: it was not.
        """
        image = self.image_path(bubble)
        if not image.exists():
            raise UnknownPackageError(f"no view image of bubble {bubble.hex()[:16]}")
        return image


def _beside(image: Path) -> Path:
    return image.with_name(f"{image.name}.publishers")


def _compose(packages: Sequence[Package], image: Path) -> None:
    store(image, compose([(package.version_id, package.tree, package.block_ids) for package in packages]))


def _is_whole(image: Path) -> bool:
    """Return whether a view image is there and undamaged; one that is not is made anew."""
    try:
        viewimage.load(image.read_bytes())
    except FileNotFoundError:
        return False
    except FormatError as error:
        _log.warning("a view image is damaged and will be made anew: %s: %s", image, error)
        return False
    except OSError as error:
        raise storage_error("reading", image, error) from error
    return True


async def _all(works: Iterable[Coroutine[object, object, object]]) -> None:
    """Do all at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except ExceptionGroup as group:
        ours = group.subgroup(MillstreamError)
        if ours is None:
            raise
        first: BaseException = ours
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
