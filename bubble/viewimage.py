"""What a view needs to answer a bubble's file system: its packages' layer images, merged as they are asked.

    magic 8 · layers u32 · zero u32 · bytes of the top layer u64 ·
    for each layer: version id 32 · bytes of both paths 2 x u16 · path of its layer image · of its block ids ·
    the top layer (layerimage.py): where the bubble mounts something · SHA-256 of all before it

Nothing is merged beforehand: a folder's layers are joined when somebody looks into it (the rules are
packageformat.merge's, and a test holds the two together), so a launch does not wait for 25,000 entries of
which it touches 2,000. A *node* is a layer and an entry of it: a number that never changes and needs no
table. A folder's node is its topmost place; a hard link's is its file's.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from bubble.blockids import BlockIds
from bubble.layerimage import NOTHING, LayerImage, load_layer
from packageformat.errors import FormatError
from packageformat.hashing import file_content_id
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, STACK_MAX

MAGIC = b"MSVIEW2\n"
ROOT = 0
"""The root's node, whichever layers have one."""

ENTRY_BITS = 20
_ENTRY = (1 << ENTRY_BITS) - 1
_HEAD = struct.Struct("<8sIIQ")
_LAYER = struct.Struct("<32sHH")
_FOLDERS_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """Where one package of a stack has what a view reads."""

    version_id: bytes
    image: Path  # layerimage.encode_layer
    block_ids: Path  # blockids


