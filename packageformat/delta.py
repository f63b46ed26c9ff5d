"""Deltas: the changed blocks of a new version, written against pages of the old one.

    preamble · directory (one zstd frame) · frame · frame · ...

Any frame can be fetched alone, by a range request, and is read with nothing but its own old pages. A delta is
not signed and proves nothing: each block is compared with the id that the new version's manifest vouches for.
`deltabuild` makes deltas, `deltadirectory` and `deltaframe` are the inside of this module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate

from packageformat.compression import compress, decompress
from packageformat.deltadirectory import (
    DeltaDirectory,
    DeltaFrame,
    OldPages,
    PageNumbers,
    decode_directory,
    encode_directory,
)
from packageformat.deltaframe import UnpackedFrame, unpack_delta_frame
from packageformat.errors import FormatError, UnsupportedError
from packageformat.limits import DELTA_DIRECTORY_BYTES_MAX, FORMAT_VERSION
from packageformat.tree import Tree

__all__ = [
    "PREAMBLE_SIZE",
    "Delta",
    "DeltaDirectory",
    "DeltaFrame",
    "OldPages",
    "PageNumbers",
    "UnpackedFrame",
    "assemble_delta",
    "decode_delta",
    "delta_head_size",
    "read_region",
    "unpack_delta_frame",
]

MAGIC = b"OVPDELT1"
PREAMBLE = struct.Struct("<8sHHII12x32s")
"""Magic, version, zero, stored and plain bytes of the directory, zeros, SHA-256 of the stored directory."""

PREAMBLE_SIZE = PREAMBLE.size


@dataclass(frozen=True, slots=True)
class Delta:
    """The head of a delta that fits its two versions."""

    directory: DeltaDirectory
    head_size: int  # bytes before the first frame
    offsets: tuple[int, ...] = field(init=False, repr=False)  # of each frame in the object, and its end

    def __post_init__(self) -> None:
        sizes = (frame.stored_size for frame in self.directory.frames)
        object.__setattr__(self, "offsets", tuple(accumulate(sizes, initial=self.head_size)))

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return self.offsets[-1]

    def frame_of(self, block: int) -> int | None:
        """Return the number of the frame that gives a block of the new version, or None."""
        return self.directory.frame_of.get(block)

    def place(self, frame: int) -> tuple[int, int]:
        """Return a frame's offset in the object and its size there, in bytes."""
        return self.offsets[frame], self.offsets[frame + 1] - self.offsets[frame]


def delta_head_size(preamble: bytes) -> int:
    """Return how many bytes come before the first frame, from the first `PREAMBLE_SIZE` bytes, untrusted.

    Raises:
        FormatError: they are not those of a delta.
    """
    return PREAMBLE.size + _read_preamble(preamble)[0]


def decode_delta(head: bytes, new: Tree, new_version: bytes, old: PageNumbers, old_version: bytes) -> Delta:
    """Return the delta with this head, checked against its two versions.

    Args:
        head: the first bytes of the object, untrusted: exactly `delta_head_size` of them.
        new: the tree of the new version, verified.
        new_version: its id.
        old: the pages of the old version, of its verified tree.
        old_version: its id.

    Raises:
        FormatError: it is damaged, or not a delta of these versions.
    """
    stored_size, plain_size, name = _read_preamble(head)
    stored = head[PREAMBLE.size :]
    if len(stored) != stored_size or sha256(stored).digest() != name:
        raise FormatError("a delta with a damaged directory")
    directory = decode_directory(decompress(stored, plain_size))
    if (directory.old_version, directory.new_version) != (old_version, new_version):
        raise FormatError("a delta of other versions")
    directory.check(old, new)
    return Delta(directory, len(head))


def assemble_delta(directory: DeltaDirectory, frames: Sequence[bytes]) -> bytes:
    """Return the object: preamble, directory, frames as stored."""
    plain = encode_directory(directory)
    stored = compress(plain, 19)
    preamble = PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0, len(stored), len(plain), sha256(stored).digest())
    return b"".join((preamble, stored, *frames))


def read_region(
    frame: DeltaFrame, old: PageNumbers, read_old: Callable[[int, int, int], bytes | None]
) -> bytes | None:
    """Return the old pages that a frame is written against, or None if one is not to be had.

    Args:
        frame: from a checked directory.
        old: the pages of the old version.
        read_old: gives the bytes of an old block from one place to another (both multiples of a page, or its
            end), or None.
    """
    parts: list[bytes] = []
    for extent in frame.old_pages:
        for block, start, end in old.parts(extent):
            part = read_old(block, start, end)
            if part is None or len(part) != end - start:
                return None
            parts.append(part)
    return b"".join(parts)


def _read_preamble(data: bytes) -> tuple[int, int, bytes]:
    if len(data) < PREAMBLE.size:
        raise FormatError("a delta that is cut short")
    magic, version, zero, stored_size, plain_size, name = PREAMBLE.unpack_from(data)
    if magic != MAGIC or zero or any(data[20:32]):
        raise FormatError("not a delta")
    if version != FORMAT_VERSION:
        raise UnsupportedError(f"a delta of format {version}, this is {FORMAT_VERSION}")
    if not 0 < plain_size <= DELTA_DIRECTORY_BYTES_MAX or not 0 < stored_size <= plain_size + 4096:
        raise FormatError(f"a delta's directory of {plain_size} bytes")
    return stored_size, plain_size, name
