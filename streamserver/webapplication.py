"""The web application: routes, and the layer that turns whatever goes wrong into a JSON answer."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

from aiohttp import web

from packageformat.errors import MillstreamError
from streamserver.context import CONTEXT, Context
from streamserver.database import catalogue
from streamserver.database.catalogue import ServerRow
from streamserver.errors import DamagedObjectError, StoreError
from streamserver.reply import ERRORS, RefusedError, error_response, json_response
from streamserver.request import BODY_MAX
from streamserver.route_launches import launches
from streamserver.route_login import login, renew
from streamserver.route_objects import read_object, read_stream
from streamserver.route_publishing import pointers, publishing
from streamserver.route_rehearsal import rehearsal

PROTOCOL = 1
LOG = logging.getLogger("streamserver")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def health(request: web.Request) -> web.StreamResponse:
    """Answer 200 if the database answers; for load balancers and monitors."""
    context = request.app[CONTEXT]
    context.store.reader.ask(_generation)
    uptime = int(time.monotonic() - context.started)
    return json_response({"status": "ok", "version": version("millstream"), "uptime_s": uptime})


async def server(request: web.Request) -> web.StreamResponse:
    """Answer with who this server is. Trust comes from TLS or from the pin, not from here."""
    context = request.app[CONTEXT]
    row = context.store.reader.ask(_server_row)
    key = context.store.secrets.public.hex()
    return json_response(
        {"name": row.name, "key": key, "protocol": PROTOCOL, "launch_reports": context.learns}
    )


def _server_row(db: sqlite3.Connection) -> ServerRow:
    return catalogue.server_row(db)


def _generation(db: sqlite3.Connection) -> int:
    return catalogue.server_row(db).generation


ROUTES = (
    ("GET", "/v1/health", health),
    ("GET", "/v1/server", server),
    ("POST", "/v1/login", login),
    ("POST", "/v1/renew", renew),
    ("GET", "/v1/publishing", publishing),
    ("POST", "/v1/pointers", pointers),
    ("POST", "/v1/launches", launches),
    ("GET", "/v1/rehearsal", rehearsal),
    ("GET", "/v1/objects/{digest}", read_object),
    ("HEAD", "/v1/objects/{digest}", read_object),
    ("GET", "/v1/stream", read_stream),
)
"""Method, path and handler of every route; PROTOCOL.md lists the same."""


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into JSON. The only place that catches everything: a request is owed an answer."""
    try:
        return await handler(request)
    except RefusedError as refused:
        if refused.log:
            LOG.info("%s: %s", refused.kind.code, refused.log)
        return error_response(refused.kind, refused.headers)
    except web.HTTPRequestEntityTooLarge:
        return error_response(ERRORS["too_large"], {"Connection": "close"})
    except web.HTTPMethodNotAllowed as error:
        return error_response(ERRORS["bad_method"], {"Allow": error.headers.get("Allow", "")})
    except web.HTTPNotFound:
        return error_response(ERRORS["unknown_route"])
    except web.HTTPException as error:
        return error_response(ERRORS["bad_request" if error.status < 500 else "internal"])
    except DamagedObjectError as error:
        LOG.error("%s", error.line())  # noqa: TRY400 - the trace of a known problem says nothing
        return error_response(ERRORS["damaged_package"])
    except StoreError as error:
        LOG.error("%s", error.line())  # noqa: TRY400
        return error_response(ERRORS["store_failed"])
    except MillstreamError as error:
        LOG.error("%s", error.line())  # noqa: TRY400
        return error_response(ERRORS["internal"])
    except ConnectionError:
        raise
    except Exception:
        LOG.exception("bug while answering %s %s", request.method, request.path[:200])
        return error_response(ERRORS["internal"])


def make_application(context: Context) -> web.Application:
    """Return the application that serves `context`, and closes its parts when it ends."""
    application = web.Application(middlewares=[answer_errors], client_max_size=BODY_MAX)
    application[CONTEXT] = context

    async def parts(_: web.Application) -> AsyncIterator[None]:
        yield
        context.close()

    application.cleanup_ctx.append(parts)
    for method, path, handler in ROUTES:
        application.router.add_route(method, path, handler)
    return application
