"""The sealed envelope: a payload, who signed it, and as what."""

from __future__ import annotations

from collections.abc import Collection

from packageformat.encoding import decode, encode
from packageformat.errors import FormatError, SignatureError
from packageformat.limits import (
    ENVELOPE_BYTES_MAX,
    FORMAT_VERSION,
    LABEL_MAX,
    PUBLIC_KEY_SIZE,
    PUBLISHING_BYTES_MAX,
    SIGNATURE_SIZE,
)
from packageformat.record import Record
from packageformat.signature import check, fingerprint, public_key, sign


def seal(domain: str, payload: bytes, seed: bytes) -> bytes:
    """Return `payload`, signed as a `domain` by the private key `seed`, in an envelope.

    Raises:
        FormatError: the payload is longer than any that a reader would accept.
    """
    if len(payload) > PUBLISHING_BYTES_MAX:
        raise FormatError(f"a {domain} of {len(payload)} bytes, allowed up to {PUBLISHING_BYTES_MAX}")
    return encode((FORMAT_VERSION, domain, public_key(seed), sign(domain, payload, seed), payload))


def open_sealed(domain: str, envelope: bytes, trusted: Collection[bytes]) -> tuple[bytes, bytes]:
    """Return the payload of an untrusted envelope, and the public key that signed it.

    Args:
        domain: what the payload must have been signed as.
        envelope: untrusted bytes.
        trusted: public keys, one of which must have signed.

    Raises:
        SignatureError: the signature is wrong, for something else, or by a key that is not trusted.
        FormatError: it is not an envelope.
    """
    record = Record(decode(envelope, max_bytes=ENVELOPE_BYTES_MAX), "sealed document", 5)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    found = record.text(LABEL_MAX)
    public = record.octets(PUBLIC_KEY_SIZE, PUBLIC_KEY_SIZE)
    signature = record.octets(SIGNATURE_SIZE, SIGNATURE_SIZE)
    payload = record.octets(PUBLISHING_BYTES_MAX)
    if found != domain:
        raise SignatureError(f"a document signed as {found!r} where a {domain} was expected")
    if public not in trusted:
        raise SignatureError(f"a {domain} signed by {fingerprint(public)}, which is not trusted")
    check(domain, payload, signature, public)
    return payload, public
