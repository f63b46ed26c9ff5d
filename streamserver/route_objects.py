"""GET and HEAD /v1/objects/{digest}, GET /v1/stream: bytes of stored objects, for who has a capability."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from aiohttp import ETag, web

from streamserver.capability import Verdict, judge
from streamserver.connections import STALL_S
from streamserver.context import CONTEXT, SENT
from streamserver.descriptors import PIECE, OpenObject
from streamserver.errors import DamagedObjectError
from streamserver.pacing import paced
from streamserver.ranges import WHOLE, Lane, Span, lane_of, span_of
from streamserver.reply import RefusedError

IN_MEMORY_MAX = 256 * 1024  # bytes: answered in one piece
LOG = logging.getLogger("streamserver")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

PARTS_MAX = 24
"""Parts of one stream: the tables of contents of a stack, and its launch packs."""

_PART = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.([\w-]{1,64})\.([0-9]{1,15})\.([0-9]{1,15})", re.ASCII)


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
    _require(request, digest, expires[0], given[0])
    try:
        with context.descriptors.lease(context.store.folder.object_path(digest)) as found:
            return await _answer(request, name, found)
    except FileNotFoundError as error:
        raise RefusedError("unknown_object") from error


async def read_stream(request: web.Request) -> web.StreamResponse:
    """Answer with parts of several objects, one right behind the other: what a first launch needs, in order.

    One response instead of several at once, which would share the line evenly and lose packets to each other:
    the tables of contents come first, whole, and the launch packs after them. A client may ask for it in
    lanes, over a connection each: all begin slowly, and so are together faster at full speed.
    """
    context = request.app[CONTEXT]
    lane = _lane(request.query.getall("s", []))
    told = [_PART.fullmatch(part) for part in request.query.getall("p", [])]
    if not 0 < len(told) <= PARTS_MAX:
        raise RefusedError("bad_capability")
    with ExitStack() as undo:
        parts: list[OpenObject] = []
        spans: list[Span] = []
        for match in told:
            if match is None:
                raise RefusedError("bad_capability")
            digest, (offset, size) = bytes.fromhex(match[1]), (int(match[4]), int(match[5]))
            _require(request, digest, match[2], match[3])
            try:
                found = undo.enter_context(
                    context.descriptors.lease(context.store.folder.object_path(digest))
                )
            except FileNotFoundError as error:
                raise RefusedError("unknown_object") from error
            if not size or offset + size > found.size:
                raise RefusedError("bad_range", headers={"Content-Range": f"bytes */{found.size}"})
            parts.append(found)
            spans.append(Span(offset, size, found.size, partial=True))
        sizes = [span.size for span in spans]
        headers = {
            "Cache-Control": "no-store",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(lane.length(sum(sizes))),
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        pieces = (
            (parts[part], Span(spans[part].offset + offset, size, spans[part].total, partial=True))
            for part, offset, size in lane.pieces(sizes)
        )
        await _send_all(request, response, pieces, sum(sizes) if lane.count == 1 else 0)
        return response


def _lane(told: Sequence[str]) -> Lane:
    """Return the lane that a stream is asked for in. Raises RefusedError: there is no such lane."""
    if not told:
        return WHOLE
    lane = lane_of(told[0]) if len(told) == 1 else None
    if lane is None:
        raise RefusedError("bad_request")
    return lane


def _require(request: web.Request, digest: bytes, expires: str, given: str) -> None:
    """Raise RefusedError unless `given` is a capability for the object that holds now."""
    secret = request.app[CONTEXT].store.secrets.capability
    verdict = judge(secret, digest, expires, given, now=time.time())
    if verdict is Verdict.FORGED:
        raise RefusedError("bad_capability")
    if verdict is Verdict.EXPIRED:
        raise RefusedError("capability_expired")


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
    await _send_all(request, response, [(found, span)], span.size)
    return response


async def _send_all(
    request: web.Request,
    response: web.StreamResponse,
    parts: Iterable[tuple[OpenObject, Span]],
    alone: int,
) -> None:
    """Send the body: parts of objects, one after the other.

    Args:
        request: what is answered.
        response: its head is sent.
        parts: what the body is made of.
        alone: bytes of it, if no other connection brings more of the same; otherwise 0.
    """
    request[SENT] = 0
    try:
        async with paced(request.transport, alone):
            for found, span in parts:
                await _send(request, response, found, span)
        if request.transport is not None and request.transport.get_extra_info("ssl_object") is not None:
            await response.write_eof()
    except (OSError, RuntimeError, DamagedObjectError, TimeoutError) as error:
        # The head is sent, so the only thing left to tell the client is that this is not all.
        if not isinstance(error, ConnectionError):
            LOG.warning("%s: sending ended early: %s", request.path, error or type(error).__name__)
        if request.transport is not None:
            request.transport.abort()


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
            request[SENT] += size
