"""The view image of a stack of packages: merged, numbered for the view, with what the host binds on top."""

from __future__ import annotations

import stat
import sys
from array import array
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from bubble.mountpoints import MOUNT_FILES, MOUNT_FOLDERS
from bubble.viewimage import COUNTS, MAGIC, NO_CONTENT
from packageformat.entry import Kind, Node
from packageformat.errors import FormatError
from packageformat.hashing import file_content_id
from packageformat.limits import DIGEST_SIZE
from packageformat.merge import merge
from packageformat.tree import Tree, build_tree


def compose(layers: Sequence[tuple[bytes, Tree, bytes]]) -> bytes:
    """Return the view image of packages, bottom first.

    Args:
        layers: for each package its version id, its tree and its block ids (32 bytes each, concatenated),
            all verified.

    Raises:
        FormatError: a package whose block ids do not fit its tree, or a file beyond what a view can number.
    """
    for version_id, tree, block_ids in layers:
        if len(block_ids) != tree.block_count * DIGEST_SIZE:
            raise FormatError(f"package {version_id.hex()} has {len(block_ids)} bytes of block ids")
    trees = [tree for _, tree, _ in layers]
    merged = merge([*trees, mount_points(trees)])
    return _Composition(merged.tree, merged.sources, layers).image()


def mount_points(trees: Sequence[Tree]) -> Tree:
    """Return the layer on top of all others, where a bubble mounts what is the host's or its own.

    Folders that a package has keep that package's attributes: caches compare the times of folders.
    """
    nodes: dict[bytes, Node] = {}
    for path in (*MOUNT_FOLDERS, *MOUNT_FILES):
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            nodes[parent] = _topmost_folder(trees, parent)
        if path in MOUNT_FILES:
            nodes[path] = Node(Kind.FILE, 0o644)
        else:
            folder = _topmost_folder(trees, path)
            nodes[path] = replace(folder, mode=0o1777) if path == b"tmp" else folder
    nodes[b""] = _topmost_folder(trees, b"")
    return build_tree(nodes)


def _topmost_folder(trees: Sequence[Tree], path: bytes) -> Node:
    for tree in reversed(trees):
        index = tree.find(path)
        if index is not None and tree.kinds[index] == Kind.FOLDER:
            return replace(tree.node(index), opaque=False)
    return Node(Kind.FOLDER, 0o755)


class _Composition:
    """The columns of an image while they are made, from a merged tree in preorder."""

    def __init__(
        self,
        tree: Tree,
        sources: Sequence[tuple[int, int]],
        layers: Sequence[tuple[bytes, Tree, bytes]],
    ) -> None:
        self.tree = tree
        self.sources = sources
        self.layers = layers
        self.contents: dict[bytes, int] = {}
        self.content_sizes = array("Q")
        self.content_blocks = array("I")
        self.content_layers = array("I")
        self.content_layer_blocks = array("I")
        self.block_ids: list[bytes] = []
        self.block_total = 0
        self.target_ends = array("I")
        self.targets = bytearray()

    def image(self) -> bytes:
        """Return the encoded image."""
        tree = self.tree
        order = self._breadth_first()
        numbers = array("I", bytes(4 * len(tree)))
        for number, index in enumerate(order):
            numbers[index] = number
        names_of = [0] * len(tree)
        for index in order:
            link = tree.links[index]
            names_of[link if link >= 0 else index] += 1
        modes, parents, inodes, links = array("I"), array("I"), array("I"), array("I")
        first_children, child_counts, payloads = array("I"), array("I"), array("I")
        mtimes, sizes, name_ends, names = array("q"), array("Q"), array("I"), bytearray()
        for index in order:
            kind = tree.kinds[index]
            link = tree.links[index]
            owner = link if link >= 0 else index
            children = tree.children(index) if kind == Kind.FOLDER else ()
            names += tree.names[index]
            name_ends.append(len(names))
            parents.append(numbers[tree.parents[index]])
            inodes.append(numbers[owner])
            first_children.append(numbers[children[0]] if children else 0)
            child_counts.append(len(children))
            mtimes.append(tree.mtimes_ns[owner])
            permissions = tree.modes[owner] & 0o1777
            if kind == Kind.FOLDER:
                modes.append(stat.S_IFDIR | permissions)
                sizes.append(4096)
                payloads.append(NO_CONTENT)
                links.append(2 + sum(tree.kinds[child] == Kind.FOLDER for child in children))
            elif kind == Kind.SYMLINK:
                modes.append(stat.S_IFLNK | 0o777)
                target = tree.target(index)
                sizes.append(len(target))
                payloads.append(self._target(target))
                links.append(1)
            else:
                modes.append(stat.S_IFREG | permissions)
                sizes.append(tree.sizes[owner])
                payloads.append(self._content(owner))
                links.append(names_of[owner])
        columns: list[array[int] | bytes | bytearray] = [
            modes, parents, inodes, links, first_children, child_counts, mtimes, sizes, payloads, name_ends,
            names, self.target_ends, self.targets, b"".join(self.contents), self.content_sizes,
            self.content_blocks, self.content_layers, self.content_layer_blocks, b"".join(self.block_ids),
            b"".join(version_id for version_id, _, _ in self.layers),
        ]  # fmt: skip
        head = COUNTS.pack(
            MAGIC,
            len(order),
            len(names),
            len(self.target_ends),
            len(self.targets),
            len(self.contents),
            self.block_total,
            len(self.layers),
            0,
        )
        body = b"".join([head, *(_padded(_little(column)) for column in columns)])
        return body + sha256(body).digest()

    def _breadth_first(self) -> list[int]:
        order = [0]
        for index in order:  # grows while it is walked
            if self.tree.kinds[index] == Kind.FOLDER:
                order.extend(self.tree.children(index))
        return order

    def _target(self, target: bytes) -> int:
        self.targets += target
        self.target_ends.append(len(self.targets))
        return len(self.target_ends) - 1

    def _content(self, index: int) -> int:
        """Return the content number of a file of the merged tree."""
        size = self.tree.sizes[index]
        if not size:
            return NO_CONTENT
        layer, entry = self.sources[index]
        _, tree, block_ids = self.layers[layer]
        first = tree.first_block(entry)
        ids = block_ids[first * DIGEST_SIZE : (first + tree.file_block_count(entry)) * DIGEST_SIZE]
        content_id = file_content_id(size, ids)
        number = self.contents.get(content_id)
        if number is None:
            number = self.contents[content_id] = len(self.contents)
            self.content_sizes.append(size)
            self.content_blocks.append(self.block_total)
            self.content_layers.append(layer)
            self.content_layer_blocks.append(first)
            self.block_ids.append(ids)
            self.block_total += len(ids) // DIGEST_SIZE
            if self.block_total >= NO_CONTENT:
                raise FormatError("a bubble of more blocks than a view can number")
        return number


def _little(column: array[int] | bytes | bytearray) -> bytes:
    if isinstance(column, array) and sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return bytes(column)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
