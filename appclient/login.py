"""The steps of a login: see who the server is, hold it to its pins, exchange the password for a token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appclient import signin as signins
from appclient.address import Address
from appclient.door import Door, certificate_of, whole_number
from appclient.errors import NotSignedInError, ServerUntrustedError, WrongPasswordError
from appclient.folders import Folders
from appclient.signin import SignIn
from packageformat.limits import PUBLIC_KEY_SIZE


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself, before anybody trusts it."""

    address: Address
    certificate: bytes  # SHA-256 of its certificate if no authority vouches for it
    name: str
    key: bytes  # Ed25519 public key


def fingerprint_of(text: str) -> bytes:
    """Return the fingerprint that a user gave, with or without colons and spaces.

    Raises:
        ServerUntrustedError: it is not a SHA-256.
    """
    try:
        digest = bytes.fromhex(text.replace(":", "").replace(" ", ""))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ServerUntrustedError(
            "the fingerprint to accept is not a SHA-256", hint="it has 64 hexadecimal digits"
        )
    return digest


def publisher_of(text: str) -> bytes:
    """Return the publisher's Ed25519 key that a user gave.

    Raises:
        ServerUntrustedError: it is not one.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_SIZE:
        raise ServerUntrustedError(
            f"not a publisher's key: {text[:80]!r}",
            hint="it has 64 hexadecimal digits: ask the publisher, or see 'streamserver trust list --json'",
        )
    return key


def pinned_publishers(folders: Folders, server: Server) -> tuple[bytes, ...]:
    """Return the publishers that are pinned at a server now."""
    try:
        before = signins.recall(folders.config)
    except NotSignedInError:
        return ()
    same = before.url == server.address.url and before.server_key == server.key
    return before.publishers if same else ()


def look(address: Address, accepted: bytes) -> Server:
    """Return who answers at `address`.

    Args:
        address: of the server.
        accepted: SHA-256 of the certificate that the user accepts; empty: an authority must vouch, and if
            none does, the certificate's fingerprint is returned for the user to judge.

    Raises:
        ServerUnreachableError: no answer.
        ServerUntrustedError: another certificate than the accepted one, or not a Millstream server.
    """
    return asyncio.run(_look(address, accepted))


async def _look(address: Address, accepted: bytes) -> Server:
    certificate = accepted
    try:
        told = await _ask_server(address, certificate)
    except ServerUntrustedError:
        if accepted or not address.secure:
            raise
        certificate = await certificate_of(address)
        told = await _ask_server(address, certificate)
    name, key = told.get("name"), told.get("key")
    if not isinstance(name, str) or not isinstance(key, str) or told.get("protocol") != 1:
        raise ServerUntrustedError(f"{address.url} is not a Millstream server of a version known here")
    printable = "".join(letter for letter in name[:200] if letter.isprintable())
    return Server(address, certificate if address.secure else b"", printable, _key_of(key))


async def _ask_server(address: Address, certificate: bytes) -> dict[str, object]:
    async with Door(address, certificate) as door:
        return dict((await door.get("/v1/server")).json())


def check_pins(folders: Folders, server: Server) -> None:
    """Check that a server that was pinned before has its key still.

    Raises:
        ServerUntrustedError: it has another.
    """
    try:
        before = signins.recall(folders.config)
    except NotSignedInError:
        return
    if before.url == server.address.url and before.server_key != server.key:
        raise ServerUntrustedError(
            f"{server.address.url} has another signing key than the one pinned before",
            hint="if the administrator confirms that, run 'appclient remove', then sign in again",
        )


def sign_in(server: Server, user: str, password: str) -> SignIn:
    """Exchange a password for a sign-in at the server that `look` returned.

    Raises:
        WrongPasswordError: the server refuses it.
        ServerUntrustedError: the address is not private, or the server shows another key than before.
        ServerUnreachableError: no answer.
    """
    server.address.require_privacy()
    return asyncio.run(_sign_in(server, user, password))


async def _sign_in(server: Server, user: str, password: str) -> SignIn:
    async with Door(server.address, server.certificate) as door:
        try:
            told = (await door.post("/v1/login", {"user": user, "password": password})).json()
        except NotSignedInError as error:
            raise WrongPasswordError(f"{server.address.url} refused {user} with that password") from error
    token, key = told.get("token"), told.get("server_key")
    try:
        expires = whole_number(told.get("expires"))
    except (TypeError, ValueError):
        expires = -1
    if not isinstance(token, str) or expires < 0 or not isinstance(key, str):
        raise ServerUntrustedError("the server's answer to the login makes no sense")
    if _key_of(key) != server.key:
        raise ServerUntrustedError("the server changed its signing key in the middle of the login")
    return SignIn(
        url=server.address.url,
        user=user,
        server_name=server.name,
        server_key=server.key,
        certificate=server.certificate,
        token=token,
        token_expires=expires,
    )


def _key_of(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ServerUntrustedError("the server's signing key is not one")
    return key
