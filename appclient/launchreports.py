"""Reports of what launch packs lacked: made, kept until the server has them, sent. No file's bytes or names.

    state/reports/<seconds since 1970>-<serial>.json    one report: whose server it is for, and what is sent

Sent behind everything else, one at a time. A server that cannot be reached gets them later, up to
`KEPT_SECONDS`; one that refuses a report does not get it again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from appclient.errors import ServerUnreachableError
from appclient.launchwatch import Launch
from appclient.layer import Layer
from appclient.session import Session
from appclient.storedfile import store, stored
from packageformat.errors import MillstreamError
from packageformat.limits import PAGES_A_BLOCK

_log = logging.getLogger(__name__)

KEPT_SECONDS = 7 * 86400
KEPT_MOST = 100
RUNS_MAX = 4096
PAGES_MAX = 16384
LATE_RUNS_MAX = 1024

_FILE_MAX = 1 << 20

Run = tuple[bytes, int, int]
"""A content id, the first page in the file, pages."""


def runs_of(places: Iterable[tuple[bytes, int, int]]) -> list[Run]:
    """Return pages as runs, in the order in which they were needed, within a report's limits.

    Args:
        places: a file's content id, a block of that file, and pages of the block: bit n for page n.
    """
    runs: list[Run] = []
    count = 0
    for content, block, bits in places:
        for page in range(PAGES_A_BLOCK):
            if not bits >> page & 1:
                continue
            number = block * PAGES_A_BLOCK + page
            last = runs[-1] if runs else None
            if last is not None and last[0] == content and last[1] + last[2] == number:
                runs[-1] = (content, last[1], last[2] + 1)
            elif len(runs) == RUNS_MAX:
                return runs
            else:
                runs.append((content, number, 1))
            count += 1
            if count == PAGES_MAX:
                return runs
    return runs


def report_of(
    launch: Launch, layers: Mapping[bytes, Layer], *, seconds: float, received: int
) -> dict[str, object]:
    """Return what the server is told of a launch (streamserver/PROTOCOL.md, *Launches*).

    Args:
        launch: what was collected.
        layers: the packages that the pages are of; of others nothing is told.
        seconds: how long the launch was watched.
        received: bytes that came meanwhile.
    """

    def place(version: bytes, block: int) -> tuple[bytes, int] | None:
        layer = layers.get(version)
        if layer is None:
            return None
        entry, number, _ = layer.file_of(block)
        content = layer.content_id(entry)
        return None if content is None else (content, number)

    missed = [
        (*found, bits) for (version, block), bits in launch.missed.items() if (found := place(version, block))
    ]
    late: list[list[object]] = []
    for (version, block, come), bits in launch.late.items():
        found = place(version, block)
        if found is not None:
            late += [
                [content.hex(), first, pages, come] for content, first, pages in runs_of([(*found, bits)])
            ]
    return {
        "bubble_id": launch.bubble.hex(),
        "version_id": launch.version.hex(),
        "application": launch.application,
        "window_ms": 0,  # the client does not look at windows
        "seconds": round(seconds, 3),
        "bytes": received,
        "pages_needed": launch.pages_needed,
        "missed": [[content.hex(), first, pages] for content, first, pages in runs_of(missed)],
        "late": late[:LATE_RUNS_MAX],
    }


class LaunchReports:
    """The reports that wait on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sending = asyncio.Lock()

    def keep(self, report: Mapping[str, object], server_key: bytes, now: float) -> None:
        """Keep a report until the server has it; the oldest go if there are too many.

        Raises:
            CacheError: it cannot be written.
        """
        name = f"{int(now):011}-{secrets.token_hex(4)}.json"
        store(self._folder / name, json.dumps({"server": server_key.hex(), "report": dict(report)}).encode())
        for place in self._waiting()[:-KEPT_MOST]:
            place.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting())

    def drop(self) -> None:
        """Forget all of them: the user does not want them sent."""
        for place in self._waiting():
            place.unlink(missing_ok=True)

    async def send(self, session: Session, now: float) -> None:
        """Send what waits for this server, oldest first; what is too old or another server's goes."""
        async with self._sending:
            for place, report in self._for(session.signin.server_key, now):
                try:
                    await session.report_launch(report)
                except ServerUnreachableError as error:
                    _log.info("reports of launches wait: %s", error)
                    return
                except MillstreamError as error:
                    _log.warning("a report of a launch is not taken: %s", error)
                with suppress(OSError):
                    place.unlink(missing_ok=True)

    def _for(self, server_key: bytes, now: float) -> Iterator[tuple[Path, dict[str, object]]]:
        for place in self._waiting():
            try:
                value = json.loads(stored(place, most=_FILE_MAX) or b"")
                written = int(place.name.partition("-")[0])
                report = value["report"]
                is_ours = value["server"] == server_key.hex() and isinstance(report, dict)
            except (ValueError, KeyError, TypeError, MillstreamError):
                is_ours, written, report = False, 0, {}
            if is_ours and abs(now - written) <= KEPT_SECONDS:
                yield place, report
            else:
                with suppress(OSError):
                    place.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.json"))
