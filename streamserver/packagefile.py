"""Reading a package file: every byte of it verified, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from packageformat.errors import CorruptBlockError, FormatError
from packageformat.layout import unpack_frame
from packageformat.limits import MANIFEST_BYTES_MAX
from packageformat.manifest import Manifest
from packageformat.package import HEADER_SIZE, Package, PackageParser, decode_header
from streamserver.statefolder import explained

PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """What a verified package file is. `digest` is the SHA-256 of all its bytes."""

    manifest: Manifest
    manifest_bytes: bytes
    header_bytes: bytes
    version_id: bytes
    digest: bytes
    size: int


def declared_size(descriptor: int) -> int | None:
    """Return the size that an untrusted file's header claims; None if it has none that can be read (yet)."""
    try:
        return decode_header(os.pread(descriptor, HEADER_SIZE, 0)).file_size
    except FormatError:
        return None


def read_head(descriptor: int, size: int, trusted: Collection[bytes] | None) -> Package:
    """Return the verified head of an untrusted package file of `size` bytes.

    Raises:
        FormatError: (or one of its kinds) it is not a package, is damaged, or is not signed by its publisher.
    """
    parser = PackageParser(size, trusted=trusted)
    while needs := parser.needs():
        for offset, wanted in needs:
            data = os.pread(descriptor, min(wanted, PIECE), offset)
            if not data:
                raise FormatError(f"package is cut short at byte {offset}")
            parser.feed(offset, data)
    assert parser.package is not None
    return parser.package


def verify_file(path: Path, descriptor: int, *, expected_digest: bytes | None = None) -> VerifiedFile:
    """Verify everything of an open, untrusted package file: signature, tree, ids and every block.

    Does not ask whether the publisher is trusted. Holds the head and one frame in memory.

    Args:
        path: how to call it in errors.
        descriptor: the open file; its position is not used. Nobody else may write it.
        expected_digest: the SHA-256 that all its bytes must have, if known.

    Raises:
        FormatError: (or one of its kinds) any byte is not what it should be.
        StoreError: it cannot be read.
    """
    with explained(path):
        size = os.fstat(descriptor).st_size
        digest = _digest_of(descriptor)
        if expected_digest is not None and digest != expected_digest:
            raise FormatError(f"bytes are not those that were stored: {path}")
        package = read_head(descriptor, size, None)
        for frame in range(len(package.layout.frames)):
            offset, stored_size = package.frame_extent(frame)
            stored = os.pread(descriptor, stored_size, offset)
            try:
                unpack_frame(package.tree, package.block_ids, package.layout.blocks(frame), stored)
            except CorruptBlockError as error:
                raise CorruptBlockError(str(error), expected=error.expected, hint=FormatError.hint) from error
        header_bytes = os.pread(descriptor, HEADER_SIZE, 0)
    assert len(package.manifest_bytes) <= MANIFEST_BYTES_MAX
    return VerifiedFile(
        package.manifest, package.manifest_bytes, header_bytes, package.version_id, digest, size
    )


def _digest_of(descriptor: int) -> bytes:
    whole = sha256()
    offset = 0
    while piece := os.pread(descriptor, PIECE, offset):
        whole.update(piece)
        offset += len(piece)
    return whole.digest()
