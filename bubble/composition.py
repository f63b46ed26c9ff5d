"""The view of a stack of packages: their layer images, and on top what the host binds into every bubble."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bubble.blockids import make_table, write_ids
from bubble.layerimage import LayerImage
from bubble.layerwriter import encode_layer, layer_of_tree
from bubble.mountpoints import MOUNT_FILES, MOUNT_FOLDERS
from bubble.viewimage import LayerFiles, encode_view
from packageformat.entry import Kind, Node
from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE
from packageformat.tree import Tree, build_tree


def compose(files: Sequence[LayerFiles], layers: Sequence[LayerImage]) -> bytes:
    """Return the view image of packages, bottom first.

    Args:
        files: where each package's layer image and block ids are.
        layers: the same layer images, loaded.
    """
    return encode_view(files, encode_layer(layer_of_tree(mount_points(layers))))


def write_view(place: Path, packages: Sequence[tuple[bytes, Tree, bytes]]) -> list[Path]:
    """Write the view image of packages that are wholly known to `place`, and what it names beside it.

    Args:
        place: a file in a folder that is there.
        packages: for each package, bottom first, its version id, tree and block ids, all verified.

    Returns:
        The files, `place` last.

    Raises:
        FormatError: a package whose block ids do not fit its tree.
        OSError: the disk refuses.
    """
    files, layers = [], []
    for number, (version, tree, block_ids) in enumerate(packages):
        if len(block_ids) != tree.block_count * DIGEST_SIZE:
            raise FormatError(f"package {version.hex()} has {len(block_ids)} bytes of block ids")
        file = LayerFiles(
            version,
            place.with_name(f"{place.name}.{number}.layer"),
            place.with_name(f"{place.name}.{number}.ids"),
        )
        layers.append(layer_of_tree(tree))
        file.image.write_bytes(encode_layer(layers[-1]))
        with suppress(FileNotFoundError):
            file.block_ids.unlink()
        make_table(file.block_ids, tree.block_count)
        write_ids(file.block_ids, {0: block_ids})
        files.append(file)
    place.write_bytes(compose(files, layers))
    return [*(path for file in files for path in (file.image, file.block_ids)), place]


def mount_points(layers: Sequence[LayerImage]) -> Tree:
    """Return the layer on top of all others, where a bubble mounts what is the host's or its own.

    Folders that a package has keep that package's attributes: caches compare the times of folders.
    """
    nodes: dict[bytes, Node] = {}
    for path in (*MOUNT_FOLDERS, *MOUNT_FILES):
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            nodes[parent] = _topmost_folder(layers, parent)
        nodes[path] = Node(Kind.FILE, 0o644) if path in MOUNT_FILES else _topmost_folder(layers, path)
    tmp = nodes[b"tmp"]
    nodes[b"tmp"] = Node(Kind.FOLDER, 0o1777, mtime_ns=tmp.mtime_ns)
    nodes[b""] = _topmost_folder(layers, b"")
    return build_tree(nodes)


def _topmost_folder(layers: Sequence[LayerImage], path: bytes) -> Node:
    for layer in reversed(layers):
        entry = layer.find(path)
        if entry is not None and stat.S_ISDIR(layer.modes[entry]):
            return Node(Kind.FOLDER, stat.S_IMODE(layer.modes[entry]), mtime_ns=layer.mtimes_ns[entry])
    return Node(Kind.FOLDER, 0o755)
