"""Every check between an untrusted server and a running application. No I/O, no clock, no state.

The order, and what each step rests on:

    1. login         the user accepts the server's certificate (or a CA vouches) and its Ed25519 key is pinned
    2. publishing    signed by the pinned key, for this user, not older than one seen, not expired
    3. pointers      signed by the pinned key, for the version asked for, not older than one seen, not expired
    4. package head  its manifest is the version that publishing named; signed by its publisher (one of the
                     pinned ones, if any are pinned); tree, block ids and layout hang on the manifest
    5. stack         the runtimes under a package are exactly those that its publisher required
    6. blocks        each hangs on the block ids (packageformat.layout.unpack_frame)

A proxy, a cache, a disk and the server's object store can at most withhold bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appclient.errors import ServerUntrustedError
from appclient.signin import SignIn
from packageformat.errors import FormatError, SignatureError
from packageformat.freshness import check_fresh
from packageformat.manifest import Manifest
from packageformat.package import (
    HEADER_SIZE,
    Outline,
    Package,
    PackageParser,
    decode_header,
    read_outline,
)
from packageformat.pointer import Pointer, decode_pointer
from packageformat.publishing import Published, Publishing, decode_publishing
from packageformat.signed import open_sealed


@dataclass(frozen=True, slots=True)
class Seen:
    """The highest generations seen of the signed-in server's documents. They never go back."""

    publishing: int = 0
    pointers: Mapping[bytes, int] = field(default_factory=dict)  # by version id

    def with_publishing(self, publishing: Publishing) -> Seen:
        """Return what has been seen once `publishing` was accepted."""
        return Seen(max(self.publishing, publishing.generation), self.pointers)

    def with_pointer(self, pointer: Pointer) -> Seen:
        """Return what has been seen once `pointer` was accepted."""
        known = self.pointers.get(pointer.version_id, 0)
        return Seen(self.publishing, {**self.pointers, pointer.version_id: max(known, pointer.generation)})


def accept_publishing(envelope: bytes, signin: SignIn, seen: Seen, now: int) -> Publishing:
    """Return the publishing document in `envelope`, checked.

    Args:
        envelope: untrusted bytes, from the server or from the disk.
        signin: what was pinned at login.
        seen: the highest generations so far.
        now: seconds since 1970.

    Raises:
        SignatureError: not signed by the pinned key.
        ServerUntrustedError: for another user, or older than one seen before.
        FormatError: expired, from the future, or not a publishing document.
    """
    payload, _ = open_sealed("publishing", envelope, (signin.server_key,))
    publishing = decode_publishing(payload)
    if publishing.user != signin.user:
        raise ServerUntrustedError(f"a publishing list for {publishing.user}, not for {signin.user}")
    _check_generation("publishing list", publishing.generation, seen.publishing)
    check_fresh(publishing, now, seen.publishing)
    return publishing


def accept_pointer(envelope: bytes, version: bytes, signin: SignIn, seen: Seen, now: int) -> Pointer:
    """Return the pointer of `version` in `envelope`, checked.

    Raises:
        SignatureError: not signed by the pinned key.
        ServerUntrustedError: of another version, or older than one seen before.
        FormatError: expired, from the future, or not a pointer.
    """
    payload, _ = open_sealed("pointer", envelope, (signin.server_key,))
    pointer = decode_pointer(payload)
    if pointer.version_id != version:
        raise ServerUntrustedError(
            f"a pointer to {pointer.version_id.hex()} where {version.hex()} was asked for"
        )
    previous = seen.pointers.get(version, 0)
    _check_generation(f"pointer to {version.hex()}", pointer.generation, previous)
    check_fresh(pointer, now, previous)
    return pointer


def accept_front(pointer: Pointer, front: bytes, signin: SignIn, architecture: str) -> Outline:
    """Return the outline of the package that `pointer` leads to, by an accepted publisher, for this machine.

    Args:
        pointer: accepted.
        front: untrusted bytes, of packageformat.package.front_extent.
        signin: what was pinned at login.
        architecture: this machine's, as Debian names it.

    Raises:
        FormatError: another version, or damaged.
        SignatureError: by a publisher who is not accepted.
        UnsupportedError: another architecture, or a feature level that this client does not have.
    """
    outline = read_outline(pointer.header, front, pointer.version_id, signin.publishers or None)
    outline.manifest.require_support(architecture)
    return outline


def accept_stored_head(head: bytes, version: bytes, signin: SignIn) -> Package:
    """Return the package whose head was kept on this disk, checked as if it came from the network.

    Raises:
        FormatError: damaged, another version, or signed by a publisher who is no longer accepted.
    """
    parser = PackageParser(None, expected_version_id=version, trusted=signin.publishers or None)
    parser.feed(0, head)
    if parser.package is None:
        raise FormatError(f"the kept head of {version.hex()} is cut short")
    return parser.package


def accept_stored_front(data: bytes, version: bytes, signin: SignIn) -> Outline:
    """Return the outline whose header and front were kept on this disk, checked as if from the network.

    Raises:
        FormatError: damaged, another version, or signed by a publisher who is no longer accepted.
    """
    header = decode_header(data[:HEADER_SIZE])
    return read_outline(header, data[HEADER_SIZE:], version, signin.publishers or None)


def check_publishers(published: Published, publishers: Sequence[bytes], signin: SignIn) -> None:
    """Check who signed the packages of a stack whose heads were checked before, perhaps under other pins.

    Raises:
        SignatureError: one of them is not pinned, though some are.
    """
    if signin.publishers and not set(publishers) <= set(signin.publishers):
        raise SignatureError(
            f"{published.name} {published.version} or a runtime under it is by a publisher who is not pinned",
            hint="if its publisher is to be trusted, sign in anew with --publisher KEY, or --any-publisher",
        )


def check_stack(published: Published, manifests: Mapping[bytes, Manifest]) -> tuple[Manifest, ...]:
    """Return the manifests of a bubble's packages, bottom first.

    Raises:
        SignatureError: the server stacks a package on others than its publisher required.
        FormatError: a package without what publishing told of it.
    """
    stack = tuple(manifests[version] for version in published.stack)
    top = stack[-1]
    if top.requires != published.stack[:-1]:
        raise SignatureError(
            f"{published.name} {published.version} is published on other runtimes than its publisher signed"
        )
    for depth, manifest in enumerate(stack):
        if manifest.requires != published.stack[:depth]:
            raise SignatureError(f"{manifest.name} stands on other runtimes than its publisher signed")
    if (top.name, top.version) != (published.name, published.version):
        raise FormatError(f"{published.name} {published.version} names a package with another name")
    return stack


def _check_generation(what: str, generation: int, previous: int) -> None:
    if generation < previous:
        raise ServerUntrustedError(
            f"the server sent an older {what} (generation {generation} after {previous})",
            hint="it was restored from a backup, or somebody stands between: ask its administrator",
        )
