"""The server's own builder of launch packs: a process beside it, of low priority, when there is work.

What there is to do is decided by looking at the database (another program may have imported); being woken
only makes the look come sooner. The process is `streamserver packs build --background`, which ends when its
standard input does: with the server, however that ends. A build that failed is tried again ever more seldom.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time

from packageformat.errors import MillstreamError
from streamserver.packwork import Plan, plan
from streamserver.store import Store
from streamserver.textline import shown

LOG = logging.getLogger("streamserver")
LOOK_S = 5.0
IDLE_LOOK_S = 60.0  # while nobody changes the database
RETRY_MAX_S = 3600.0


class PackWorker:
    """Keeps launch packs up to date. `run` it as a task."""

    COMMAND = "packs"

    def __init__(self, store: Store, relearn_s: float) -> None:
        self._store = store
        self._relearn_s = relearn_s  # reports wait so long, for others to join them
        self._look = asyncio.Event()
        self._merged = time.monotonic()
        self._seen = -1  # the database when last looked at
        self._look_again = 0.0
        self._failures = 0
        self._failed: frozenset[bytes] = frozenset()  # what there was to do when a build failed
        self._not_before = 0.0  # that is left alone until then

    def wake(self) -> None:
        """Look soon. From the server's event loop."""
        self._look.set()

    async def run(self) -> None:
        """Work until cancelled."""
        work: frozenset[bytes] | None = None
        while True:
            try:
                work = await self._wanted()
                if work is not None:
                    await self._build(work)
            except MillstreamError as error:
                LOG.error("%s: %s", self.COMMAND, error.line())  # noqa: TRY400
            except OSError as error:
                LOG.error("%s: the builder cannot be started: %s", self.COMMAND, error)  # noqa: TRY400
                self._back_off(work)
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()

    async def _wanted(self) -> frozenset[bytes] | None:
        """Return what there is to do (digests of profiles), or None if that is nothing now."""
        now = time.monotonic()
        seen = await asyncio.to_thread(self._store.reader.data_version)
        if seen == self._seen and now < self._look_again:
            return None
        found: Plan = await asyncio.to_thread(plan, self._store, now=time.time())
        work = frozenset(profile.digest for profile in (*found.build, *found.weigh))
        # Time alone brings work, too: reports ripen, objects expire, files are lost.
        self._seen, self._look_again = seen, now if work or found.merge else now + IDLE_LOOK_S
        if work == self._failed and now < self._not_before:
            return None
        if found.merge and now - self._merged >= self._relearn_s:
            self._merged = now
            return work
        return work if work or found.expired else None

    async def _build(self, work: frozenset[bytes]) -> None:
        arguments = (self.COMMAND, "build", "--dir", str(self._store.folder.path), "--background")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "streamserver",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the server's, which ends it
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                LOG.info("%s: %s", self.COMMAND, shown(os.fsdecode(line.strip())))
            code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code:
            self._back_off(work)
        else:
            self._failures, self._failed = 0, frozenset()

    def _back_off(self, work: frozenset[bytes] | None) -> None:
        self._failed = work or frozenset()
        self._not_before = time.monotonic() + min(RETRY_MAX_S, LOOK_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
