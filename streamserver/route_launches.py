"""POST /v1/launches: what a launch needed and its pack lacked or had too late, in content ids and numbers."""

from __future__ import annotations

import asyncio
import math
import re
import sqlite3
import time

from aiohttp import web

from packageformat.errors import FormatError
from packageformat.manifest import decode_manifest
from packageformat.names import check_application_id
from packageformat.stack import bubble_id
from streamserver.context import CONTEXT
from streamserver.database import catalogue, packs
from streamserver.database.reports import LaunchFigures
from streamserver.latepages import LateRun, check_late
from streamserver.missedpages import PAGE_NUMBERS, MissedRun, check_runs
from streamserver.relearning import keep_report
from streamserver.reply import RefusedError
from streamserver.request import REPORT_BODY_MAX, read_json, signed_in

WINDOW_MS_MAX = 24 * 3600 * 1000
BYTES_MAX = 1 << 40
PAGES_NEEDED_MAX = 1 << 28
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


async def launches(request: web.Request) -> web.StreamResponse:
    """Keep a report of one launch; nothing is answered, and nothing kept if this server does not learn."""
    context = request.app[CONTEXT]
    now = time.time()
    account, _ = signed_in(request, now=now)
    wait = context.reporting.wait((account.id.hex(),), time.monotonic())
    if wait > 0:
        raise RefusedError("too_many_attempts", headers={"Retry-After": str(int(wait) + 1)})
    context.reporting.fail((account.id.hex(),), time.monotonic())
    value = await read_json(request, REPORT_BODY_MAX)
    if not context.learns:
        return web.Response(status=204)
    version_id, bubble = _digest(value.get("version_id")), _digest(value.get("bubble_id"))
    application = value.get("application")
    try:
        if not isinstance(application, str):
            raise RefusedError("bad_request")
        check_application_id(application)
        missed = await asyncio.to_thread(_runs, value.get("missed"))
        late = await asyncio.to_thread(_late, value.get("late", []))
    except FormatError as error:
        raise RefusedError("bad_request") from error
    figures = LaunchFigures(
        _number(value.get("window_ms"), WINDOW_MS_MAX),
        _seconds(value.get("seconds")),
        _number(value.get("bytes"), BYTES_MAX),
        _number(value.get("pages_needed"), PAGES_NEEDED_MAX),
        sum(run.pages for run in missed),
    )

    def question(db: sqlite3.Connection) -> bool:
        found = catalogue.readable_packages(db, account.id, (version_id,)).get(version_id)
        if found is None or bubble_id(packs.stack_of(db, version_id)) != bubble:
            return False
        return application in {one.id for one in decode_manifest(found.manifest).applications}

    if not await asyncio.to_thread(context.store.reader.ask, question):
        raise RefusedError("unknown_package")
    future = context.store.writer.submit(
        lambda db: keep_report(db, version_id, application, account.id, figures, missed, late, now=int(now))
    )
    await asyncio.wrap_future(future)
    return web.Response(status=204)


def _runs(value: object) -> tuple[MissedRun, ...]:
    if not isinstance(value, list):
        raise RefusedError("bad_request")
    runs = []
    for item in value:
        if not isinstance(item, list) or len(item) != 3:
            raise RefusedError("bad_request")
        runs.append(
            MissedRun(_digest(item[0]), _number(item[1], PAGE_NUMBERS), _number(item[2], PAGE_NUMBERS))
        )
    return check_runs(runs)


def _late(value: object) -> tuple[LateRun, ...]:
    if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 4 for item in value):
        raise RefusedError("bad_request")
    runs = _runs([item[:3] for item in value])
    return check_late([LateRun(run, _number(item[3], 1000)) for run, item in zip(runs, value, strict=True)])


def _digest(value: object) -> bytes:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise RefusedError("bad_request")
    return bytes.fromhex(value)


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise RefusedError("bad_request")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise RefusedError("bad_request")
    seconds = float(value) if abs(value) < 1e9 else math.inf
    if not 0 <= seconds < 1e9:
        raise RefusedError("bad_request")
    return seconds
