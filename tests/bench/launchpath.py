"""What a start costs when everything is cached, beside the same files from the local disk.

    python -m tests.bench.launchpath [APPLICATION] [--repeats 9] [--json]

Root only. README.md tells what each line is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from samples import sequenced
from samples.visit import Launch
from tests.bench import baseline
from tests.bench.images import UID, images
from tests.stage import RECIPES, Stage, say, stage

Measured = dict[str, list[float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tests.bench.launchpath", description=__doc__)
    parser.add_argument("application", nargs="?", default="galculator")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("tests.bench.launchpath: needs root, for a user of its own", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    with stage("millstream-launch", uid=UID) as on:
        on.publish(told.application)
        on.sign_in()
        packages = sequenced.stack(told.application, on.cache, say, RECIPES)
        with baseline.shown(images(packages, on.cache, say).tree, on.folder / "native") as tree:
            found = measure(on, told.application, told.repeats, tree)
    if told.json:
        print(json.dumps({"application": told.application, "load": load, "ms": found}))
    else:
        print(f"{told.application}, {told.repeats} repeats, load {load:.1f}; ms, median (least to most)")
        for name, values in found.items():
            middle = statistics.median(values)
            print(f"{name:34} {middle:7.1f} ({min(values):.1f} to {max(values):.1f})")
    return 0


def measure(on: Stage, application: str, repeats: int, tree: Path) -> Measured:
    """Return milliseconds by what was measured."""
    found: Measured = {}
    program = [on.programs / "appclient", "run", application, "--command", "true"]
    for _ in range(2):  # what the second launch lacks, it has brought for the third
        on.visit.launch(application).end()
    on.visit.settle()
    for repeat in range(repeats):
        say(f"{application} {repeat + 1}/{repeats}")
        _wait_until_nobody_runs(on)
        launch = on.visit.launch(application)
        assert launch.seconds is not None
        found.setdefault("first window", []).append(1000 * launch.seconds)
        launch.end()
        seconds = baseline.first_window(on, application, [tree], {}, timeout_s=60)
        found.setdefault("first window, native", []).append(1000 * seconds)
        _wait_until_nobody_runs(on)
        _timed(found, "true in a new bubble", lambda: _run(on, program))
        holder = on.visit.start(application)
        time.sleep(1)
        _timed(found, "true in a bubble that runs", lambda: _run(on, program))
        holder.end()
        with baseline.run(on, ["true"], [tree], {}) as (begin, process):
            _timed(found, "true, native", lambda: _begun(begin, process))
        _timed(found, "python, by itself", lambda: _run(on, [on.programs / "python", "-c", ""]))
    return found


def _begun(begin: Callable[[], None], launch: Launch) -> None:
    begin()
    launch.process.wait(60)


def _timed(found: Measured, name: str, work: Callable[[], None]) -> None:
    started = time.monotonic()
    work()
    found.setdefault(name, []).append(1000 * (time.monotonic() - started))


def _run(on: Stage, program: Sequence[str | Path]) -> None:
    process = on.user.popen(
        program, environment={"DISPLAY": on.display.name, "XAUTHORITY": str(on.user.runtime / "Xauthority")}
    )
    if process.wait(60):
        raise RuntimeError(f"{program} ended with {process.returncode}")


def _wait_until_nobody_runs(on: Stage) -> None:
    runtime = on.user.runtime / "millstream"
    end = time.monotonic() + 20
    while any(place.is_dir() for place in runtime.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
