"""A running bubble, or a running baseline, that takes one command line after the other.

A shell in it reads lines and says when each is done; so what is timed is the work inside, and not how the
room came to be. All processor time of the user's processes between two answers counts: the work's, the view's
and the agent's. Nothing else of the user's runs meanwhile.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from samples.demonstration import DemonstrationUser
from tests.ending import end_process
from tests.stage import Stage

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SHELL = """
cd; echo here
while read -r line; do
    (eval "$line") >said 2>&1 </dev/null; status=$?
    [ $status = 0 ] || tail -n 5 said
    echo "done $status"
done
"""
_ENOUGH_S = 300.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one command."""

    wall_s: float
    cpu_s: float


class Room:
    """A shell somewhere. `process` has its standard input and output as pipes."""

    def __init__(self, process: subprocess.Popen[str], user: DemonstrationUser) -> None:
        self._process, self._user = process, user
        self._rest = b""
        self._passed_over: list[str] = []

    def await_line(self, start: str, timeout_s: float = 60.0) -> str:
        """Return the next line that begins with `start`.

        Raises:
            RuntimeError: it does not come.
        """
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                if line.startswith(start.encode()):
                    return line.decode(errors="replace")
                self._passed_over.append(line.decode(errors="replace"))
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise RuntimeError(f"no answer in {timeout_s:.0f} s")
            more = os.read(out, 65536)
            if not more:
                raise RuntimeError(f"the shell is gone: {self._rest.decode(errors='replace')[-500:]}")
            self._rest += more

    def say(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def run(self, command: str, timeout_s: float = _ENOUGH_S) -> Times:
        """Run one line of shell and return what it took.

        Raises:
            RuntimeError: it failed, or did not end; the message holds what it said.
        """
        self._passed_over.clear()
        cpu = cpu_s(self._user)
        began = time.monotonic()
        self.say(command)
        answer = self.await_line("done ", timeout_s)
        wall = time.monotonic() - began
        used = cpu_s(self._user) - cpu
        if answer != "done 0":
            raise RuntimeError(f"{command[:80]}: {answer}: {' '.join(self._passed_over)[-500:]}")
        return Times(round(wall, 5), round(used, 3))


@contextmanager
def bubble_room(on: Stage, application: str) -> Iterator[Room]:
    """A shell in a bubble of `application`."""
    command = [on.programs / "appclient", "run", application, "--quiet", "--shell", "--", "-c", _SHELL]
    with _started(on, command, on.visit.prefix) as room:
        yield room


@contextmanager
def plain_room(on: Stage, lowers: Sequence[Path], name: str) -> Iterator[Room]:
    """A shell on plain folders, under the same composition (overlaid.py)."""
    program = on.folder / "overlaid.py"
    shutil.copyfile(Path(__file__).parent / "overlaid.py", program)
    scratch = on.user.home / f"room-{name}"
    scratch.mkdir()
    on.user.give(scratch)
    place = ":".join(map(str, lowers))
    command = [on.programs / "python", program, place, scratch, on.user.runtime / "Xauthority"]
    try:
        with _started(on, [*command, "/bin/sh", "-c", _SHELL], (), go=True) as room:
            yield room
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _started(
    on: Stage, command: Sequence[str | Path], prefix: Sequence[str], *, go: bool = False
) -> Iterator[Room]:
    process = on.user.popen(
        command,
        prefix=prefix,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=1,
    )
    room = Room(process, on.user)
    try:
        if go:
            room.await_line("ready")
            room.say("go")
        room.await_line("here", 120)
        yield room
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        end_process(process)


def cpu_s(user: DemonstrationUser) -> float:
    """Return the processor seconds that the user's processes, and those they have waited for, have used."""
    total = 0
    for process in user.processes():
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # utime, stime, and of the children waited for
    return total * _TICK_S
