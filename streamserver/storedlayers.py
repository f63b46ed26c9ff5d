"""Stored packages as layers: trees, and blocks of plain bytes, verified. For building what derives from them.

The store is the server's own, and its blocks are checked against their ids even so: a damaged disk must
not become a launch pack that every client refuses.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from packageformat.errors import CorruptBlockError, FormatError
from packageformat.launchpack import PackLayer
from packageformat.launchprofile import ContentIndex, content_index
from packageformat.layout import unpack_frame
from packageformat.package import Package
from packageformat.packbuild import PackSource
from streamserver.database import catalogue
from streamserver.errors import DamagedObjectError, UnknownNameError
from streamserver.packagefile import read_head
from streamserver.packtwins import TwinIndex, twin_index
from streamserver.statefolder import explained
from streamserver.store import Store

FRAMES_KEPT = 64
"""Unpacked frames of one package: 16 MiB."""

LAYERS_KEPT = 8
"""Open packages: a head takes some tens of MB."""


Made = TypeVar("Made")


class StoredLayer:
    """One open package of the store. Safe to read from any thread."""

    def __init__(self, name: str, descriptor: int, package: Package) -> None:
        self.name = name  # with its version, for people
        self.package = package
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, dict[int, bytes]] = OrderedDict()

    @property
    def source(self) -> PackSource:
        """What a launch pack is made from."""
        return PackSource(self.package.version_id, self.package.tree, self.package.block_ids)

    @property
    def trusted(self) -> PackLayer:
        """What a launch pack's proofs must lead to."""
        manifest = self.package.manifest
        return PackLayer(self.package.version_id, manifest.blocks_root, manifest.block_count)

    def block(self, block: int) -> bytes:
        """Return the plain bytes of a block.

        Raises:
            DamagedObjectError: the stored package is damaged there.
        """
        package = self.package
        frame = package.layout.frame_of(block)
        with self._lock:
            found = self._frames.get(frame)
            if found is not None:
                self._frames.move_to_end(frame)
        if found is None:
            found = self._unpacked(frame)
            with self._lock:
                self._frames[frame] = found
                if len(self._frames) > FRAMES_KEPT:
                    self._frames.popitem(last=False)
        if block in found:
            return found[block]
        wanted = package.block_id(block)  # stored under the number of another one with this id
        return next(plain for number, plain in found.items() if package.block_id(number) == wanted)

    def _unpacked(self, frame: int) -> dict[int, bytes]:
        package = self.package
        offset, size = package.frame_extent(frame)
        try:
            stored = os.pread(self._descriptor, size, offset)
            return dict(unpack_frame(package.tree, package.block_ids, package.layout.blocks(frame), stored))
        except (OSError, CorruptBlockError) as error:
            raise DamagedObjectError(f"{self.name} is damaged: {error}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class StoredLayers:
    """Open packages of a store, the least recently used closed first. Use as a context manager."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: OrderedDict[bytes, StoredLayer] = OrderedDict()
        self._indexes: OrderedDict[tuple[bytes, ...], ContentIndex] = OrderedDict()
        self._twins: OrderedDict[tuple[bytes, ...], TwinIndex] = OrderedDict()

    def stack(self, version_ids: Sequence[bytes]) -> list[StoredLayer]:
        """Return the layers of a stack, bottom first, open until the next call.

        Raises:
            UnknownNameError: one is not here any more.
            DamagedObjectError: its file is missing or damaged.
        """
        layers = []
        for version_id in version_ids:
            layer = self._open.get(version_id)
            if layer is None:
                layer = self._open[version_id] = self._opened(version_id)
            self._open.move_to_end(version_id)
            layers.append(layer)
        while len(self._open) > max(LAYERS_KEPT, len(layers)):
            _, old = self._open.popitem(last=False)
            old.close()
        return layers

    def index(self, version_ids: Sequence[bytes]) -> ContentIndex:
        """Return where each content lies in a stack."""
        return self._of_stack(
            self._indexes,
            version_ids,
            lambda layers: content_index([(one.version_id, one.tree, one.block_ids) for one in layers]),
        )

    def twins(self, version_ids: Sequence[bytes]) -> TwinIndex:
        """Return which files of a stack have the same content."""
        return self._of_stack(
            self._twins,
            version_ids,
            lambda layers: twin_index([(one.tree, one.block_ids) for one in layers]),
        )

    def _of_stack(
        self,
        kept: OrderedDict[tuple[bytes, ...], Made],
        version_ids: Sequence[bytes],
        make: Callable[[list[Package]], Made],
    ) -> Made:
        """Return what is made from a stack's packages, made once: a hundred language packs ask for it."""
        key = tuple(version_ids)
        found = kept.get(key)
        if found is None:
            found = kept[key] = make([layer.package for layer in self.stack(key)])
            if len(kept) > LAYERS_KEPT:
                kept.popitem(last=False)
        return found

    def _opened(self, version_id: bytes) -> StoredLayer:
        stored = self._store.reader.ask(lambda db: catalogue.find_package(db, version_id))
        if stored is None:
            raise UnknownNameError(
                f"no such package: {version_id.hex()}",
                hint="'streamserver packages list' shows what there is",
            )
        name = f"{stored.name} {stored.version}"
        path = self._store.folder.object_path(stored.object_digest)
        with ExitStack() as undo:
            with explained(path):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, descriptor)
            try:
                package = read_head(descriptor, stored.object_size, None)
            except FormatError as error:
                raise DamagedObjectError(f"{name} is damaged: {error}") from error
            undo.pop_all()
        return StoredLayer(name, descriptor, package)

    def __enter__(self) -> StoredLayers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._open.values():
            layer.close()
        self._open.clear()
