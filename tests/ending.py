"""How processes that tests start are ended: nothing here waits for ever."""

from __future__ import annotations

import subprocess
from typing import Any


def end_process(process: subprocess.Popen[Any], patience_s: float = 10.0) -> int:
    """Ask a process to end, then kill it; close its pipes unread and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(patience_s)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # something unsent for one who is gone
                continue
    return int(process.returncode)
