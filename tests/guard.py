"""Runs a command that must end: `python -m tests.guard SECONDS GRACE_SECONDS COMMAND...`, for `tests/run`.

When the time is up, the processes of the machine are listed and the command gets Ctrl-C (pytest undoes its
fixtures then, and tells what it has); after the grace, it and all that it has started are killed. The exit
status is 124 then, as timeout(1) has it, and the command's own otherwise.

Not timeout(1): that moves to a process group of its own, where whoever ends ours does not find it, or
(--foreground) passes on a Ctrl-C that the command had from the terminal already. And it waits for ever for a
process that sits in a read from a mount, deaf to signals until the mount's own process is killed.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

OUT_OF_TIME = 124
_KILLED_S = 10.0


class _ToldError(Exception):
    """Somebody wants this process to end."""


def main(argv: Sequence[str]) -> int:
    """Run the command to its end, or to ours."""
    limit_s, grace_s, *command = float(argv[0]), float(argv[1]), *argv[2:]
    # A handler: an ignored signal would be ignored by the command, too. The terminal sends Ctrl-C to both.
    signal.signal(signal.SIGINT, lambda *_: None)
    # setpriv: if this process is killed, the command gets Ctrl-C.
    process = subprocess.Popen(["setpriv", "--pdeathsig", "INT", *command])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _told)
    try:
        if _ends(process, limit_s):
            return process.returncode if process.returncode >= 0 else 128 - process.returncode
        _say(f"the tests have not ended after {limit_s:g} s, and get Ctrl-C. What runs:")
    except _ToldError as told:
        _say(f"{told}: the tests get Ctrl-C. What runs:")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _list_processes()
    process.send_signal(signal.SIGINT)
    if _ends(process, grace_s):
        return OUT_OF_TIME
    _say("the tests still go on, and are killed. What runs:")
    _list_processes()
    for victim in [process.pid, *_descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    if not _ends(process, _KILLED_S):
        _say(f"process {process.pid} cannot be killed")
    return OUT_OF_TIME


def _told(number: int, _: FrameType | None) -> None:
    raise _ToldError(signal.Signals(number).name)


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    ending = os.pidfd_open(process.pid)
    try:
        if not select.select([ending], [], [], seconds)[0]:
            return False
    finally:
        os.close(ending)
    process.wait()
    return True


def _descendants(process: int) -> list[int]:
    """Return the ids of what a process has started, and of what that has."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _list_processes() -> None:
    """Show all processes but the kernel's own, and in what they sit."""
    columns = "pid,ppid,user:16,stat,wchan:24,etimes,args"
    words = ("ps", "--ppid", "2", "-p", "2", "--deselect", "--forest", "-o", columns, "--cols", "160")
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False, timeout=20)


def _say(line: str) -> None:
    print(f"tests/run: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
