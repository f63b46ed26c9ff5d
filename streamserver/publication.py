"""What a user is told: his publishing document and the pointers of packages, signed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from packageformat.header import decode_header
from packageformat.manifest import Manifest, decode_manifest
from packageformat.pointer import PackReference, Pointer, encode_pointer
from packageformat.publishing import Published, Publishing, encode_publishing
from packageformat.signed import seal
from streamserver.database.catalogue import StoredPackage
from streamserver.database.packs import StoredPack

WINDOW_S = 3600  # documents of one window are the same, so that 304 has something to answer
LIFETIME_S = 24 * 3600  # of a publishing document, and of a pointer

_manifest_of = lru_cache(maxsize=1024)(decode_manifest)


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom a document is: the account, its name, and the server's name and generation of that moment."""

    account_id: bytes
    user: str
    server: str
    generation: int


def publishing_etag(audience: Audience, public: bytes, *, now: float) -> str:
    """Return the strong entity tag (without quotes) of the document that this audience would get now.

    Changes with the server's generation and once a `WINDOW_S`, so that a client that only ever
    hears 304 still gets a fresh document well before its own expires.
    """
    parts = (audience.account_id, audience.user.encode(), audience.server.encode(), public)
    whole = b"\0".join(sha256(part).digest() for part in parts)
    return sha256(whole + f"{audience.generation} {_window(now)}".encode()).hexdigest()[:32]


def sealed_publishing(
    audience: Audience, packages: Iterable[StoredPackage], seed: bytes, *, now: float
) -> bytes:
    """Return the signed publishing document of what the audience may run."""
    issued = _window(now)
    publishing = Publishing(
        server=audience.server,
        user=audience.user,
        generation=audience.generation,
        issued=issued,
        expires=issued + WINDOW_S + LIFETIME_S,
        items=tuple(_published(package) for package in packages),
    )
    return seal("publishing", encode_publishing(publishing), seed)


def sealed_pointer(package: StoredPackage, packs: Iterable[StoredPack], seed: bytes, *, now: float) -> bytes:
    """Return the signed pointer of a package version and its launch packs."""
    pointer = Pointer(
        version_id=package.version_id,
        object_digest=package.object_digest,
        object_size=package.object_size,
        header=decode_header(package.header),
        packs=tuple(
            PackReference(pack.application, pack.bubble_id, pack.object_digest, pack.object_size)
            for pack in packs
        ),
        generation=package.pointer_generation,
        issued=int(now),
        expires=int(now) + LIFETIME_S,
    )
    return seal("pointer", encode_pointer(pointer), seed)


def _published(package: StoredPackage) -> Published:
    manifest: Manifest = _manifest_of(package.manifest)
    return Published(
        name=manifest.name,
        version=manifest.version,
        title=manifest.title,
        version_id=package.version_id,
        stack=(*manifest.requires, package.version_id),
        applications=manifest.applications,
        policy=manifest.policy,
        size=manifest.plain_bytes,
    )


def _window(now: float) -> int:
    return int(now) // WINDOW_S * WINDOW_S
