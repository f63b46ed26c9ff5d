r"""Capabilities: the right to read one object until a moment, carried in its URL. Pure.

`/v1/objects/<sha256>?e=<expires>&c=<capability>` where the capability is the base64url of
HMAC-SHA256(server secret, b"millstream capability 1\0" + digest (32 bytes) + expires (8 bytes, big-endian)).
Whoever has the URL may read that object and no other, until then; no state, no token.
"""

from __future__ import annotations

import base64
import hmac
import re
from enum import Enum

LIFETIME_S = 600
SECRET_SIZE = 32
_DOMAIN = b"millstream capability 1\0"
_EXPIRES = re.compile(r"[0-9]{1,12}", re.ASCII)


class Verdict(Enum):
    """What a capability is worth."""

    VALID = "valid"
    EXPIRED = "expired"  # genuine, but its time is over
    FORGED = "forged"  # for another object or moment, or by nobody


def capability(secret: bytes, digest: bytes, expires: int) -> str:
    """Return the capability for the object `digest` until `expires` (Unix seconds)."""
    return base64.urlsafe_b64encode(_code(secret, digest, expires)).rstrip(b"=").decode("ascii")


def object_path(secret: bytes, digest: bytes, expires: int) -> str:
    """Return the path and query of the URL by which an object may be read until `expires`."""
    return f"/v1/objects/{digest.hex()}?e={expires}&c={capability(secret, digest, expires)}"


def judge(secret: bytes, digest: bytes, expires: str, given: str, *, now: float) -> Verdict:
    """Return what the untrusted `given`, said to hold until `expires`, is worth for `digest`.

    Compares in constant time; tells "expired" only to those who had a genuine one.
    """
    if not _EXPIRES.fullmatch(expires):
        return Verdict.FORGED
    moment = int(expires)
    if str(moment) != expires:  # one text for one moment: caches see one URL
        return Verdict.FORGED
    genuine = capability(secret, digest, moment)
    if not hmac.compare_digest(genuine.encode("ascii"), given.encode("utf-8", "replace")):
        return Verdict.FORGED
    return Verdict.VALID if now < moment else Verdict.EXPIRED


def _code(secret: bytes, digest: bytes, expires: int) -> bytes:
    return hmac.digest(secret, _DOMAIN + digest + expires.to_bytes(8, "big"), "sha256")
