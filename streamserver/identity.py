"""Tokens: who somebody is, signed by the server for a short while. Never what he may do. Pure.

A token is the base64url of a sealed document (domain "token") that holds the user's random id and
three moments. Groups and entitlements are looked up in the server's state at every request.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from packageformat.encoding import decode, encode
from packageformat.errors import FormatError, SignatureError
from packageformat.limits import INSTANT_MAX
from packageformat.record import Record
from packageformat.signed import open_sealed, seal

TOKEN_LIFETIME_S = 12 * 3600
RENEWABLE_S = 30 * 24 * 3600  # from the password on, by renewing
TOKEN_TEXT_MAX = 1024  # characters
_VERSION = 1
_TOKEN_BYTES_MAX = 512
_MILLISECONDS_MAX = INSTANT_MAX * 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token is for.

    `issued` and `signed_in` (when the password was given) are Unix milliseconds, `expires` Unix seconds.
    """

    account_id: bytes
    issued: int
    signed_in: int
    expires: int

    def __post_init__(self) -> None:
        if len(self.account_id) != 16:
            raise FormatError("a token for an id of the wrong size")
        if not self.signed_in <= self.issued <= self.expires * 1000:
            raise FormatError("a token whose moments are out of order")


def issue(account_id: bytes, *, now: float, signed_in: int | None = None) -> Identity:
    """Return a fresh identity; `signed_in` is given when an older token is renewed."""
    issued = int(now * 1000)
    begun = issued if signed_in is None else signed_in
    expires = min(int(now) + TOKEN_LIFETIME_S, begun // 1000 + RENEWABLE_S)
    return Identity(account_id, issued, begun, max(expires, issued // 1000 + 1))


def token_text(identity: Identity, seed: bytes) -> str:
    """Return the token that carries `identity`, signed by the server's key."""
    payload = encode((_VERSION, identity.account_id, identity.issued, identity.signed_in, identity.expires))
    return base64.urlsafe_b64encode(seal("token", payload, seed)).rstrip(b"=").decode("ascii")


def read_token(text: str, public: bytes, *, now: float) -> Identity:
    """Return who an untrusted token is for.

    Raises:
        SignatureError: not signed by the server's key `public`, or its time is over.
        FormatError: not a token.
    """
    if len(text) > TOKEN_TEXT_MAX:
        raise FormatError("a token that is too long")
    try:
        envelope = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise FormatError("a token that is not base64url") from error
    payload, _ = open_sealed("token", envelope, (public,))
    record = Record(decode(payload, max_bytes=_TOKEN_BYTES_MAX), "token", 5)
    record.number(_VERSION, _VERSION)
    identity = Identity(
        record.octets(16, 16),
        record.number(_MILLISECONDS_MAX),
        record.number(_MILLISECONDS_MAX),
        record.number(INSTANT_MAX),
    )
    if now >= identity.expires:
        raise SignatureError("a token whose time is over")
    return identity
