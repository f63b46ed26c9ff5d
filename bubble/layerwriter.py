"""Makes layer images (layerimage.py) of verified trees. Apart, because a view only reads them."""

from __future__ import annotations

import stat
import sys
from array import array
from collections import Counter
from hashlib import sha256
from itertools import accumulate, islice

from bubble.layerimage import COUNTS, MAGIC, NOTHING, LayerImage
from packageformat.entry import Kind
from packageformat.limits import BLOCK_SIZE
from packageformat.tree import Tree

_FOLDER, _FILE, _SYMLINK, _HARDLINK, _WHITEOUT = (int(kind) for kind in Kind)
_TYPES = {_FOLDER: stat.S_IFDIR, _FILE: stat.S_IFREG, _SYMLINK: stat.S_IFLNK, _HARDLINK: stat.S_IFREG}
_FOLDER_SIZE = 4096


def layer_of_tree(tree: Tree) -> LayerImage:
    """Return the layer image of a verified tree."""
    count = len(tree)
    kinds, parents = tree.kinds, tree.parents
    types = [_TYPES.get(kind, 0) for kind in range(max(kinds) + 1)]
    masks = [0o1777 if type_ else 0 for type_ in types]
    modes = array(
        "I", [types[kind] | mode & masks[kind] for kind, mode in zip(kinds, tree.modes, strict=True)]
    )
    for entry in tree.targets:
        modes[entry] = stat.S_IFLNK | 0o777
    holders = array("I", range(count))
    links = array("I", [1]) * count
    entry = kinds.find(_HARDLINK)
    while entry >= 0:
        holder = tree.links[entry]
        holders[entry] = holder
        links[holder] += 1
        entry = kinds.find(_HARDLINK, entry + 1)
    counted = Counter(islice(parents, 1, None))
    child_counts = [counted[entry] for entry in range(count)]
    sizes = array("Q", tree.sizes)
    payloads = array("I", [NOTHING]) * count
    block = 0
    for entry, size in enumerate(tree.sizes):
        if size:
            payloads[entry] = block
            block += -(-size // BLOCK_SIZE)
    entry = kinds.find(_FOLDER)
    while entry >= 0:
        sizes[entry] = _FOLDER_SIZE
        entry = kinds.find(_FOLDER, entry + 1)
    targets = []
    for number, (entry, target) in enumerate(sorted(tree.targets.items())):
        payloads[entry] = number
        sizes[entry] = len(target)
        targets.append(target)
    return LayerImage(
        modes=modes,
        opaques=bytes(tree.opaques),
        parents=array("I", parents),
        holders=holders,
        links=links,
        first_children=array("I", accumulate(child_counts[:-1], initial=0)),
        child_counts=array("I", child_counts),
        children=array("I", sorted(range(1, count), key=parents.__getitem__)),  # stable: names stay sorted
        mtimes_ns=array("q", tree.mtimes_ns),
        sizes=sizes,
        payloads=payloads,
        name_ends=array("I", accumulate(map(len, tree.names))),
        names=b"".join(tree.names),
        target_ends=array("I", accumulate(map(len, targets))),
        targets=b"".join(targets),
        block_count=block,
    )


def encode_layer(layer: LayerImage) -> bytes:
    """Return the bytes of a layer image."""
    counts = COUNTS.pack(
        MAGIC, len(layer), len(layer.names), len(layer.target_ends), len(layer.targets), layer.block_count, 0
    )
    columns: tuple[array[int] | bytes, ...] = (
        layer.modes, layer.opaques, layer.parents, layer.holders, layer.links, layer.first_children,
        layer.child_counts, layer.children, layer.mtimes_ns, layer.sizes, layer.payloads, layer.name_ends,
        layer.names, layer.target_ends, layer.targets,
    )  # fmt: skip
    body = b"".join([counts, *(_padded(_little(column)) for column in columns)])
    return body + sha256(body).digest()


def _little(column: array[int] | bytes) -> bytes:
    if isinstance(column, array) and sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return bytes(column)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
