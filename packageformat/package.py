"""A package: its head, verified, from a file or from HTTP ranges alike.

`PackageParser` does no I/O: it says which bytes it needs, and is fed. What it gives is verified up to the
publisher's signature; only the frames of the BLOCKS section are left, which `unpack_frame` verifies one
by one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from packageformat.compression import compress, decompress
from packageformat.errors import FormatError, SignatureError
from packageformat.hashing import file_content_id
from packageformat.hashtree import root, split
from packageformat.header import (
    COMPRESSED,
    HEADER_SIZE,
    Extent,
    Header,
    Section,
    decode_header,
    encode_header,
    header_of_sizes,
)
from packageformat.layout import Layout, decode_layout, encode_layout
from packageformat.limits import DIGEST_SIZE
from packageformat.manifest import Manifest, decode_manifest, version_id
from packageformat.signature import check, fingerprint
from packageformat.tree import Tree, decode_tree, encode_tree

__all__ = [
    "HEADER_SIZE",
    "Extent",
    "Header",
    "Outline",
    "Package",
    "PackageParser",
    "Section",
    "assemble_head",
    "complete",
    "decode_header",
    "encode_header",
    "front_extent",
    "read_outline",
]


@dataclass(frozen=True, slots=True)
class Outline:
    """The front of a package's head, verified: who and what it is, and its tree. A launch begins with it."""

    header: Header
    manifest: Manifest
    manifest_bytes: bytes
    version_id: bytes
    signature: bytes
    tree: Tree


@dataclass(frozen=True, slots=True)
class Package:
    """The head of a package, verified."""

    header: Header
    manifest: Manifest
    manifest_bytes: bytes
    version_id: bytes
    signature: bytes
    tree: Tree
    block_ids: bytes
    layout: Layout

    @property
    def outline(self) -> Outline:
        """What of it a launch begins with."""
        return Outline(
            self.header, self.manifest, self.manifest_bytes, self.version_id, self.signature, self.tree
        )

    def frame_extent(self, frame: int) -> tuple[int, int]:
        """Return a frame's offset in the file and its size there, in bytes."""
        offset, size = self.layout.place(frame)
        return self.header.sections[Section.BLOCKS].offset + offset, size

    def block_ids_of(self, entry: int) -> bytes:
        """Return the ids of the blocks of a FILE, or of a HARDLINK's file, concatenated."""
        count = self.tree.file_block_count(entry)
        if not count:
            return b""
        first = self.tree.first_block(entry)
        return self.block_ids[first * DIGEST_SIZE : (first + count) * DIGEST_SIZE]

    def block_id(self, block: int) -> bytes:
        """Return the id of a block."""
        return self.block_ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]

    def content_id(self, entry: int) -> bytes:
        """Return the id of the content of a FILE, or of a HARDLINK's file: its name in a cache."""
        return file_content_id(self.tree.file_size(entry), self.block_ids_of(entry))


