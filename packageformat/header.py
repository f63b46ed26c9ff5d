"""The header of a package file: 512 bytes that say where the sections are."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from packageformat.encoding import Value
from packageformat.errors import FormatError, UnsupportedError
from packageformat.limits import (
    BLOCKS_MAX,
    BLOCKS_SECTION_MAX,
    DIGEST_SIZE,
    FORMAT_VERSION,
    LAYOUT_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    SIGNATURE_SIZE,
    TREE_BYTES_MAX,
)
from packageformat.record import Record

HEADER_SIZE = 512
MAGIC = b"\x89OVP\r\n\x1a\n"
"""As PNG's: a transfer that mangles line ends or strips the eighth bit damages it."""

PREAMBLE = struct.Struct("<8sHH4x")
"""Magic, version, number of sections, four bytes of zero."""

EXTENT = struct.Struct("<QQQ")
"""Offset, stored size, plain size; one for each section, in order, after the preamble."""

HEAD_DIGEST_OFFSET = HEADER_SIZE - 2 * DIGEST_SIZE
"""SHA-256 of the stored bytes between the header and the blocks: no damage there goes unseen."""

CHECKSUM_OFFSET = HEADER_SIZE - DIGEST_SIZE
"""SHA-256 of all bytes before it. It finds damage; trust comes from the signature."""


class Section(IntEnum):
    """The sections, in their order in the file."""

    MANIFEST = 0
    SIGNATURE = 1
    TREE = 2
    BLOCK_IDS = 3
    LAYOUT = 4
    BLOCKS = 5


COMPRESSED = (Section.MANIFEST, Section.TREE, Section.LAYOUT)
"""Sections that are one zstd frame; of the others the stored and the plain size are the same."""

PLAIN_MAX: Mapping[Section, int] = {
    Section.MANIFEST: MANIFEST_BYTES_MAX,
    Section.SIGNATURE: SIGNATURE_SIZE,
    Section.TREE: TREE_BYTES_MAX,
    Section.BLOCK_IDS: BLOCKS_MAX * DIGEST_SIZE,
    Section.LAYOUT: LAYOUT_BYTES_MAX,
    Section.BLOCKS: BLOCKS_SECTION_MAX,
}


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a section is in the file, in bytes."""

    offset: int
    stored_size: int
    plain_size: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the section."""
        return self.offset + self.stored_size


@dataclass(frozen=True, slots=True)
class Header:
    """All sections. They follow one another without gaps, so they cannot overlap."""

    sections: Mapping[Section, Extent]
    head_digest: bytes  # SHA-256 of the stored bytes from the end of the header to the first block

    def __post_init__(self) -> None:
        if set(self.sections) != set(Section):
            raise FormatError("a header without all sections")
        if len(self.head_digest) != DIGEST_SIZE:
            raise FormatError("a header with a digest that is not one")
        position = HEADER_SIZE
        for section in Section:
            extent = self.sections[section]
            if extent.offset != position:
                raise FormatError(f"a header whose section {section.name} overlaps another or leaves a gap")
            most = PLAIN_MAX[section]
            if not 0 <= extent.plain_size <= most or not 0 <= extent.stored_size <= most + 4096:
                raise FormatError(f"a header whose section {section.name} is larger than {most} bytes")
            if section not in COMPRESSED and extent.stored_size != extent.plain_size:
                raise FormatError(f"a header whose section {section.name} has two sizes")
            position = extent.end
        if self.sections[Section.SIGNATURE].stored_size != SIGNATURE_SIZE:
            raise FormatError("a header whose signature is not of its size")

    def __hash__(self) -> int:
        return hash(self.head_digest)

    @property
    def head_size(self) -> int:
        """Bytes of the file before the blocks: all that must be read before a block can be found."""
        return self.sections[Section.BLOCKS].offset

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.sections[Section.BLOCKS].end


def header_of_sizes(sizes: Mapping[Section, tuple[int, int]], head_digest: bytes) -> Header:
    """Return the header of a file whose sections have these stored and plain sizes."""
    extents: dict[Section, Extent] = {}
    position = HEADER_SIZE
    for section in Section:
        stored_size, plain_size = sizes[section]
        extents[section] = Extent(position, stored_size, plain_size)
        position += stored_size
    return Header(extents, head_digest)


def encode_header(header: Header) -> bytes:
    """Return the 512 bytes of `header`."""
    parts = [PREAMBLE.pack(MAGIC, FORMAT_VERSION, len(Section))]
    for section in Section:
        extent = header.sections[section]
        parts.append(EXTENT.pack(extent.offset, extent.stored_size, extent.plain_size))
    front = b"".join(parts).ljust(HEAD_DIGEST_OFFSET, b"\0") + header.head_digest
    return front + sha256(front).digest()


def decode_header(data: bytes) -> Header:
    """Return the header that `data`, 512 untrusted bytes, encodes.

    Raises:
        UnsupportedError: a package of a newer format.
        FormatError: not a package, or a damaged header.
    """
    if len(data) != HEADER_SIZE:
        raise FormatError(f"a header of {len(data)} bytes, expected {HEADER_SIZE}")
    magic, version, count = PREAMBLE.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("not a Millstream package")
    if sha256(data[:CHECKSUM_OFFSET]).digest() != data[CHECKSUM_OFFSET:]:
        raise FormatError("a package with a damaged header")
    if version != FORMAT_VERSION:
        raise UnsupportedError(f"a package of format {version}, this is {FORMAT_VERSION}")
    if count != len(Section):
        raise FormatError(f"a header of {count} sections, expected {len(Section)}")
    header = Header(
        {
            section: Extent(*EXTENT.unpack_from(data, PREAMBLE.size + section * EXTENT.size))
            for section in Section
        },
        data[HEAD_DIGEST_OFFSET:CHECKSUM_OFFSET],
    )
    if encode_header(header) != data:
        raise FormatError("a header with bytes where there must be zeros")
    return header


def header_value(header: Header) -> Value:
    """Return `header` as a value: the stored and plain size of each section, in order, and the digest."""
    sizes = tuple(
        (header.sections[section].stored_size, header.sections[section].plain_size) for section in Section
    )
    return (*sizes, header.head_digest)


def header_of(value: Value) -> Header:
    """Return the header of a decoded, untrusted value.

    Raises:
        FormatError: it is not one.
    """
    record = Record(value, "header", len(Section) + 1)
    sizes: dict[Section, tuple[int, int]] = {}
    for section in Section:
        extent = Record(record.value(), "section", 2)
        sizes[section] = (extent.number(1 << 62), extent.number(1 << 62))
    return header_of_sizes(sizes, record.digest())
