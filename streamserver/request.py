"""Reading requests: JSON bodies, tokens, addresses. Everything in them is hostile."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from dataclasses import dataclass

from aiohttp import web

from packageformat.errors import FormatError
from packageformat.limits import LABEL_MAX
from streamserver.connections import is_among
from streamserver.context import CONTEXT, USER
from streamserver.database import accounts
from streamserver.database.accounts import Account
from streamserver.identity import Identity, read_token
from streamserver.reply import RefusedError

BODY_MAX = 64 * 1024  # bytes
REPORT_BODY_MAX = 512 * 1024
BODY_TIMEOUT_S = 20.0
POINTERS_MAX = 64  # version ids in one request
_VERSION_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `login` is given. Not yet looked at."""

    user: str
    password: str


async def read_json(request: web.Request, limit: int = BODY_MAX) -> dict[str, object]:
    """Return the JSON object in a request's body, of at most `limit` bytes."""
    if request.content_length is not None and request.content_length > limit:
        raise RefusedError("too_large", headers={"Connection": "close"})
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while piece := await request.content.readany():
                body += piece
                if len(body) > limit:
                    raise RefusedError("too_large", headers={"Connection": "close"})
    except TimeoutError as error:
        raise RefusedError("request_timeout", headers={"Connection": "close"}) from error
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError("bad_request") from error
    if not isinstance(value, dict):
        raise RefusedError("bad_request")
    return value


def credentials_of(value: dict[str, object]) -> Credentials:
    """Return the user and password of a login."""
    user, password = value.get("user"), value.get("password")
    if not isinstance(user, str) or not isinstance(password, str):
        raise RefusedError("bad_request")
    return Credentials(user, password)


def version_ids_of(value: dict[str, object]) -> tuple[bytes, ...]:
    """Return the version ids of a request for pointers, each once, in their order."""
    return _ids(value.get("version_ids"), least=1)


def had_version_ids_of(value: dict[str, object]) -> tuple[bytes, ...]:
    """Return the version ids that a request for pointers says the client has, each once, in their order."""
    return _ids(value.get("have", []), least=0)


def locale_of(value: dict[str, object]) -> str:
    """Return the locale for which a request for pointers wants language packs; empty if it names none."""
    locale = value.get("language", "")
    if not isinstance(locale, str) or len(locale) > LABEL_MAX:
        raise RefusedError("bad_request")
    return locale


def _ids(ids: object, *, least: int) -> tuple[bytes, ...]:
    if not isinstance(ids, list) or not least <= len(ids) <= POINTERS_MAX:
        raise RefusedError("bad_request")
    if not all(isinstance(one, str) and _VERSION_ID.fullmatch(one) for one in ids):
        raise RefusedError("bad_request")
    return tuple(dict.fromkeys(bytes.fromhex(one) for one in ids))


def signed_in(request: web.Request, *, now: float) -> tuple[Account, Identity]:
    """Return whose valid token the request carries. What he may do is the database's to say.

    Raises:
        RefusedError: no token, a forged, expired or void one, or of a user who is gone.
    """
    context = request.app[CONTEXT]
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    if scheme.lower() != "bearer" or not text:
        raise RefusedError("not_signed_in", headers=challenge)
    try:
        identity = read_token(text.strip(), context.store.secrets.public, now=now)
    except FormatError as error:
        raise RefusedError("not_signed_in", headers=challenge, log=str(error)) from error
    account = context.store.reader.ask(lambda db: accounts.account_by_id(db, identity.account_id))
    if account is None or identity.issued < account.tokens_from:
        raise RefusedError("not_signed_in", headers=challenge, log="token is void")
    request[USER] = account.name
    return account, identity


def address_of(request: web.Request) -> str:
    """Return the client's address: the connection's, or what a trusted proxy says in X-Forwarded-For.

    Of that header only the last entry is believed, the one that the proxy itself has added.
    """
    peer = peer_of(request)
    if is_among(peer, request.app[CONTEXT].proxies):
        told = ",".join(request.headers.getall("X-Forwarded-For", ())).rpartition(",")[2].strip()
        try:
            return str(ipaddress.ip_address(told))
        except ValueError:
            return peer
    return peer


def peer_of(request: web.Request) -> str:
    """Return the address that the connection comes from."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if isinstance(peer, tuple) else "unknown"


def may_carry_password(request: web.Request) -> bool:
    """Tell whether a password was safe on its way: over TLS, or from this machine."""
    if request.transport is None:
        return False
    if request.transport.get_extra_info("ssl_object") is not None:
        return True
    if request.headers.get("X-Forwarded-Proto", "https").lower() != "https":
        return False  # a proxy on this machine says that it got it in plain
    try:
        address = ipaddress.ip_address(peer_of(request).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
