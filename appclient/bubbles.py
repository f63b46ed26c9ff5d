"""From a published package to a bubble that can start: heads, view image, folders.

What it keeps: cache/views/<bubble id> (the view image), state/bubbles/<bubble id>/ (the user's
copy-on-write layer, with `package` in it to say whose it is), state/homes (homes.py). Beside a view image
lies <bubble id>.publishers: who signed the stack, 32 bytes each, bottom first; and what packshere.py notes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appclient import workflow
from appclient.agentlink import agent_command
from appclient.catalogue import Choice
from appclient.changes import bubbles_of
from appclient.errors import UnknownPackageError, storage_error
from appclient.folders import Folders
from appclient.foresight import Foresight
from appclient.fronts import Fronts
from appclient.heads import Head, Heads
from appclient.homes import home_of, owner_of
from appclient.lanes import Part
from appclient.layer import Layer
from appclient.packshere import PacksHere
from appclient.session import Origin, Session
from appclient.statistics import Tally
from appclient.storedfile import store, stored
from appclient.together import together
from bubble import viewimage
from bubble.cachefile import CacheFolder
from bubble.composition import compose
from bubble.layerimage import load_layer
from bubble.layerwriter import encode_layer, layer_of_tree
from bubble.spec import BubbleSpec
from bubble.viewimage import decode_view
from packageformat.errors import FormatError, MillstreamError
from packageformat.launchpack import language_of, language_pack
from packageformat.layout import RoughLayout
from packageformat.limits import PUBLIC_KEY_SIZE
from packageformat.package import front_extent
from packageformat.publishing import Published
from packageformat.stack import bubble_id

_log = logging.getLogger(__name__)

_RECALLED = 8
"""Layers in memory from which on nothing is recalled: each takes a few MB, and a launch needs two to four."""

Telling = Callable[[str], None]
Found = Callable[[Mapping[bytes, Origin], bool, Fronts], None]


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

    def __init__(
        self,
        folders: Folders,
        session: Callable[[], Session],
        origin_of: Callable[[bytes], Awaitable[Origin]],
        foresight: Foresight,
    ) -> None:
        self._folders = folders
        self._session = session
        self._cache = CacheFolder(folders.cache)
        self._heads = Heads(folders.versions)
        self.packs = PacksHere(folders.views)
        self._layers: dict[bytes, Layer] = {}
        self._making: dict[bytes, asyncio.Lock] = {}
        self._loading: dict[bytes, asyncio.Lock] = {}
        self._completing: dict[bytes, asyncio.Lock] = {}
        self._roughing: dict[bytes, asyncio.Lock] = {}
        self._rough: dict[bytes, RoughLayout] = {}  # until the rest of the head has come
        self._origin_of = origin_of
        self._foresight = foresight

    @property
    def heads(self) -> Heads:
        """The kept heads."""
        return self._heads

    def forget_layers(self) -> None:
        """Forget what is in memory: the cache was cleaned, or somebody else signed in."""
        self._layers.clear()
        self._rough.clear()
        self._heads.forget_all()

    async def layer_of(self, version: bytes, origin: Origin | None, fronts: Fronts | None = None) -> Layer:
        """Return the layer of a version, from memory, the disk, or the server: at least its outline.

        Args:
            version: its id.
            origin: if given, the layer must have the layout that is stored there.
            fronts: with `origin`: its front is among these, which are on their way.

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
            head = await self._heads.get(version, session.signin)
            if head is not None and origin is not None and head.object_digest != origin.pointer.object_digest:
                head = None
            if head is None and origin is not None and fronts is not None:
                head = await self._heads.accept(origin, await fronts.of(version), session.signin)
            if head is None:
                if origin is None:
                    origin = await self._origin_of(version)
                head = await self._heads.fetch(origin, session.door, session.signin)
            return self._keep(head)

    async def recall(self, versions: Iterable[bytes]) -> None:
        """Have in memory what the disk has of packages that may be started, and of what they may update.

        Args:
            versions: the likeliest first.
        """
        for version in versions:
            if version not in self._layers and self._heads.is_here(version):
                if len(self._layers) >= _RECALLED:
                    return
                with suppress(MillstreamError, OSError):  # damaged, or gone since: a launch asks for it
                    await self.layer_of(version, None)

    async def complete(self, version: bytes) -> Layer:
        """Return the layer of a version with the rest of its head, fetched if need be.

        Raises:
            MillstreamError: it cannot be had.
        """
        layer = await self.layer_of(version, None)
        if layer.is_complete:
            return layer
        async with self._completing.setdefault(version, asyncio.Lock()):
            layer = await self.layer_of(version, None)
            if layer.is_complete:
                return layer
            origin = await self._origin_of(version)
            if origin.pointer.object_digest != layer.object_digest:
                layer = await self.layer_of(version, origin)
            head = await self._heads.complete(layer.head, origin, self._session().door)
            return self._keep(head)

    def holds(self, version: bytes) -> bool:
        """Return whether a version's layer is in memory."""
        return version in self._layers

    def let_go(self, version: bytes) -> None:
        """Drop a version's layer from memory; whoever has it may go on with it."""
        self._layers.pop(version, None)

    async def rough_layout(self, version: bytes) -> RoughLayout:
        """Return where a version's frames are, unproved, without the rest of its head.

        Raises:
            MillstreamError: it cannot be had.
        """
        async with self._roughing.setdefault(version, asyncio.Lock()):
            known = self._rough.get(version)
            if known is None:
                layer = await self.layer_of(version, None)
                origin = await self._origin_of(version)
                if origin.pointer.object_digest != layer.object_digest:
                    layer = await self.layer_of(version, origin)
                known = self._rough[version] = await self._heads.frames(
                    layer.head, origin, self._session().door
                )
            return known

    def _keep(self, head: Head) -> Layer:
        version = head.outline.version_id
        self._rough.pop(version, None)
        layer = self._layers[version] = Layer(head, self._cache, self._heads.files_of(version))
        return layer

    async def stack_of(
        self,
        published: Published,
        tally: Tally,
        tell: Telling,
        found: Found,
        language: str = "",
    ) -> list[Origin]:
        """Have the outlines of a whole stack; return where its packages are, if that had to be asked.

        One request for all pointers, unless they were foreseen, then the outlines in parallel.

        Args:
            published: the package on top.
            tally: the bubble's counts.
            tell: is told what is done.
            found: is called when the server has said where the packages are, and told whether nothing of
                them is here, and which fronts it has to fetch.
            language: the user's locale.

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
            have = await asyncio.to_thread(self.versions_before, published)
            origins = self._foresight.origins(published.stack, language, have)
            if not origins:
                origins = await session.origins(published.stack, have, language)
                tally.round_trips += 1
            fresh = len(missing) == len(published.stack) and not have
            fronts = Fronts({version: _front(origins[version]) for version in missing})
            tell(f"fetching {fronts.size / 1e6:.1f} MB of tables of contents")
            found(origins, fresh, fronts)
            await together(self.layer_of(version, origins[version], fronts) for version in missing)
            tally.bytes_received += fronts.size
            tally.requests += 1
        layers = {version: await self.layer_of(version, None) for version in published.stack}
        workflow.check_stack(published, {version: layer.manifest for version, layer in layers.items()})
        return list(origins.values())

    async def make(
        self,
        choice: Choice,
        tally: Tally,
        tell: Telling,
        found: Found,
        language: str = "",
    ) -> Made:
        """Return the bubble of an application, ready to start. `found` as in `stack_of`.

        Raises:
            MillstreamError: a package cannot be had, or there is no room.
        """
        published = choice.package
        bubble = bubble_id(published.stack)
        application = choice.application.id
        names = (language_pack(application, language_of(language)), application)
        async with self._making.setdefault(bubble, asyncio.Lock()):
            image = self.image_path(bubble)
            origins: list[Origin] = []
            publishers = self._publishers(published)
            if publishers is None or not await asyncio.to_thread(_is_whole, image):
                origins = await self.stack_of(published, tally, tell, found, language)
                layers = [await self.layer_of(version, None) for version in published.stack]
                publishers = tuple(layer.manifest.publisher for layer in layers)
                store(_beside(image), b"".join(publishers))
                await asyncio.to_thread(_compose, layers, image)
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
            streamed=not all(self._heads.is_whole(version) for version in published.stack),
            orders=self.packs.orders(bubble, names),
        )
        return Made(spec, tuple(origins), notice)

    def is_begun(self, stack: Sequence[bytes]) -> bool:
        """Return whether the outlines of a stack are here, but not all of what is in them."""
        return all(map(self._heads.is_here, stack)) and not all(map(self._heads.is_whole, stack))

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
            publishers = ((await self.layer_of(published.version_id, None)).manifest.publisher,)
        owner = owner_of(self._session().signin.server_key, publishers[-1])
        return home_of(self._folders.homes, published.name, owner)

    def _publishers(self, published: Published) -> tuple[bytes, ...] | None:
        """Return who signed the stack of a package, bottom first, if its view image was made here."""
        size = PUBLIC_KEY_SIZE * len(published.stack)
        keys = stored(_beside(self.image_path(bubble_id(published.stack))), most=size)
        if keys is None or len(keys) != size:
            return None
        return tuple(keys[at : at + PUBLIC_KEY_SIZE] for at in range(0, size, PUBLIC_KEY_SIZE))

    def stack_here(self, bubble: bytes) -> tuple[bytes, ...]:
        """Return the versions of a bubble that was made here, bottom first; none if it was not."""
        try:
            files, _ = decode_view(self.image_path(bubble).read_bytes())
        except (OSError, FormatError):
            return ()
        return tuple(file.version_id for file in files)

    def versions_before(self, published: Published) -> list[bytes]:
        """Return the versions that other bubbles of a package here are made of: its own, its runtimes'."""
        own = bubble_id(published.stack)
        versions: dict[bytes, None] = {}
        for folder in bubbles_of(self._folders, published.name):
            with suppress(ValueError):
                bubble = bytes.fromhex(folder.name)
                versions |= dict.fromkeys(self.stack_here(bubble) if bubble != own else ())
        return [version for version in versions if version not in published.stack]

    def image_of(self, bubble: bytes) -> Path:
        """Return the view image of a bubble that was started before.

        Raises:
            UnknownPackageError: it was not.
        """
        image = self.image_path(bubble)
        if not image.exists():
            raise UnknownPackageError(f"no view image of bubble {bubble.hex()[:16]}")
        return image


def _front(origin: Origin) -> Part:
    return Part(origin.path, *front_extent(origin.pointer.header))


def _beside(image: Path) -> Path:
    return image.with_name(f"{image.name}.publishers")


def _compose(layers: Sequence[Layer], image: Path) -> None:
    loaded = []
    for layer in layers:
        place = layer.files.image
        try:
            loaded.append(load_layer(place.read_bytes()))
        except (FormatError, FileNotFoundError) as error:
            _log.warning("a layer image is made anew: %s: %s", place, error)
            loaded.append(layer_of_tree(layer.tree))
            store(place, encode_layer(loaded[-1]))
        except OSError as error:
            raise storage_error("reading", place, error) from error
    store(image, compose([layer.files for layer in layers], loaded))


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