class PackageParser:
    """Reads the head of a package: everything before its blocks. No I/O: ask `needs`, then `feed`.

    With an `expected_version_id` the content is exactly that; with `trusted` the publisher must be one of
    those. With neither, the signature only proves that the named publisher made it: the caller decides
    whether to trust `package.manifest.publisher`.
    """

    def __init__(
        self,
        size: int | None,
        expected_version_id: bytes | None = None,
        trusted: Collection[bytes] | None = None,
        header: Header | None = None,
    ) -> None:
        """Begin.

        Args:
            size: bytes of the whole file, or None if not known.
            expected_version_id: the version that it must be, or None for any.
            trusted: public keys of the publishers that are trusted, or None for any.
            header: from a signed pointer, which spares reading it from the file.

        Raises:
            FormatError: a file of that size cannot be a package.
        """
        self._size = size
        self._expected = expected_version_id
        self._trusted = trusted
        self._buffer = bytearray()
        self._header: Header | None = None
        self._package: Package | None = None
        if size is not None and size < HEADER_SIZE:
            raise FormatError(f"a file of {size} bytes is too short for a package")
        if header is not None:
            self.feed(0, encode_header(header))

    @property
    def package(self) -> Package | None:
        """The package, once nothing more is needed."""
        return self._package

    def needs(self) -> list[tuple[int, int]]:
        """Return the next bytes to feed, as pairs of offset and size; none when the package is there.."""
        if self._package is not None:
            return []
        have = len(self._buffer)
        wanted = HEADER_SIZE if self._header is None else self._header.head_size
        return [(have, wanted - have)]

    def feed(self, offset: int, data: bytes) -> None:
        """Take bytes of the file, untrusted, from `offset` on; pieces, or more than asked for, are welcome.

        Raises:
            FormatError: (or one of its kinds) they are not those of a package that fits what is expected.
            ValueError: they leave a gap after the bytes fed before.
        """
        have = len(self._buffer)
        if offset > have:
            raise ValueError(f"fed from {offset} on, but only {have} bytes are there")
        if self._package is not None:
            return
        limit = HEADER_SIZE if self._header is None else self._header.head_size
        rest = memoryview(data)[have - offset :]
        self._buffer += rest[: limit - have]
        if len(self._buffer) < limit:
            return
        if self._header is None:
            self._header = self._check_header(decode_header(bytes(self._buffer)))
            self.feed(limit, bytes(rest[limit - have :]))
            return
        self._package = self._parse(self._header, bytes(self._buffer))
        self._buffer = bytearray()

    def _check_header(self, header: Header) -> Header:
        if self._size is not None and header.file_size != self._size:
            raise FormatError(
                f"a package of {header.file_size} bytes in a file of {self._size}: it is cut short"
            )
        return header

    def _parse(self, header: Header, head: bytes) -> Package:
        if sha256(memoryview(head)[HEADER_SIZE:]).digest() == header.head_digest:
            return self._verified(header, head)
        damaged = "a package that is damaged before its blocks"
        try:
            self._verified(header, head)
        except FormatError as error:  # says which part it is
            raise FormatError(f"{damaged}: {error}") from error
        raise FormatError(damaged)

    def _verified(self, header: Header, head: bytes) -> Package:
        outline = _outline(header, head, self._expected, self._trusted)
        return _completed(outline, head)


def front_extent(header: Header) -> tuple[int, int]:
    """Return where the front of the head lies: offset and size in bytes of what `read_outline` takes."""
    return HEADER_SIZE, header.sections[Section.TREE].end - HEADER_SIZE


def read_outline(
    header: Header, front: bytes, expected_version_id: bytes, trusted: Collection[bytes] | None = None
) -> Outline:
    """Return the front of a package, verified up to its publisher's signature.

    Args:
        header: from a signed pointer, or checked before.
        front: untrusted bytes, those of `front_extent`.
        expected_version_id: the version that it must be.
        trusted: public keys of the publishers that are trusted, or None for any.

    Raises:
        FormatError: (or one of its kinds) they are not the front of that package.
    """
    if len(front) != front_extent(header)[1]:
        raise FormatError(f"the front of a package of {len(front)} bytes")
    return _outline(header, bytes(HEADER_SIZE) + front, expected_version_id, trusted)


def complete(outline: Outline, front: bytes, rest: bytes) -> Package:
    """Return the whole package, once the rest of its head has come.

    Args:
        outline: verified.
        front: the bytes that it was read from.
        rest: untrusted bytes: of the head, what lies behind its front.

    Raises:
        FormatError: they are not the rest of that package.
    """
    header = outline.header
    head = bytes(HEADER_SIZE) + front + rest
    if len(head) != header.head_size or sha256(memoryview(head)[HEADER_SIZE:]).digest() != header.head_digest:
        raise FormatError("a package that is damaged before its blocks")
    return _completed(outline, head)


