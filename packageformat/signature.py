"""Ed25519 signatures with a domain in front. The only module that knows `cryptography`."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from packageformat.errors import SignatureError
from packageformat.hashing import digest
from packageformat.limits import PUBLIC_KEY_SIZE, SEED_SIZE, SIGNATURE_SIZE

DOMAINS = ("manifest", "pointer", "publishing", "token")
"""What a signature may be for; one for a pointer is nothing on a manifest."""

PREFIX = b"millstream 1 "


def generate_key(seed: bytes) -> bytes:
    """Return a private key made of 32 random bytes, which the caller brings.

    `generate_key(secrets.token_bytes(32))`.
    """
    if len(seed) != SEED_SIZE:
        raise ValueError(f"a key is made of {SEED_SIZE} random bytes")
    return seed


def public_key(seed: bytes) -> bytes:
    """Return the public key, 32 bytes, of a private one."""
    return (
        Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )


def _message(domain: str, payload: bytes) -> bytes:
    if domain not in DOMAINS:
        raise ValueError(f"nothing is signed as {domain!r}")
    return PREFIX + domain.encode("ascii") + b"\0" + payload


def sign(domain: str, payload: bytes, seed: bytes) -> bytes:
    """Return the signature, 64 bytes, of `payload` as a `domain` by the private key `seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(_message(domain, payload))


def check(domain: str, payload: bytes, signature: bytes, public: bytes) -> None:
    """Check that the holder of the key `public` signed `payload` as a `domain`.

    Raises:
        SignatureError: he did not.
    """
    if len(signature) != SIGNATURE_SIZE or len(public) != PUBLIC_KEY_SIZE:
        raise SignatureError(f"a {domain} with a signature or key that is not one")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _message(domain, payload))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"a {domain} whose signature by {fingerprint(public)} is wrong") from error


def fingerprint(public: bytes) -> str:
    """Return the short form of a public key, for people to compare.

    eight groups of four hexadecimal digits.
    """
    text = digest(public).hex()
    return " ".join(text[start : start + 4] for start in range(0, 32, 4))
