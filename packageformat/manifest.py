"""The manifest: what a package version is.

Its digest is the version's identity, and its publisher signs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

from packageformat.application import Application, application_of, application_value
from packageformat.encoding import decode, encode
from packageformat.errors import FormatError, UnsupportedError
from packageformat.limits import (
    APPLICATIONS_MAX,
    BLOCK_SIZE,
    BLOCKS_MAX,
    CONTENTS_MAX,
    DESCRIPTION_MAX,
    DIGEST_SIZE,
    FEATURE_LEVEL,
    FORMAT_VERSION,
    LABEL_MAX,
    MANIFEST_BYTES_MAX,
    NAME_MAX,
    PUBLIC_KEY_SIZE,
    STACK_MAX,
    TREE_BYTES_MAX,
)
from packageformat.names import check_description, check_label, check_text, check_version
from packageformat.policy import Policy, policy_of, policy_value
from packageformat.record import Record

PackageKind = Literal["application", "runtime"]
PACKAGE_KINDS: tuple[PackageKind, ...] = get_args(PackageKind)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package version is, apart from how its bytes lie in a file."""

    name: str
    version: str
    kind: PackageKind
    architecture: str  # as Debian names it: amd64, arm64, all
    feature_level: int  # the least that a client must have
    requires: tuple[bytes, ...]  # version ids, bottom first: the complete stack under this package
    tree_digest: bytes  # SHA-256 of the encoded tree
    tree_size: int  # bytes of the encoded tree
    blocks_root: bytes  # root of the hash tree over all block ids, in order
    block_count: int
    plain_bytes: int  # of all files
    applications: tuple[Application, ...]
    policy: Policy
    publisher: bytes  # Ed25519 public key
    title: str = ""
    description: str = ""
    contents: tuple[str, ...] = ()  # distribution packages inside, "name=version"

    def __post_init__(self) -> None:
        check_label(self.name)
        check_version(self.version)
        check_label(self.architecture)
        check_text(self.title)
        check_description(self.description)
        if self.kind not in PACKAGE_KINDS:
            raise FormatError(f"a package of an unknown kind: {self.kind!r}")
        if self.feature_level < 1:
            raise FormatError("a package without a feature level")
        if len(self.requires) >= STACK_MAX or len(set(self.requires)) != len(self.requires):
            raise FormatError(f"a package that requires a package twice, or more than {STACK_MAX - 1}")
        if any(len(part) != DIGEST_SIZE for part in (*self.requires, self.tree_digest, self.blocks_root)):
            raise FormatError("a manifest with a digest that is not one")
        if len(self.publisher) != PUBLIC_KEY_SIZE:
            raise FormatError("a manifest with a publisher's key that is not one")
        if not 0 < self.tree_size <= TREE_BYTES_MAX:
            raise FormatError(f"a tree of {self.tree_size} bytes, allowed up to {TREE_BYTES_MAX}")
        if not 0 <= self.block_count <= BLOCKS_MAX:
            raise FormatError(f"a package of {self.block_count} blocks, allowed up to {BLOCKS_MAX}")
        if not self.block_count <= self.plain_bytes <= self.block_count * BLOCK_SIZE:
            raise FormatError(f"{self.block_count} blocks cannot hold {self.plain_bytes} bytes")
        if len(self.applications) > APPLICATIONS_MAX:
            raise FormatError(
                f"a package of {len(self.applications)} applications, allowed {APPLICATIONS_MAX}"
            )
        if len({application.id for application in self.applications}) != len(self.applications):
            raise FormatError("a package with two applications of one id")
        if len(self.contents) > CONTENTS_MAX:
            raise FormatError(f"a package of {len(self.contents)} contents, allowed {CONTENTS_MAX}")
        for text in self.contents:
            check_text(text, NAME_MAX)

    def require_support(self, architecture: str) -> None:
        """Check that a machine of `architecture` with this code can run the package.

        Raises:
            UnsupportedError: it cannot.
        """
        if self.architecture not in (architecture, "all"):
            raise UnsupportedError(
                f"{self.name} {self.version} is for {self.architecture} and this machine is {architecture}"
            )
        if self.feature_level > FEATURE_LEVEL:
            raise UnsupportedError(
                f"{self.name} {self.version} needs feature level {self.feature_level}, not {FEATURE_LEVEL}"
            )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the one encoding of `manifest`: what is hashed and signed.

    Raises:
        FormatError: it is longer than a manifest may be.
    """
    data = encode(
        (
            FORMAT_VERSION,
            manifest.name,
            manifest.version,
            manifest.kind,
            manifest.architecture,
            manifest.feature_level,
            manifest.requires,
            manifest.tree_digest,
            manifest.tree_size,
            manifest.blocks_root,
            manifest.block_count,
            manifest.plain_bytes,
            tuple(application_value(application) for application in manifest.applications),
            policy_value(manifest.policy),
            manifest.publisher,
            manifest.title,
            manifest.description,
            manifest.contents,
        )
    )
    if len(data) > MANIFEST_BYTES_MAX:
        raise FormatError(f"a manifest of {len(data)} bytes, allowed up to {MANIFEST_BYTES_MAX}")
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest that `data`, untrusted, encodes.

    Raises:
        UnsupportedError: it is of another version of the format.
        FormatError: it is not a manifest.
    """
    value = decode(data, max_bytes=MANIFEST_BYTES_MAX)
    if isinstance(value, tuple) and value and type(value[0]) is int and value[0] > FORMAT_VERSION:
        raise UnsupportedError(f"a manifest of format {value[0]}, this is {FORMAT_VERSION}")
    record = Record(value, "manifest", 18)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    return Manifest(
        name=record.text(LABEL_MAX),
        version=record.text(LABEL_MAX),
        kind=_kind_of(record.text(LABEL_MAX)),
        architecture=record.text(LABEL_MAX),
        feature_level=record.number(1 << 31, 1),
        requires=record.digests(STACK_MAX),
        tree_digest=record.digest(),
        tree_size=record.number(TREE_BYTES_MAX),
        blocks_root=record.digest(),
        block_count=record.number(BLOCKS_MAX),
        plain_bytes=record.number(BLOCKS_MAX * BLOCK_SIZE),
        applications=tuple(application_of(item) for item in record.items(APPLICATIONS_MAX)),
        policy=policy_of(record.value()),
        publisher=record.octets(PUBLIC_KEY_SIZE, PUBLIC_KEY_SIZE),
        title=record.text(),
        description=record.text(DESCRIPTION_MAX),
        contents=record.texts(CONTENTS_MAX),
    )


def _kind_of(text: str) -> PackageKind:
    for kind in PACKAGE_KINDS:
        if kind == text:
            return kind
    raise FormatError(f"a package of an unknown kind: {text!r}")


def version_id(manifest_bytes: bytes) -> bytes:
    """Return the identity of a package version: the SHA-256 of its encoded manifest."""
    return sha256(manifest_bytes).digest()
