"""GET /v1/rehearsal: bytes that mean nothing, by which a connection learns what the line carries."""

from __future__ import annotations

import os
import re
import time

from aiohttp import web

from streamserver.reply import RefusedError
from streamserver.request import signed_in

SIZE_MAX = 256 << 10
_SIZE = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_NOISE = os.urandom(SIZE_MAX)  # nothing on the way can make less of it


async def rehearsal(request: web.Request) -> web.StreamResponse:
    """Answer with so many bytes as are asked for: for people who are signed in, since they cost the line."""
    signed_in(request, now=time.time())
    told = request.query.getall("size", [])
    if len(told) != 1 or not _SIZE.fullmatch(told[0]) or int(told[0]) > SIZE_MAX:
        raise RefusedError("bad_request")
    return web.Response(
        body=_NOISE[: int(told[0])],
        headers={"Cache-Control": "no-store", "Content-Type": "application/octet-stream"},
    )
