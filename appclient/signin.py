"""The sign-in: which server, whose, and what was pinned. Kept in one file of mode 0600."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appclient.errors import NotSignedInError
from appclient.storedfile import store_json, stored_json

_TEXT_MAX = 8192


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who is signed in where. The token is a secret; the rest is what the user accepted at login."""

    url: str  # scheme://host:port, no path
    user: str
    server_name: str
    server_key: bytes  # Ed25519 public key that signs publishing documents and pointers
    certificate: bytes  # SHA-256 of the server's certificate that the user accepted; empty: the CA vouches
    token: str
    token_expires: int  # seconds since 1970
    publishers: tuple[bytes, ...] = ()  # if any: only packages by these keys are run

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or self.url.count("/") != 2:
            raise ValueError(f"not the address of a server: {self.url!r}")
        if len(self.server_key) != 32 or len(self.certificate) not in (0, 32):
            raise ValueError("a pinned key or certificate that is not one")
        if any(len(key) != 32 for key in self.publishers):
            raise ValueError("a pinned publisher's key that is not one")
        if any(len(text) > _TEXT_MAX for text in (self.url, self.user, self.server_name, self.token)):
            raise ValueError("a sign-in with a field that is too long")


def path_of(config: Path) -> Path:
    """Return the sign-in's file in the client's configuration folder."""
    return config / "signin.json"


def remember(config: Path, signin: SignIn) -> None:
    """Keep `signin`.

    Raises:
        CacheError: it cannot be written.
    """
    store_json(
        path_of(config),
        {
            "url": signin.url,
            "user": signin.user,
            "server_name": signin.server_name,
            "server_key": signin.server_key.hex(),
            "certificate": signin.certificate.hex(),
            "token": signin.token,
            "token_expires": signin.token_expires,
            "publishers": [key.hex() for key in signin.publishers],
        },
    )


def recall(config: Path) -> SignIn:
    """Return the sign-in.

    Raises:
        NotSignedInError: there is none, or its file is damaged.
    """
    value = stored_json(path_of(config))
    if value is None:
        raise NotSignedInError("nobody is signed in")
    if not isinstance(value, dict):
        raise NotSignedInError(f"the sign-in in {path_of(config)} is damaged")
    try:
        return SignIn(
            url=str(value["url"]),
            user=str(value["user"]),
            server_name=str(value["server_name"]),
            server_key=bytes.fromhex(value["server_key"]),
            certificate=bytes.fromhex(value["certificate"]),
            token=str(value["token"]),
            token_expires=int(value["token_expires"]),
            publishers=tuple(bytes.fromhex(key) for key in value["publishers"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise NotSignedInError(f"the sign-in in {path_of(config)} is damaged") from error
