"""The server's own builder of deltas: as that of packs, a process of low priority, when there is work."""

from __future__ import annotations

import asyncio
import time

from streamserver.deltabuilding import missing_deltas
from streamserver.packworker import PackWorker


class DeltaWorker(PackWorker):
    """Keeps deltas up to date. `run` it as a task."""

    COMMAND = "deltas"

    async def _wanted(self) -> frozenset[bytes] | None:
        """Return what there is to do (pairs of version ids), or None if that is nothing now."""
        missing = await asyncio.to_thread(missing_deltas, self._store, now=time.time())
        work = frozenset(pair.old_version_id + pair.new_version_id for pair in missing)
        if work == self._failed and time.monotonic() < self._not_before:
            return None
        return work or None
