"""The pointer: which stored object is a package version's current layout, and which are its launch packs."""

from __future__ import annotations

from dataclasses import dataclass

from packageformat.encoding import Value, decode, encode
from packageformat.errors import FormatError
from packageformat.freshness import check_dates, check_fresh
from packageformat.header import Header, header_of, header_value
from packageformat.limits import (
    DIGEST_SIZE,
    FORMAT_VERSION,
    GENERATION_MAX,
    INSTANT_MAX,
    LABEL_MAX,
    PACKS_MAX,
    POINTER_BYTES_MAX,
)
from packageformat.names import check_application_id
from packageformat.record import Record

__all__ = ["PackReference", "Pointer", "check_fresh", "decode_pointer", "encode_pointer"]

OBJECT_SIZE_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class PackReference:
    """A launch pack of one application in one bubble."""

    application: str
    bubble_id: bytes
    object_digest: bytes  # SHA-256 of the pack
    object_size: int  # bytes

    def __post_init__(self) -> None:
        check_application_id(self.application)
        if len(self.bubble_id) != DIGEST_SIZE or len(self.object_digest) != DIGEST_SIZE:
            raise FormatError("a launch pack's reference with a digest that is not one")
        if not 0 < self.object_size <= OBJECT_SIZE_MAX:
            raise FormatError(f"a launch pack of {self.object_size} bytes")


@dataclass(frozen=True, slots=True)
class Pointer:
    """Signed by the server as a `pointer`. Mutable: a higher generation replaces it."""

    version_id: bytes
    object_digest: bytes  # SHA-256 of the package file
    object_size: int  # bytes
    header: Header  # of that file
    packs: tuple[PackReference, ...]
    generation: int
    issued: int  # seconds since 1970
    expires: int

    def __post_init__(self) -> None:
        if len(self.version_id) != DIGEST_SIZE or len(self.object_digest) != DIGEST_SIZE:
            raise FormatError("a pointer with a digest that is not one")
        if self.object_size != self.header.file_size:
            raise FormatError("a pointer whose header is not that of its object")
        if len(self.packs) > PACKS_MAX:
            raise FormatError(f"a pointer to {len(self.packs)} launch packs, allowed {PACKS_MAX}")
        if len({(pack.application, pack.bubble_id) for pack in self.packs}) != len(self.packs):
            raise FormatError("a pointer with two launch packs for one application and bubble")
        check_dates(self)


def encode_pointer(pointer: Pointer) -> bytes:
    """Return the one encoding of `pointer`: the payload to seal."""
    return encode(
        (
            FORMAT_VERSION,
            pointer.version_id,
            pointer.object_digest,
            pointer.object_size,
            header_value(pointer.header),
            tuple(
                (pack.application, pack.bubble_id, pack.object_digest, pack.object_size)
                for pack in pointer.packs
            ),
            pointer.generation,
            pointer.issued,
            pointer.expires,
        )
    )


def decode_pointer(data: bytes) -> Pointer:
    """Return the pointer that `data`, a payload whose signature was checked, encodes.

    Raises:
        FormatError: it is not a pointer.
    """
    record = Record(decode(data, max_bytes=POINTER_BYTES_MAX), "pointer", 9)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    return Pointer(
        version_id=record.digest(),
        object_digest=record.digest(),
        object_size=record.number(OBJECT_SIZE_MAX),
        header=header_of(record.value()),
        packs=tuple(_pack_of(item) for item in record.items(PACKS_MAX)),
        generation=record.number(GENERATION_MAX),
        issued=record.number(INSTANT_MAX),
        expires=record.number(INSTANT_MAX),
    )


def _pack_of(value: Value) -> PackReference:
    record = Record(value, "launch pack's reference", 4)
    return PackReference(
        record.text(2 * LABEL_MAX), record.digest(), record.digest(), record.number(OBJECT_SIZE_MAX)
    )
