"""Run the points of a topic: `tests/show TOPIC [POINT...] [--artefacts FOLDER]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.points.outcome import Options, Outcome, Points


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON line a point; return 0 if all hold."""
    parser = argparse.ArgumentParser(prog="tests/show")
    parser.add_argument("topic")
    parser.add_argument("point", type=int, nargs="*")
    parser.add_argument(
        "--artefacts", type=Path, help="folder for screenshots and tables; a new one by default"
    )
    parser.add_argument("--repeats", type=int, help="runs of each measurement; fewer tell less")
    parser.add_argument(
        "--application", action="append", default=[], help="measure this one alone; repeatable"
    )
    told = parser.parse_args(argv)
    try:
        topic = importlib.import_module(f"tests.points.{told.topic}")
        points: Points = topic.POINTS
    except (ImportError, AttributeError) as error:
        print(f"tests/show: no topic {told.topic} ({error}); see tests/show --help", file=sys.stderr)
        return 2
    unknown = [number for number in told.point if number not in points]
    if unknown:
        print(f"tests/show: {told.topic} has no point {unknown[0]}, only {sorted(points)}", file=sys.stderr)
        return 2
    if told.repeats is not None or told.application:
        if not hasattr(topic, "configure"):
            print(f"tests/show: {told.topic} takes neither --repeats nor --application", file=sys.stderr)
            return 2
        topic.configure(Options(told.repeats, tuple(told.application)))
    artefacts = told.artefacts or Path(tempfile.mkdtemp(prefix=f"millstream-show-{told.topic}-"))
    all_hold = True
    for number in told.point or sorted(points):
        folder = (artefacts / f"point-{number}").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        outcome = Outcome()
        began, load = time.monotonic(), os.getloadavg()[0]
        try:
            points[number](outcome, folder)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a point that crashes does not hold
            (folder / "traceback.txt").write_text(traceback.format_exc())
            outcome.require("it ran to its end", False, f"{type(error).__name__}: {error}")
        outcome.figures |= {"took_s": round(time.monotonic() - began, 1), "load": round(load, 1)}
        all_hold &= outcome.holds is True
        line = {
            "point": number,
            "holds": outcome.holds,
            "figures": outcome.record(),
            "artefacts": str(folder),
        }
        print(json.dumps(line), flush=True)
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
