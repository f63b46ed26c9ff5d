"""What a view needs to answer a bubble's file system: one file, made once (composition.py), loaded fast.

    magic 8 · counts 8 x u32 · columns (below), each padded to 8 bytes · SHA-256 of all before it

Entries are numbered folder by folder (breadth first), so the children of a folder lie side by side; the
number is the inode (plus one, for the root's must be 1). The composer has verified everything in here up
to the publishers' signatures, and the image lies in a folder of the user's own: it is trusted, the
checksum only finds a bad disk.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from hashlib import sha256

from packageformat.errors import FormatError
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE

MAGIC = b"MSVIEW1\n"
NO_CONTENT = 0xFFFFFFFF
COUNTS = struct.Struct("<8s8I")
"""Magic, entries, bytes of names, symbolic links, bytes of their targets, contents, blocks, layers, 0."""


@dataclass(frozen=True, slots=True)
class Content:
    """What one or more files of the view hold."""

    number: int
    content_id: bytes
    size: int  # bytes
    first_block: int  # of the view's own numbering, see `ViewImage.block_id`
    layer: bytes  # version id of a package that has it
    layer_first_block: int  # number of its first block in that package

    @property
    def block_count(self) -> int:
        """How many blocks it has."""
        return -(-self.size // BLOCK_SIZE)


@dataclass(slots=True, eq=False)
class ViewImage:
    """A loaded image: columns, one item an entry, and tables of contents, blocks and layers."""

    modes: array[int]  # st_mode without set-id bits
    parents: array[int]
    inodes: array[int]  # the entry whose attributes and content these are: itself, or a hard link's file
    links: array[int]  # st_nlink
    first_children: array[int]
    child_counts: array[int]
    mtimes_ns: array[int]
    sizes: array[int]
    payloads: array[int]  # a file's content number, a symbolic link's target number, or NO_CONTENT
    name_ends: array[int]
    names: bytes
    target_ends: array[int]
    targets: bytes
    content_ids: bytes
    content_sizes: array[int]
    content_blocks: array[int]  # the view's number of each content's first block
    content_layers: array[int]
    content_layer_blocks: array[int]
    block_ids: bytes
    layers: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.modes)

    def name(self, entry: int) -> bytes:
        """Return the name of an entry; the root's is empty."""
        return self.names[self.name_ends[entry - 1] if entry else 0 : self.name_ends[entry]]

    def target(self, entry: int) -> bytes:
        """Return the text of a symbolic link."""
        number = self.payloads[entry]
        return self.targets[self.target_ends[number - 1] if number else 0 : self.target_ends[number]]

    def children(self, entry: int) -> range:
        """Return the numbers of a folder's entries, sorted by name."""
        first = self.first_children[entry]
        return range(first, first + self.child_counts[entry])

    def child(self, entry: int, name: bytes) -> int | None:
        """Return the number of the entry `name` in a folder, or None. Binary search."""
        low = self.first_children[entry]
        high = end = low + self.child_counts[entry]
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low if low < end and self.name(low) == name else None

    def find(self, path: bytes) -> int | None:
        """Return the number of the entry at `path`, relative to the root. Links are not followed."""
        entry: int | None = 0
        for name in path.split(b"/"):
            if name and entry is not None:
                entry = self.child(entry, name)
        return entry

    @property
    def content_count(self) -> int:
        """How many contents there are."""
        return len(self.content_sizes)

    def content(self, number: int) -> Content:
        """Return one content.

        Raises:
            IndexError: there is no such content.
        """
        if not 0 <= number < len(self.content_sizes):
            raise IndexError(number)
        return Content(
            number,
            self.content_ids[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE],
            self.content_sizes[number],
            self.content_blocks[number],
            self.layers[self.content_layers[number]],
            self.content_layer_blocks[number],
        )

    def block_id(self, block: int) -> bytes:
        """Return the id of a block, by the view's own numbering."""
        return self.block_ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]


def load(data: bytes) -> ViewImage:
    """Return the image that `compose` made.

    Raises:
        FormatError: it is damaged, or of another version of Millstream.
    """
    if len(data) < COUNTS.size + DIGEST_SIZE or not data.startswith(MAGIC):
        raise FormatError("a view image that is not one", hint="start the application again")
    view = memoryview(data)
    if sha256(view[:-DIGEST_SIZE]).digest() != data[-DIGEST_SIZE:]:
        raise FormatError("a view image that is damaged", hint="start the application again")
    _, entries, name_bytes, targets, target_bytes, contents, blocks, layers, _ = COUNTS.unpack_from(data)
    columns = _Columns(view[:-DIGEST_SIZE], COUNTS.size)
    image = ViewImage(
        modes=columns.numbers("I", entries),
        parents=columns.numbers("I", entries),
        inodes=columns.numbers("I", entries),
        links=columns.numbers("I", entries),
        first_children=columns.numbers("I", entries),
        child_counts=columns.numbers("I", entries),
        mtimes_ns=columns.numbers("q", entries),
        sizes=columns.numbers("Q", entries),
        payloads=columns.numbers("I", entries),
        name_ends=columns.numbers("I", entries),
        names=columns.octets(name_bytes),
        target_ends=columns.numbers("I", targets),
        targets=columns.octets(target_bytes),
        content_ids=columns.octets(contents * DIGEST_SIZE),
        content_sizes=columns.numbers("Q", contents),
        content_blocks=columns.numbers("I", contents),
        content_layers=columns.numbers("I", contents),
        content_layer_blocks=columns.numbers("I", contents),
        block_ids=columns.octets(blocks * DIGEST_SIZE),
        layers=columns.digests(layers),
    )
    if columns.left:
        raise FormatError("a view image with something behind it", hint="start the application again")
    return image


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
            raise FormatError("a view image that is too short", hint="start the application again")
        data = bytes(self._view[self._offset : end])
        self._offset = end + -size % 8
        return data

    def numbers(self, code: str, count: int) -> array[int]:
        column = array(code)
        column.frombytes(self.octets(count * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column

    def digests(self, count: int) -> tuple[bytes, ...]:
        data = self.octets(count * DIGEST_SIZE)
        return tuple(data[start : start + DIGEST_SIZE] for start in range(0, len(data), DIGEST_SIZE))
