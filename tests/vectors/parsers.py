"""Every parser of the format as a function of bytes. A vector's name begins with the name of its parser.

What a parser needs besides the bytes (a verified tree, a stack, a trusted key) is the sample's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from packageformat.delta import (
    PageNumbers,
    decode_delta,
    delta_head_size,
    read_region,
    unpack_delta_frame,
)
from packageformat.encoding import decode
from packageformat.errors import FormatError
from packageformat.launchpack import PackLayer, PackReader
from packageformat.launchprofile import decode_profiles, encode_profiles
from packageformat.layout import decode_layout, encode_layout, unpack_frame
from packageformat.limits import ENVELOPE_BYTES_MAX
from packageformat.manifest import decode_manifest, encode_manifest
from packageformat.pointer import decode_pointer, encode_pointer
from packageformat.publishing import decode_publishing, encode_publishing
from packageformat.signed import open_sealed
from packageformat.tree import decode_tree, encode_tree
from tests.vectors.sample import OLD, SAMPLE, SERVER, STACK, parse_package
from tests.vectors.tablepack import TABLE_STACK

Parser = Callable[[bytes], bytes]
"""Takes untrusted bytes; returns what they say as bytes again, or raises FormatError."""

FRAME = 3
"""The frame of the sample that is solid: several small files."""


def read_package(file: bytes) -> bytes:
    """Read a whole package file, every frame of it."""
    package = parse_package(file)
    for frame in range(len(package.layout.frames)):
        offset, size = package.frame_extent(frame)
        unpack_frame(
            package.tree, package.block_ids, package.layout.blocks(frame), file[offset : offset + size]
        )
    return file


def read_pack(stream: bytes, stack: Sequence[PackLayer] = STACK) -> bytes:
    """Read a launch pack to its end."""
    reader = PackReader(stack)
    reader.feed(stream)
    if not reader.complete:
        raise FormatError("a launch pack that is cut short")
    return stream


def read_delta(object_: bytes) -> bytes:
    """Read a delta to its end, every frame of it."""
    size = delta_head_size(object_)
    pages = PageNumbers(OLD.tree)
    package = SAMPLE.package
    delta = decode_delta(object_[:size], package.tree, package.version_id, pages, OLD.version_id)
    if delta.size != len(object_):
        raise FormatError("a delta that is cut short or goes on after its end")
    for number, frame in enumerate(delta.directory.frames):
        region = read_region(frame, pages, lambda block, start, end: OLD.read_block(block)[start:end])
        assert region is not None
        offset, stored_size = delta.place(number)
        stored = object_[offset : offset + stored_size]
        unpack_delta_frame(frame, package.tree, package.block_id, stored, region)
    return object_


def read_frame(stored: bytes) -> bytes:
    """Read a frame."""
    package = SAMPLE.package
    unpack_frame(package.tree, package.block_ids, package.layout.blocks(FRAME), stored)
    return stored


def read_layout(data: bytes) -> bytes:
    """Read a layout."""
    return encode_layout(decode_layout(data, SAMPLE.package.tree, SAMPLE.package.block_ids))


def read_envelope(envelope: bytes) -> bytes:
    """Open a sealed pointer."""
    open_sealed("pointer", envelope, {SERVER})
    return envelope


def read_encoding(data: bytes) -> bytes:
    """Decode any document."""
    decode(data, max_bytes=ENVELOPE_BYTES_MAX)
    return data


PARSERS: Mapping[str, Parser] = {
    "delta": read_delta,
    "encoding": read_encoding,
    "envelope": read_envelope,
    "frame": read_frame,
    "layout": read_layout,
    "manifest": lambda data: encode_manifest(decode_manifest(data)),
    "pack": read_pack,
    "package": read_package,
    "pointer": lambda data: encode_pointer(decode_pointer(data)),
    "profile": lambda data: encode_profiles(decode_profiles(data)),
    "publishing": lambda data: encode_publishing(decode_publishing(data)),
    "tablepack": lambda data: read_pack(data, TABLE_STACK),
    "tree": lambda data: encode_tree(decode_tree(data)),
}


def parser_of(name: str) -> Parser:
    """Return the parser of the vector called `name`: `tree-unsorted.bin` is for the tree's."""
    return PARSERS[name.split("-")[0].split(".")[0]]
