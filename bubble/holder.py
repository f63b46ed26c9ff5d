"""Holds /dev/fuse for a view, and starts another view on it when one dies.

A view has no state to lose: inode numbers are positions, blocks are verified again. So the process that is
started as the view answers the kernel's INIT, forks the view that serves, and waits. If that one dies, the
next is forked on the same descriptor; it needs no INIT, and FUSE_NOTIFY_RESEND (Linux 6.9) brings back the
requests that were in flight. Where the kernel cannot do that, or views die again and again, the holder ends:
with the last descriptor the kernel aborts the file system, nobody hangs, and the keeper ends the bubble.

If the holder is killed, its view serves on, and is the last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bubble import fuse, namespaces

DEATHS_MAX = 3
"""Views that may die within DEATHS_SECONDS; the last one is not replaced."""

DEATHS_SECONDS = 10.0


def hold(device: int, *, resends: bool, serve: Callable[[int], int], log: Callable[[str], None]) -> int:
    """Have `serve` called in a process of its own, again when that dies, until it returns 0.

    Args:
        device: descriptor of a mounted /dev/fuse, INIT answered.
        resends: whether the kernel repeats requests in flight.
        serve: the view; gets the number of views that have died before it; returns 0 when the file system
            has been unmounted.
        log: writes a line.

    Returns:
        0, or 1 if the last view died.
    """
    namespaces.name_process("bubble.holder")
    died = 0
    deaths: list[float] = []
    while True:
        process = os.fork()
        if not process:
            code = 1
            try:
                namespaces.name_process("bubble.view")
                code = serve(died)
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        if not status:
            return 0
        died += 1
        how = os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        deaths = [at for at in deaths if now - at < DEATHS_SECONDS] + [now]
        told = f"the view {process} has died ({f'signal {-how}' if how < 0 else f'status {how}'})"
        if not resends:
            log(f"{told}; this kernel repeats no requests (Linux 6.9 does)")
            return 1
        if len(deaths) >= DEATHS_MAX:
            log(f"{told}, as {len(deaths)} have within {DEATHS_SECONDS:.0f} s: given up")
            return 1
        log(f"{told}: another takes over")
        try:
            os.write(device, fuse.RESEND)
        except OSError as error:
            log(f"no requests can be repeated: {error.strerror}")
            return 1
