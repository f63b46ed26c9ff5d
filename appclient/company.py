"""The processes that a start has beside the application itself."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class Company:
    """Starts them. `watch` shows what is being fetched, as long as the application runs; `others` are more
    windows, each with its own file, for applications that take one at a time.
    """

    def __init__(self, watch: Sequence[str], others: Sequence[Sequence[str]]) -> None:
        self._others = [subprocess.Popen(other) for other in others]
        self._watcher = subprocess.Popen(watch) if watch else None

    def end(self) -> None:
        """End the watcher, wait for the others."""
        if self._watcher is not None:
            self._watcher.terminate()
            self._watcher.wait()
        for other in self._others:
            other.wait()
