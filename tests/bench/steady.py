"""Warm runs: what work costs in a bubble when everything is there, beside an overlay on ext4 and native.

tests/bench/README.md tells how each figure is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samples import sequenced
from tests.bench.baseline import shown
from tests.bench.filling import fill
from tests.bench.images import UID, images
from tests.bench.ratio import Interval, geometric_mean_of_ratios, ratio
from tests.bench.room import Room, Times, bubble_room, plain_room
from tests.bench.workloads import WORKLOADS, Workload
from tests.stage import RECIPES, Stage, say, stage

BUBBLE, OVERLAY, NATIVE = "bubble", "overlay", "native"


@dataclass(slots=True)
class Steady:
    """One workload; equal positions of the lists were measured one right after the other."""

    workload: str
    complete: bool = False
    """Whether all of the package was in the client's cache."""

    runs: dict[str, list[Times]] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    error: str = ""

    def wall(self, to: str) -> Interval | None:
        """Return the ratio of wall times, ours to another's."""
        return self._ratio(to, lambda times: times.wall_s)

    def cpu(self, to: str) -> Interval | None:
        """Return the ratio of processor times, view and agent included."""
        return self._ratio(to, lambda times: times.cpu_s)

    def _ratio(self, to: str, of: Any) -> Interval | None:
        pairs = [
            (of(ours), of(theirs))
            for ours, theirs in zip(self.runs.get(BUBBLE, ()), self.runs.get(to, ()), strict=False)
        ]
        usable = [pair for pair in pairs if all(value > 0 for value in pair)]
        return ratio(usable, geometric_mean_of_ratios) if usable else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every workload ran every time."""
    parser = argparse.ArgumentParser(prog="tests/bench/steady", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--repeats", type=int, help="pairs of each; 20 for short ones, 7 for long ones")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    if unknown := [name for name in told.workloads if name not in WORKLOADS]:
        print(f"tests/bench/steady: no workload {unknown[0]}, only {', '.join(WORKLOADS)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("tests/bench/steady: needs root, to make a user; run it with sudo", file=sys.stderr)
        return 2
    found = measure([WORKLOADS[name] for name in told.workloads or WORKLOADS], told.repeats)
    print(json.dumps({"workloads": [record(one) for one in found]}) if told.json else table(found))
    return 0 if all(not one.error for one in found) else 1


def measure(workloads: Sequence[Workload], repeats: int | None = None) -> list[Steady]:
    """Measure each workload in a bubble, on an overlay and natively, in turn."""
    found = []
    with stage("millstream-bench", uid=UID) as on:
        for workload in workloads:
            on.publish(workload.package)
        on.sign_in()
        for workload in workloads:
            steady = Steady(workload.name)
            found.append(steady)
            try:
                _measure(on, workload, steady, repeats or workload.repeats)
            except (RuntimeError, OSError) as error:
                steady.error = str(error)[-2000:] or type(error).__name__
                on.user.end_processes()
    return found


def _measure(on: Stage, workload: Workload, steady: Steady, repeats: int) -> None:
    packages = sequenced.stack(workload.package, on.cache, say, RECIPES)
    say(f"{workload.name}: filling the client's cache")
    steady.complete = fill(on, workload.package)
    with ExitStack() as undo:
        tree = undo.enter_context(
            shown(images(packages, on.cache, say).tree, on.folder / "native" / workload.package)
        )
        rooms: dict[str, Room] = {
            BUBBLE: undo.enter_context(bubble_room(on, workload.package)),
            OVERLAY: undo.enter_context(plain_room(on, [tree], "overlay")),
            NATIVE: undo.enter_context(plain_room(on, [Path(f"={tree}")], "native")),
        }
        for room in rooms.values():
            for command in (*workload.prepare, workload.command):
                room.run(command)
        for repeat in range(repeats):
            say(f"{workload.name} {repeat + 1}/{repeats}")
            steady.load.append(os.getloadavg()[0])
            for name in list(rooms) if repeat % 2 == 0 else reversed(rooms):
                steady.runs.setdefault(name, []).append(rooms[name].run(workload.command))


def record(steady: Steady) -> dict[str, Any]:
    """Return all of it for JSON."""
    intervals = {
        f"{kind}_to_{to}": interval
        for to in (OVERLAY, NATIVE)
        for kind, interval in (("wall", steady.wall(to)), ("cpu", steady.cpu(to)))
    }
    return {
        "workload": steady.workload,
        "complete": steady.complete,
        "load": [round(load, 2) for load in steady.load],
        "runs": {name: [asdict(times) for times in runs] for name, runs in steady.runs.items()},
        "ratios": {name: interval.record() for name, interval in intervals.items() if interval is not None},
        "error": steady.error,
    }


def table(found: Sequence[Steady]) -> str:
    """Return medians and ratios as a table in Markdown."""
    lines = [
        "| workload | pairs | bubble s | overlay s | native s | wall / overlay | CPU / overlay "
        "| wall / native | CPU / native | load |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for steady in found:
        medians = [
            f"{statistics.median(times.wall_s for times in steady.runs[name]):.3f}"
            if steady.runs.get(name)
            else "-"
            for name in (BUBBLE, OVERLAY, NATIVE)
        ]
        ratios = [steady.wall(OVERLAY), steady.cpu(OVERLAY), steady.wall(NATIVE), steady.cpu(NATIVE)]
        cells = [steady.workload, str(len(steady.runs.get(BUBBLE, ()))), *medians]
        cells += [str(interval or "-") for interval in ratios]
        lines.append(f"| {' | '.join(cells)} | {max(steady.load, default=0):.1f} |")
    lines += [f"  {steady.workload}: {steady.error[-300:]}" for steady in found if steady.error]
    lines += [f"  {steady.workload}: the cache is not complete" for steady in found if not steady.complete]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