def _outline(
    header: Header, head: bytes, expected: bytes | None, trusted: Collection[bytes] | None
) -> Outline:
    """Check and decode the sections up to the tree."""
    manifest_bytes = _section(header, head, Section.MANIFEST)
    version = version_id(manifest_bytes)
    if expected is not None and version != expected:
        raise FormatError(f"package {version.hex()} where {expected.hex()} was expected")
    manifest = decode_manifest(manifest_bytes)
    if trusted is not None and manifest.publisher not in trusted:
        raise SignatureError(
            f"{manifest.name} {manifest.version} is signed by {fingerprint(manifest.publisher)}, "
            "which is not trusted"
        )
    signature = _section(header, head, Section.SIGNATURE)
    check("manifest", manifest_bytes, signature, manifest.publisher)
    if header.sections[Section.TREE].plain_size != manifest.tree_size:
        raise FormatError("a tree that is not of the size in the manifest")
    tree_bytes = _section(header, head, Section.TREE)
    if sha256(tree_bytes).digest() != manifest.tree_digest:
        raise FormatError("a tree that does not match the manifest")
    tree = decode_tree(tree_bytes)
    if tree.block_count != manifest.block_count or tree.plain_bytes != manifest.plain_bytes:
        raise FormatError("a tree whose blocks are not those of the manifest")
    for application in manifest.applications:
        if application.desktop_file and not tree.has(application.desktop_file):
            raise FormatError(f"application {application.id} has a desktop file that is not in the tree")
    return Outline(header, manifest, manifest_bytes, version, signature, tree)


def _completed(outline: Outline, head: bytes) -> Package:
    """Check and decode the sections behind the tree."""
    header, manifest, tree = outline.header, outline.manifest, outline.tree
    block_ids = _section(header, head, Section.BLOCK_IDS)
    if len(block_ids) != tree.block_count * DIGEST_SIZE or root(split(block_ids)) != manifest.blocks_root:
        raise FormatError("block ids that do not match the manifest")
    layout = decode_layout(_section(header, head, Section.LAYOUT), tree, block_ids)
    if layout.stored_bytes != header.sections[Section.BLOCKS].stored_size:
        raise FormatError("a layout whose frames do not make up the blocks' section")
    return Package(
        header,
        manifest,
        outline.manifest_bytes,
        outline.version_id,
        outline.signature,
        tree,
        block_ids,
        layout,
    )


def _section(header: Header, head: bytes, section: Section) -> bytes:
    extent = header.sections[section]
    stored = head[extent.offset : extent.end]
    if section not in COMPRESSED:
        return stored
    try:
        return decompress(stored, extent.plain_size)
    except FormatError as error:
        raise FormatError(f"a damaged section {section.name}: {error}") from error


def assemble_head(
    manifest_bytes: bytes, signature: bytes, tree: Tree, block_ids: bytes, layout: Layout, blocks_size: int
) -> bytes:
    """Return everything of a package file before its blocks, which follow in the layout's order.

    Args:
        manifest_bytes: the encoded manifest.
        signature: the publisher's, of these bytes as a `manifest`.
        tree: the package's tree.
        block_ids: the ids of all its blocks.
        layout: the frames.
        blocks_size: stored bytes of all frames.
    """
    assert blocks_size == layout.stored_bytes
    plains = {
        Section.MANIFEST: manifest_bytes,
        Section.SIGNATURE: signature,
        Section.TREE: encode_tree(tree),
        Section.BLOCK_IDS: block_ids,
        Section.LAYOUT: encode_layout(layout),
    }
    stored = {
        section: compress(plain, 19) if section in COMPRESSED else plain for section, plain in plains.items()
    }
    sizes = {section: (len(stored[section]), len(plain)) for section, plain in plains.items()}
    head = b"".join(stored[section] for section in plains)
    header = header_of_sizes({**sizes, Section.BLOCKS: (blocks_size, blocks_size)}, sha256(head).digest())
    return encode_header(header) + head
