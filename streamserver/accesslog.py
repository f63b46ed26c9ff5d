"""The access log: one JSON line for each request. Never a query, a token or a password."""

from __future__ import annotations

import json
import logging
import time

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from streamserver.context import SENT, USER
from streamserver.request import address_of

ACCESS = logging.getLogger("streamserver.access")
PATH_MAX = 200  # characters of a path in the log


class AccessLogger(AbstractAccessLogger):
    """Writes time, address, user, method, path without query, status, bytes and milliseconds."""

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:  # noqa: D102
        self.logger.info("%s", access_line(request, response, time))


def access_line(request: BaseRequest, response: StreamResponse, seconds: float) -> str:
    """Return the log's line. A capability lies in the query, a token in a header: neither is in it."""
    user = None
    sent = response.body_length if response.prepared else 0
    address = "unknown"
    if isinstance(request, web.Request):
        user = request.get(USER)
        sent = request.get(SENT, sent)
        address = address_of(request)
    line: dict[str, object] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "address": address,
        "user": user,
        "method": request.method[:16],
        "path": request.path[:PATH_MAX],
        "status": response.status,
        "bytes": sent,
        "ms": round(seconds * 1000, 1),
    }
    wanted = request.headers.get("Range")
    if wanted:
        line["range"] = wanted[:64]
    return json.dumps(line)