@dataclass(frozen=True, slots=True)
class Content:
    """What a file of the view holds."""

    number: int  # its node
    size: int  # bytes
    layer: bytes  # version id of the package that it is from
    layer_first_block: int  # number of its first block in that package

    @property
    def block_count(self) -> int:
        """How many blocks it has."""
        return -(-self.size // BLOCK_SIZE)


class ViewImage:
    """The merged view of layers, bottom first. The last one is the bubble's own: its mount points."""

    def __init__(
        self, layers: Sequence[LayerImage], versions: Sequence[bytes], block_ids: Sequence[BlockIds]
    ) -> None:
        """Prepare.

        Args:
            layers: the packages', bottom first, and the bubble's own on top.
            versions: the packages' version ids.
            block_ids: their tables.
        """
        if len(versions) != len(layers) - 1 or len(block_ids) != len(versions):
            raise ValueError("a view of packages without names")
        self._layers = tuple(layers)
        self._block_ids = tuple(block_ids)
        self.layers = tuple(versions)
        self._joined: dict[int, tuple[int, ...]] = {ROOT: self._roots()}
        self._merged = lru_cache(maxsize=_FOLDERS_REMEMBERED)(self._merge)

    def _roots(self) -> tuple[int, ...]:
        roots = []
        for number in range(len(self._layers) - 1, -1, -1):
            roots.append(number << ENTRY_BITS)
            if self._layers[number].opaques[0]:
                break
        return tuple(roots)

    def _place(self, node: int) -> tuple[LayerImage, int]:
        """Return the layer and the entry that a node is.

        Raises:
            IndexError: there is no such node.
        """
        if node == ROOT:
            node = self._joined[ROOT][0]
        layer, entry = self._layers[node >> ENTRY_BITS], node & _ENTRY
        if entry >= len(layer):
            raise IndexError(node)
        return layer, entry

    def mode(self, node: int) -> int:
        """Return st_mode."""
        layer, entry = self._place(node)
        return layer.modes[entry]

    def attributes(self, node: int) -> tuple[int, int, int, int]:
        """Return st_mode, size in bytes, modification time in nanoseconds, and number of links."""
        layer, entry = self._place(node)
        return layer.modes[entry], layer.sizes[entry], layer.mtimes_ns[entry], layer.links[entry]

    def size(self, node: int) -> int:
        """Return the bytes of a file."""
        layer, entry = self._place(node)
        return layer.sizes[entry]

    def target(self, node: int) -> bytes:
        """Return the text of a symbolic link."""
        layer, entry = self._place(node)
        return layer.target(entry)

    def path(self, node: int) -> bytes:
        """Return the path of a node, relative to the root; of a file with several names, the first."""
        layer, entry = self._place(node)
        return layer.path(entry)

    def parent(self, node: int) -> int:
        """Return the folder that a node is in."""
        return self.find(self.path(node).rpartition(b"/")[0]) or ROOT

    def child(self, folder: int, name: bytes) -> int | None:
        """Return the node `name` in a folder, or None."""
        found: list[int] = []
        for place in self._places(folder):
            layer = self._layers[place >> ENTRY_BITS]
            entry = layer.child(place & _ENTRY, name)
            if entry is None:
                continue
            mode = layer.modes[entry]
            if not stat.S_ISDIR(mode):
                if mode and not found:
                    return place & ~_ENTRY | layer.holders[entry]
                break  # hidden by a folder above, or a whiteout
            found.append(place & ~_ENTRY | entry)
            if layer.opaques[entry]:
                break
        if not found:
            return None
        self._joined[found[0]] = tuple(found)
        return found[0]

    def children(self, folder: int) -> Sequence[tuple[bytes, int]]:
        """Return names and nodes of what a folder shows, sorted by name."""
        return self._merged(folder)

    def links(self, folder: int) -> Iterator[tuple[bytes, int]]:
        """Give names and nodes of the symbolic links in a folder; some may be hidden by another layer."""
        for place in self._places(folder):
            layer = self._layers[place >> ENTRY_BITS]
            modes = layer.modes
            for entry in layer.entries(place & _ENTRY):
                if stat.S_ISLNK(modes[entry]):
                    yield layer.name(entry), place & ~_ENTRY | entry

    def find(self, path: bytes) -> int | None:
        """Return the node at `path`, relative to the root. Links are not followed."""
        node: int | None = ROOT
        for name in path.split(b"/"):
            if name and node is not None:
                node = self.child(node, name) if stat.S_ISDIR(self.mode(node)) else None
        return node

    def content(self, number: int) -> Content:
        """Return what a file holds, by its node.

        Raises:
            IndexError: there is no such file, or it is empty.
        """
        layer, entry = self._place(number) if 0 <= number >> ENTRY_BITS < len(self.layers) else (None, 0)
        if layer is None or not stat.S_ISREG(layer.modes[entry]) or layer.payloads[entry] == NOTHING:
            raise IndexError(number)
        return Content(number, layer.sizes[entry], self.layers[number >> ENTRY_BITS], layer.payloads[entry])

    def block_ids(self, content: Content) -> bytes | None:
        """Return the ids of all blocks of a file, concatenated; None while they are not known."""
        return self._block_ids[content.number >> ENTRY_BITS].of(
            content.layer_first_block, content.block_count
        )

    def content_id(self, content: Content) -> bytes | None:
        """Return the name of a file's content in the cache; None while it is not known."""
        ids = self.block_ids(content)
        return None if ids is None else file_content_id(content.size, ids)

    def _places(self, folder: int) -> tuple[int, ...]:
        """Return the places that are joined in a folder, topmost first."""
        places = self._joined.get(folder)
        if places is None:  # a view that took over from another: the kernel knows what we have not looked at
            if self.find(self.path(folder)) != folder:
                raise IndexError(folder)
            places = self._joined[folder]
        return places

    def _merge(self, folder: int) -> Sequence[tuple[bytes, int]]:
        places = self._places(folder)
        names: set[bytes] = set()
        for place in places:
            layer = self._layers[place >> ENTRY_BITS]
            names.update(map(layer.name, layer.entries(place & _ENTRY)))
        shown = []
        for name in sorted(names):
            node = self.child(folder, name)
            if node is not None:
                shown.append((name, node))
        return shown


def encode_view(layers: Sequence[LayerFiles], top: bytes) -> bytes:
    """Return the view image of layers, bottom first.

    Args:
        layers: the packages'.
        top: the encoded layer image of the bubble's own.
    """
    parts = [_HEAD.pack(MAGIC, len(layers), 0, len(top))]
    for layer in layers:
        paths = os.fsencode(layer.image), os.fsencode(layer.block_ids)
        parts += [_LAYER.pack(layer.version_id, *map(len, paths)), *paths]
    body = b"".join([*parts, top])
    return body + sha256(body).digest()


def load(data: bytes) -> ViewImage:
    """Return the view of an image, with the layer images that it names.

    Raises:
        FormatError: one is damaged or gone, or of another version of Millstream.
    """
    files, top = decode_view(data)
    layers, tables = [], []
    for file in files:
        try:
            layers.append(load_layer(file.image.read_bytes()))
            tables.append(BlockIds(file.block_ids, layers[-1].block_count))
        except OSError as error:
            raise FormatError(
                f"a view image without one of its layers: {error}", hint="start the application again"
            ) from error
    return ViewImage([*layers, load_layer(top)], [file.version_id for file in files], tables)


def decode_view(data: bytes) -> tuple[tuple[LayerFiles, ...], bytes]:
    """Return the layers that an image names, bottom first, and its top layer.

    Raises:
        FormatError: it is damaged, or of another version of Millstream.
    """
    if len(data) < _HEAD.size + DIGEST_SIZE or not data.startswith(MAGIC):
        raise FormatError("a view image that is not one", hint="start the application again")
    if sha256(memoryview(data)[:-DIGEST_SIZE]).digest() != data[-DIGEST_SIZE:]:
        raise FormatError("a view image that is damaged", hint="start the application again")
    _, count, _, top_size = _HEAD.unpack_from(data)
    if not 0 < count <= STACK_MAX:
        raise FormatError(f"a view image of {count} layers", hint="start the application again")
    position = _HEAD.size
    files = []
    for _ in range(count):
        if position + _LAYER.size > len(data):
            raise FormatError("a view image that is too short", hint="start the application again")
        version, *sizes = _LAYER.unpack_from(data, position)
        position += _LAYER.size
        paths = []
        for size in sizes:
            paths.append(Path(os.fsdecode(data[position : position + size])))
            position += size
        files.append(LayerFiles(version, *paths))
    if position + top_size + DIGEST_SIZE != len(data):
        raise FormatError("a view image that is too short", hint="start the application again")
    return tuple(files), data[position : position + top_size]
