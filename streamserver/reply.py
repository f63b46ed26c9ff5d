"""What goes wrong in a request, as the JSON that the client gets (PROTOCOL.md, *Errors*)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table of errors."""

    code: str
    status: int
    message: str
    hint: str


ERRORS = {
    kind.code: kind
    for kind in (
        ErrorKind("bad_request", 400, "request is not understood", "see PROTOCOL.md"),
        ErrorKind("not_signed_in", 401, "token is missing, wrong or expired", "sign in again"),
        ErrorKind("wrong_password", 401, "user or password is wrong", "check both and try again"),
        ErrorKind(
            "password_needs_tls",
            403,
            "server takes no password over a plain connection",
            "use the server's https address",
        ),
        ErrorKind("bad_capability", 403, "URL gives no right to this object", "ask for a new pointer"),
        ErrorKind(
            "unknown_package", 404, "no such package, or not for this user", "ask the administrator for it"
        ),
        ErrorKind("unknown_object", 404, "object is not here any more", "ask for a new pointer"),
        ErrorKind("unknown_route", 404, "no such address", "see PROTOCOL.md"),
        ErrorKind("bad_method", 405, "address does not take this method", "see PROTOCOL.md"),
        ErrorKind("request_timeout", 408, "request did not arrive in time", "try again"),
        ErrorKind("capability_expired", 410, "URL has expired", "ask for a new pointer"),
        ErrorKind("too_large", 413, "request is too large", "see PROTOCOL.md"),
        ErrorKind("bad_range", 416, "object has no such bytes", "ask for bytes inside the object"),
        ErrorKind("too_many_attempts", 429, "too many attempts", "wait, then try again"),
        ErrorKind("internal", 500, "server has made a mistake", "tell the administrator: the log has more"),
        ErrorKind("store_failed", 503, "server cannot use its store", "tell the administrator"),
        ErrorKind("damaged_package", 503, "stored package is damaged", "tell the administrator"),
        ErrorKind("busy", 503, "server has too much to do", "try again in a moment"),
    )
}
"""Every error that a client can get, by its code."""


class RefusedError(Exception):
    """A request that is answered with an error. Raised by routes, turned into JSON by the outermost layer."""

    def __init__(self, code: str, *, headers: dict[str, str] | None = None, log: str = "") -> None:
        super().__init__(code)
        self.kind = ERRORS[code]
        self.headers = headers or {}
        self.log = log  # for the administrator's log only


def error_response(kind: ErrorKind, headers: dict[str, str] | None = None) -> web.Response:
    """Return the reply that tells of an error."""
    response = json_response({"error": kind.code, "message": kind.message, "hint": kind.hint}, kind.status)
    response.headers.update(headers or {})
    return response


def json_response(value: dict[str, object], status: int = 200) -> web.Response:
    """Return a JSON reply that nothing on the way may keep."""
    return web.Response(
        body=json.dumps(value).encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={"Cache-Control": "no-store"},
    )
