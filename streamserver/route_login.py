"""POST /v1/login and /v1/renew: a password, or an older token, for a token."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from streamserver.context import CONTEXT, PASSWORDS_WAITING, USER, Context
from streamserver.database import accounts
from streamserver.database.accounts import NAME_MAX, Account
from streamserver.identity import RENEWABLE_S, Identity, issue, token_text
from streamserver.passwords import PASSWORD_MAX, hash_password, needs_rehash, verify_password
from streamserver.reply import RefusedError, json_response
from streamserver.request import address_of, credentials_of, may_carry_password, read_json, signed_in


async def login(request: web.Request) -> web.StreamResponse:
    """Check a password and answer with a token.

    A user who does not exist, an impossible name and a wrong password get the same answer after
    the same work.
    """
    context = request.app[CONTEXT]
    if not may_carry_password(request):
        raise RefusedError("password_needs_tls")
    given = credentials_of(await read_json(request))
    address = address_of(request)
    user = given.user[:NAME_MAX]  # for the throttle's keys: bounded
    wait = context.throttle.wait(user, address, time.monotonic())
    if wait > 0:
        raise RefusedError("too_many_attempts", headers={"Retry-After": str(int(wait) + 1)})
    try:
        password = given.password.encode("utf-8") if len(given.password) <= PASSWORD_MAX else b""
        given.user.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RefusedError("bad_request") from error
    if not 0 < len(password) <= PASSWORD_MAX or len(given.user) > NAME_MAX:
        raise RefusedError("wrong_password")
    if context.hashing >= PASSWORDS_WAITING:  # before the attempt counts: nothing is looked at
        raise RefusedError("busy", headers={"Retry-After": "2"})
    context.throttle.begin(user, address, time.monotonic())
    account = context.store.reader.ask(lambda db: accounts.find_account(db, given.user))
    right = await _verify(context, account.password_hash if account else context.nobody, password)
    if account is None or not right:
        raise RefusedError("wrong_password", log=f"login of {given.user[:NAME_MAX]!a} from {address} failed")
    context.throttle.succeeded(user, address)
    request[USER] = account.name
    if needs_rehash(account.password_hash):
        await _rehash(context, account, given.password)
    return _token_reply(context, issue(account.id, now=time.time()))


async def renew(request: web.Request) -> web.StreamResponse:
    """Answer a valid token with a younger one, as long as the password is not too long ago."""
    context = request.app[CONTEXT]
    now = time.time()
    account, identity = signed_in(request, now=now)
    if now >= identity.signed_in / 1000 + RENEWABLE_S:
        raise RefusedError("not_signed_in", headers={"WWW-Authenticate": "Bearer"})
    return _token_reply(context, issue(account.id, now=now, signed_in=identity.signed_in))


def _token_reply(context: Context, identity: Identity) -> web.Response:
    secrets = context.store.secrets
    return json_response(
        {
            "token": token_text(identity, secrets.seed),
            "expires": identity.expires,
            "server_key": secrets.public.hex(),
        }
    )


async def _verify(context: Context, stored: str, password: bytes) -> bool:
    context.hashing += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(context.hashers, verify_password, stored, password)
    finally:
        context.hashing -= 1


async def _rehash(context: Context, account: Account, password: str) -> None:
    loop = asyncio.get_running_loop()
    fresh = await loop.run_in_executor(context.hashers, hash_password, password)
    future = context.store.writer.submit(
        lambda db: accounts.renew_hash(db, account.id, account.password_hash, fresh)
    )
    await asyncio.wrap_future(future)
