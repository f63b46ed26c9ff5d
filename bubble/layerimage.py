"""One package's tree in the shape that a view reads: loaded in a few milliseconds, made once a version.

    magic 8 · counts 6 x u32 · columns (below), each padded to 8 bytes · SHA-256 of all before it

An entry's number is its position in the package's tree (preorder), so it is the same wherever the package is
used. What makes it (layerwriter.py) is given a verified tree, and the file lies in a folder of the user's
own: it is trusted, the checksum only finds a bad disk.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE

MAGIC = b"MSLAYER1"
NOTHING = 0xFFFFFFFF
"""In place of a block or target number: there is none."""

COUNTS = struct.Struct("<8s6I")
"""Magic, entries, bytes of names, symbolic links, bytes of their targets, blocks, 0."""


@dataclass(slots=True, eq=False)
class LayerImage:
    """The columns, one item an entry. Of a hard link, ask for its `holders` entry's attributes."""

    modes: array[int]  # st_mode without set-id bits; 0 of a whiteout
    opaques: bytes
    parents: array[int]
    holders: array[int]  # the entry whose attributes and content these are: itself, or a hard link's file
    links: array[int]  # st_nlink, within the package; 1 of a folder (as overlayfs says of merged ones)
    first_children: array[int]  # where in `children` a folder's entries begin
    child_counts: array[int]
    children: array[int]  # entries, folder by folder, sorted by name
    mtimes_ns: array[int]
    sizes: array[int]
    payloads: array[int]  # a file's first block, a symbolic link's number, or NOTHING
    name_ends: array[int]
    names: bytes
    target_ends: array[int]
    targets: bytes
    block_count: int

    def __len__(self) -> int:
        return len(self.modes)

    def name(self, entry: int) -> bytes:
        """Return the name of an entry; the root's is empty."""
        return self.names[self.name_ends[entry - 1] if entry else 0 : self.name_ends[entry]]

    def target(self, entry: int) -> bytes:
        """Return the text of a symbolic link."""
        number = self.payloads[entry]
        return self.targets[self.target_ends[number - 1] if number else 0 : self.target_ends[number]]

    def entries(self, folder: int) -> Sequence[int]:
        """Return the entries of a folder, sorted by name."""
        first = self.first_children[folder]
        return self.children[first : first + self.child_counts[folder]]

    def child(self, folder: int, name: bytes) -> int | None:
        """Return the entry `name` in a folder, or None. Binary search."""
        children, name_ends, names = self.children, self.name_ends, self.names
        low = self.first_children[folder]
        high = end = low + self.child_counts[folder]
        while low < high:
            middle = (low + high) // 2
            entry = children[middle]
            if names[name_ends[entry - 1] : name_ends[entry]] < name:
                low = middle + 1
            else:
                high = middle
        if low < end and self.name(children[low]) == name:
            return children[low]
        return None

    def find(self, path: bytes) -> int | None:
        """Return the entry at `path`, relative to the root, or None. Links are not followed."""
        entry: int | None = 0
        for name in path.split(b"/"):
            if name and entry is not None:
                entry = self.child(entry, name)
        return entry

    def path(self, entry: int) -> bytes:
        """Return the path of an entry, relative to the root."""
        parts = []
        while entry:
            parts.append(self.name(entry))
            entry = self.parents[entry]
        return b"/".join(reversed(parts))


def load_layer(data: bytes | memoryview) -> LayerImage:
    """Return the layer image that `encode_layer` wrote.

    Raises:
        FormatError: it is damaged, or of another version of Millstream.
    """
    view = memoryview(data)
    if len(view) < COUNTS.size + DIGEST_SIZE or view[: len(MAGIC)] != MAGIC:
        raise FormatError("a layer image that is not one", hint="start the application again")
    if sha256(view[:-DIGEST_SIZE]).digest() != view[-DIGEST_SIZE:]:
        raise FormatError("a layer image that is damaged", hint="start the application again")
    _, entries, name_bytes, targets, target_bytes, blocks, _ = COUNTS.unpack_from(view)
    columns = _Columns(view[:-DIGEST_SIZE], COUNTS.size)
    layer = LayerImage(
        modes=columns.numbers("I", entries),
        opaques=columns.octets(entries),
        parents=columns.numbers("I", entries),
        holders=columns.numbers("I", entries),
        links=columns.numbers("I", entries),
        first_children=columns.numbers("I", entries),
        child_counts=columns.numbers("I", entries),
        children=columns.numbers("I", entries - 1),
        mtimes_ns=columns.numbers("q", entries),
        sizes=columns.numbers("Q", entries),
        payloads=columns.numbers("I", entries),
        name_ends=columns.numbers("I", entries),
        names=columns.octets(name_bytes),
        target_ends=columns.numbers("I", targets),
        targets=columns.octets(target_bytes),
        block_count=blocks,
    )
    if columns.left:
        raise FormatError("a layer image with something behind it", hint="start the application again")
    return layer


class _Columns:
    """A walk over an image's columns."""

    def __init__(self, view: memoryview, offset: int) -> None:
        self._view = view
        self._offset = offset

    @property
    def left(self) -> int:
        return len(self._view) - self._offset

    def octets(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._view):
            raise FormatError("a layer image that is too short", hint="start the application again")
        data = bytes(self._view[self._offset : end])
        self._offset = end + -size % 8
        return data

    def numbers(self, code: str, count: int) -> array[int]:
        column = array(code)
        column.frombytes(self.octets(count * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column
