"""The publishing document: what one user may run from one server."""

from __future__ import annotations

from dataclasses import dataclass

from packageformat.application import Application, application_of, application_value
from packageformat.encoding import Value, decode, encode
from packageformat.errors import FormatError
from packageformat.freshness import check_dates, check_fresh
from packageformat.limits import (
    APPLICATIONS_MAX,
    BLOCK_SIZE,
    BLOCKS_MAX,
    DIGEST_SIZE,
    FORMAT_VERSION,
    GENERATION_MAX,
    INSTANT_MAX,
    LABEL_MAX,
    PUBLISHED_MAX,
    PUBLISHING_BYTES_MAX,
    STACK_MAX,
)
from packageformat.names import check_label, check_text, check_version
from packageformat.policy import Policy, policy_of, policy_value
from packageformat.record import Record

__all__ = ["Published", "Publishing", "check_fresh", "decode_publishing", "encode_publishing"]


@dataclass(frozen=True, slots=True)
class Published:
    """One package version that the user may run."""

    name: str
    version: str
    title: str
    version_id: bytes
    stack: tuple[bytes, ...]  # version ids of its bubble: runtimes bottom first, then itself
    applications: tuple[Application, ...]
    policy: Policy
    size: int  # plain bytes of this package, without its runtimes

    def __post_init__(self) -> None:
        check_label(self.name)
        check_version(self.version)
        check_text(self.title)
        if not 0 < len(self.stack) <= STACK_MAX or len(set(self.stack)) != len(self.stack):
            raise FormatError(f"{self.name} is published with a package twice, or not 1 to {STACK_MAX}")
        if any(len(version) != DIGEST_SIZE for version in self.stack):
            raise FormatError(f"{self.name} is published with a version id that is not one")
        if self.stack[-1] != self.version_id:
            raise FormatError(f"{self.name} is published in a stack that does not end with it")
        if len(self.applications) > APPLICATIONS_MAX:
            raise FormatError(f"{self.name} is published with more than {APPLICATIONS_MAX} applications")
        if not 0 <= self.size <= BLOCKS_MAX * BLOCK_SIZE:
            raise FormatError(f"{self.name} is published with a size of {self.size} bytes")


@dataclass(frozen=True, slots=True)
class Publishing:
    """Signed by the server as `publishing`, for one user."""

    server: str  # the name that the server gives itself
    user: str
    generation: int
    issued: int  # seconds since 1970
    expires: int
    items: tuple[Published, ...]

    def __post_init__(self) -> None:
        check_text(self.server, 4 * LABEL_MAX)
        check_text(self.user, 4 * LABEL_MAX)
        if not self.user:
            raise FormatError("a publishing document for nobody")
        if len(self.items) > PUBLISHED_MAX:
            raise FormatError(f"a publishing document of {len(self.items)} packages, allowed {PUBLISHED_MAX}")
        if len({item.version_id for item in self.items}) != len(self.items):
            raise FormatError("a publishing document that names one version twice")
        check_dates(self)


def encode_publishing(publishing: Publishing) -> bytes:
    """Return the one encoding of `publishing`: the payload to seal.

    Raises:
        FormatError: it is longer than a reader would accept.
    """
    data = encode(
        (
            FORMAT_VERSION,
            publishing.server,
            publishing.user,
            publishing.generation,
            publishing.issued,
            publishing.expires,
            tuple(_published_value(item) for item in publishing.items),
        )
    )
    if len(data) > PUBLISHING_BYTES_MAX:
        raise FormatError(f"a publishing document of {len(data)} bytes, allowed {PUBLISHING_BYTES_MAX}")
    return data


def decode_publishing(data: bytes) -> Publishing:
    """Return the publishing document that `data`, a payload whose signature was checked, encodes.

    Raises:
        FormatError: it is not one.
    """
    record = Record(decode(data, max_bytes=PUBLISHING_BYTES_MAX), "publishing document", 7)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    return Publishing(
        server=record.text(4 * LABEL_MAX),
        user=record.text(4 * LABEL_MAX),
        generation=record.number(GENERATION_MAX),
        issued=record.number(INSTANT_MAX),
        expires=record.number(INSTANT_MAX),
        items=tuple(_published_of(item) for item in record.items(PUBLISHED_MAX)),
    )


def _published_value(item: Published) -> Value:
    return (
        item.name,
        item.version,
        item.title,
        item.version_id,
        item.stack,
        tuple(application_value(application) for application in item.applications),
        policy_value(item.policy),
        item.size,
    )


def _published_of(value: Value) -> Published:
    record = Record(value, "published package", 8)
    return Published(
        name=record.text(LABEL_MAX),
        version=record.text(LABEL_MAX),
        title=record.text(),
        version_id=record.digest(),
        stack=record.digests(STACK_MAX),
        applications=tuple(application_of(item) for item in record.items(APPLICATIONS_MAX)),
        policy=policy_of(record.value()),
        size=record.number(BLOCKS_MAX * BLOCK_SIZE),
    )
