"""What a user notices when the agent is killed while an application starts, or a view while it runs."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from samples import sequenced
from tests.bench.images import images
from tests.stage import RECIPES, Stage, say, stage

UNDISTURBED = 5
VIEW_KILLS = 5
APART_S = 5.5
"""Between two kills of a view: of three within 10 s the last is not replaced (bubble/holder.py)."""

READING_S = 0.7
"""Into the reading, when the view is killed."""

_ENOUGH_S = 120.0


@dataclass(slots=True)
class Restarts:
    """What was measured. Lists hold one value a kill; None where nobody needed another agent."""

    application: str
    load: float = 0.0
    undisturbed_ms: list[float] = field(default_factory=list)
    agents_killed: int = 0
    came_up: int = 0
    listening_ms: list[float | None] = field(default_factory=list)  # from the kill to the next one
    stall_ms: list[float | None] = field(default_factory=list)  # lost beside listening_ms
    views_killed: int = 0
    read_right: int = 0
    view_ms: list[float] = field(default_factory=list)  # from the kill to the end of the read
    application_lived: bool = False
    errors: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if the application always came up and every read was right."""
    parser = argparse.ArgumentParser(prog="tests/bench/restart", description=__doc__)
    parser.add_argument("application", nargs="?", default="galculator")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("tests/bench/restart: needs root, for a user of its own; run it with sudo", file=sys.stderr)
        return 2
    found = measure(told.application, told.kills)
    print(json.dumps(asdict(found)) if told.json else table(found))
    good = found.came_up == found.agents_killed and found.read_right == found.views_killed
    return 0 if good and found.application_lived else 1


def measure(application: str, kills: int) -> Restarts:
    """Kill agents and views of `application`."""
    found = Restarts(application, load=os.getloadavg()[0])
    with stage("millstream-restart") as on:
        on.publish(application)
        on.sign_in()
        for _ in range(UNDISTURBED):
            _make_cold(on)
            launch = on.visit.launch(application, timeout_s=_ENOUGH_S)
            assert launch.seconds is not None
            found.undisturbed_ms.append(round(1000 * launch.seconds, 1))
            launch.end()
        usual_s = statistics.median(found.undisturbed_ms) / 1000
        for number in range(kills):
            say(f"agent {number + 1}/{kills}")
            _kill_an_agent(on, found, usual_s, usual_s * (number + 0.5) / kills)
        _kill_views(on, found)
    return found


def _make_cold(on: Stage) -> None:
    on.forget()
    on.visit.appclient("refresh")
    on.visit.settle()


def _kill_an_agent(on: Stage, found: Restarts, usual_s: float, after_s: float) -> None:
    """Start the application with nothing cached, and kill the agent `after_s` seconds into it."""
    _make_cold(on)
    found.agents_killed += 1
    listening: list[float] = []
    with on.display.screen() as screen:
        screen.forget()
        launch = on.visit.start(found.application)
        time.sleep(max(0.0, launch.started + after_s - time.monotonic()))
        before = on.user.agents()
        for process in before:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        killed = time.monotonic()

        def ended() -> bool:
            """Look for the next agent meanwhile."""
            if not listening and _listens(on, before):
                listening.append(time.monotonic())
            return launch.process.poll() is not None

        window = screen.first_window(_ENOUGH_S, ended=ended)
    if window is None:
        found.errors.append(f"killed after {after_s:.2f} s: {launch.output()[-500:]}")
        found.listening_ms.append(None)
        found.stall_ms.append(None)
    else:
        found.came_up += 1
        longer_ms = 1000 * (window.mapped_at - launch.started - usual_s)
        waited_ms = 1000 * (listening[0] - killed) if listening else None
        found.listening_ms.append(None if waited_ms is None else round(waited_ms, 1))
        found.stall_ms.append(None if waited_ms is None else round(max(0.0, longer_ms - waited_ms), 1))
    launch.end()


def _kill_views(on: Stage, found: Restarts) -> None:
    """Kill the view of a running application while another process in its bubble reads what is not cached."""
    _make_cold(on)
    launch = on.visit.launch(found.application, timeout_s=_ENOUGH_S)
    try:
        packages = sequenced.stack(found.application, on.cache, say, RECIPES)
        truth = images(packages, on.cache, say).tree
        files = sorted(
            path
            for path in (truth / "usr/lib").rglob("*")
            if path.is_file() and not path.is_symlink() and path.stat().st_size > 100_000
        )
        for number in range(VIEW_KILLS):
            say(f"view {number + 1}/{VIEW_KILLS}")
            began = time.monotonic()
            _kill_view(on, found, truth, files[number::VIEW_KILLS][:40])
            time.sleep(max(0.0, APART_S - (time.monotonic() - began)))
        found.application_lived = launch.process.poll() is None
    finally:
        launch.end()


def _kill_view(on: Stage, found: Restarts, truth: Path, files: Sequence[Path]) -> None:
    names = [f"/{path.relative_to(truth)}" for path in files]
    reader = on.visit.start(found.application, "--command", "sha256sum", "--", *names)
    time.sleep(READING_S)
    for process in on.user.named("bubble.view"):
        os.kill(process, signal.SIGKILL)
    found.views_killed += 1
    killed = time.monotonic()
    try:
        reader.process.wait(_ENOUGH_S)
    except subprocess.TimeoutExpired:
        found.errors.append("a reader hangs")
    found.view_ms.append(round(1000 * (time.monotonic() - killed), 1))
    sums = [line.split()[0] for line in reader.output().splitlines()]
    if sums == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]:
        found.read_right += 1
    else:
        found.errors.append(reader.output()[-500:])
    reader.end()


def _listens(on: Stage, killed: Sequence[int]) -> bool:
    """Return whether an agent listens that is none of those that were killed: they may be ending still."""
    with socket.socket(socket.AF_UNIX) as door, suppress(OSError):
        door.connect(str(on.user.runtime / "millstream/supply.sock"))
        peer = door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(peer[:4], sys.byteorder) not in killed
    return False


def table(found: Restarts) -> str:
    """Return what is worth reading, in Markdown."""
    lines = [
        f"{found.application}, load {found.load:.1f}; milliseconds, median (least to most)",
        "| | |",
        "|---|---|",
        f"| start, nothing cached, undisturbed | {_middle(found.undisturbed_ms)} |",
        f"| agents killed during a start | {found.agents_killed} |",
        f"| of these starts came up | {found.came_up} |",
        f"| until the next agent listens | {_middle(found.listening_ms)} |",
        f"| and then lost | {_middle(found.stall_ms)} |",
        f"| views killed during reads | {found.views_killed} |",
        f"| of these reads were right | {found.read_right} |",
        f"| from the kill to the end of the read | {_middle(found.view_ms)} |",
        f"| the application lived on | {'yes' if found.application_lived else 'no'} |",
    ]
    return "\n".join([*lines, *(f"  {error}" for error in found.errors)])


def _middle(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{statistics.median(known):.0f} ({min(known):.0f} to {max(known):.0f})"


if __name__ == "__main__":
    sys.exit(main())
