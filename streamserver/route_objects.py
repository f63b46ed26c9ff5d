"""GET and HEAD /v1/objects/{digest}: the bytes of stored objects, for whoever has a capability."""

from __future__ import annotations

import asyncio
import logging
import re
import time

from aiohttp import ETag, web

from streamserver.capability import Verdict, judge
from streamserver.connections import STALL_S
from streamserver.context import CONTEXT, SENT
from streamserver.descriptors import PIECE, OpenObject
from streamserver.errors import DamagedObjectError
from streamserver.ranges import Span, span_of
from streamserver.reply import RefusedError

IN_MEMORY_MAX = 256 * 1024  # bytes: answered in one piece
LOG = logging.getLogger("streamserver")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


async def read_object(request: web.Request) -> web.StreamResponse:
    """Answer with an object or one range of it. Its name is its digest, so it never changes."""
    context = request.app[CONTEXT]
    name = request.match_info["digest"]
    if not _DIGEST.fullmatch(name):
        raise RefusedError("bad_capability")
    digest = bytes.fromhex(name)
    expires, given = request.query.getall("e", []), request.query.getall("c", [])
    if len(expires) != 1 or len(given) != 1:
        raise RefusedError("bad_capability")
    verdict = judge(context.store.secrets.capability, digest, expires[0], given[0], now=time.time())
    if verdict is Verdict.FORGED:
        raise RefusedError("bad_capability")
    if verdict is Verdict.EXPIRED:
        raise RefusedError("capability_expired")
    try:
        with context.descriptors.lease(context.store.folder.object_path(digest)) as found:
            return await _answer(request, name, found)
    except FileNotFoundError as error:
        raise RefusedError("unknown_object") from error


async def _answer(request: web.Request, name: str, found: OpenObject) -> web.StreamResponse:
    headers = {
        "ETag": f'"{name}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Type": "application/octet-stream",
    }
    if _matches(request.if_none_match, name):
        return web.Response(status=304, headers=headers)
    if request.if_match is not None and not _matches(request.if_match, name):
        return web.Response(status=412, headers=headers)
    asked = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{name}"':
        asked = None  # a condition that does not hold (we send no dates): the whole object
    if len(request.headers.getall("Range", ())) > 1:
        asked = None
    span = span_of(asked if request.method == "GET" else None, found.size)
    if span is None:
        raise RefusedError("bad_range", headers={"Content-Range": f"bytes */{found.size}"})
    if span.partial:
        headers["Content-Range"] = span.content_range
    headers["Content-Length"] = str(span.size)
    status = 206 if span.partial else 200
    if request.method == "HEAD" or span.size <= IN_MEMORY_MAX:
        body = b"" if request.method == "HEAD" else await found.read(span.offset, span.size)
        return web.Response(status=status, headers=headers, body=body)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    try:
        await _send(request, response, found, span)
    except (OSError, RuntimeError, DamagedObjectError, TimeoutError) as error:
        # The head is sent, so the only thing left to tell the client is that this is not all.
        if not isinstance(error, ConnectionError):
            LOG.warning("object %s: sending ended early: %s", name, error or type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


def _matches(tags: tuple[ETag, ...] | None, name: str) -> bool:
    return any(tag.value in (name, "*") for tag in tags or ())


async def _send(request: web.Request, response: web.StreamResponse, found: OpenObject, span: Span) -> None:
    """Send a long body at the client's pace: from the page cache without copies, or in pieces over TLS."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client is gone")
    loop = asyncio.get_running_loop()
    plain = transport.get_extra_info("ssl_object") is None
    offset, end = span.offset, span.offset + span.size
    with open(found.descriptor, "rb", buffering=0, closefd=False) as file:  # noqa: ASYNC230 - is open
        while offset < end:
            if plain:
                size = min(PIECE, end - offset)
                async with asyncio.timeout(STALL_S):
                    sent = await loop.sendfile(transport, file, offset, size)
                if sent < size:
                    raise ConnectionResetError(f"stored package is cut short: {found.path}")
            else:
                size = min(PIECE, end - offset)
                piece = await found.read(offset, size)
                async with asyncio.timeout(STALL_S):
                    await response.write(piece)
            offset += size
            request[SENT] = offset - span.offset
    if not plain:
        await response.write_eof()
