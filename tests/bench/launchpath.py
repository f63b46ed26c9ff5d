"""What a start costs when everything is cached, beside the same files from the local disk.

    python -m tests.bench.launchpath [APPLICATION] [--repeats 9] [--json]

Root only. README.md tells what each line is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.coldstart import _native, _unpacked
from tests.stage import Stage, say, stage

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
    with stage("millstream-launch") as on:
        on.publish(told.application)
        on.sign_in()
        found = measure(on, told.application, told.repeats)
    if told.json:
        print(json.dumps({"application": told.application, "load": load, "ms": found}))
    else:
        print(f"{told.application}, {told.repeats} repeats, load {load:.1f}; ms, median (least to most)")
        for name, values in found.items():
            middle = statistics.median(values)
            print(f"{name:34} {middle:7.1f} ({min(values):.1f} to {max(values):.1f})")
    return 0


def measure(on: Stage, application: str, repeats: int) -> Measured:
    """Return milliseconds by what was measured."""
    unpacked = _unpacked(on, application)
    for _ in range(2):  # what the second launch lacks, it has brought for the third
        on.visit.launch(application).end()
    found: Measured = {}
    program = [on.programs / "appclient", "run", application, "--command", "true"]
    for repeat in range(repeats):
        say(f"{application} {repeat + 1}/{repeats}")
        _wait_until_nobody_runs(on)
        launch = on.visit.launch(application)
        assert launch.seconds is not None
        found.setdefault("first window", []).append(1000 * launch.seconds)
        launch.end()
        window = 1000 * _native(on, application, unpacked, cold=False)
        found.setdefault("first window, native", []).append(window)
        _wait_until_nobody_runs(on)
        _timed(found, "true in a new bubble", lambda: _run(on, program))
        holder = on.visit.start(application)
        time.sleep(1)
        _timed(found, "true in a bubble that runs", lambda: _run(on, program))
        holder.end()
        _timed(found, "true, native", lambda: _native_true(on, unpacked))
        _timed(found, "python, by itself", lambda: _run(on, [on.programs / "python", "-c", ""]))
    shutil.rmtree(unpacked, ignore_errors=True)
    return found


def _timed(found: Measured, name: str, work: Callable[[], None]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found.setdefault(name, []).append(1000 * seconds)
    found.setdefault("  its own processes' CPU time", []).append(1000 * processor)


def _run(on: Stage, program: Sequence[str | Path]) -> None:
    process = on.user.popen(
        program, environment={"DISPLAY": on.display.name, "XAUTHORITY": str(on.user.runtime / "Xauthority")}
    )
    if process.wait(60):
        raise RuntimeError(f"{program} ended with {process.returncode}")


def _native_true(on: Stage, unpacked: Path) -> None:
    scratch = on.user.home / "native"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    on.user.give(scratch)
    authority = on.user.runtime / "Xauthority"
    _run(on, [on.programs / "python", on.folder / "overlaid.py", unpacked, scratch, authority, "true"])


def _wait_until_nobody_runs(on: Stage) -> None:
    runtime = on.user.runtime / "millstream"
    end = time.monotonic() + 20
    while any(place.is_dir() for place in runtime.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
