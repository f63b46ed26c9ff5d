"""The agent's hold on its launcher: started soon after the agent, started again if it dies, gone with it."""

from __future__ import annotations

import logging
import subprocess
import sys

_log = logging.getLogger(__name__)

START_INTERVAL = 5.0
"""Seconds between two starts of a launcher."""


class Standby:
    """Keeps one launcher. Without one, starts take the long way: nothing here is worth an error."""

    def __init__(self) -> None:
        self._launcher: subprocess.Popen[bytes] | None = None
        self._started = -START_INTERVAL

    def tend(self, now: float) -> None:
        """See that there is a launcher. `now` is in monotonic seconds."""
        if self._launcher is not None and self._launcher.poll() is None:
            return
        if now - self._started < START_INTERVAL:
            return
        self._started = now
        self.close()
        try:
            # In a session of its own: what it starts outlives the agent, and its terminal if it has one.
            self._launcher = subprocess.Popen(
                (sys.executable, "-m", "appclient.launcher"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("no launcher can be started: %s", error)

    def close(self) -> None:
        """Let the launcher end."""
        if self._launcher is not None and self._launcher.stdin is not None:
            self._launcher.stdin.close()
            self._launcher.poll()
