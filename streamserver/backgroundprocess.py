"""What a builder does that runs beside the server: little of the machine, and no longer than its server."""

from __future__ import annotations

import contextlib
import os
import threading

BACKGROUND_NICE = 15


def end_with_standard_input() -> None:
    """End when whoever started this is gone: what is being built is then begun again another time."""

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 4096):
                pass
        os._exit(0)

    threading.Thread(target=watch, name="standard input", daemon=True).start()
