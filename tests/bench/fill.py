"""How long an application waits for a page that is not there, with background fill running and without.

tests/bench/README.md tells how each figure is taken.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appclient.fillpolicy import LAUNCH_SECONDS
from tests.bench.baseline import drop_page_cache
from tests.bench.coldstart import Plan, ground
from tests.bench.link import Link
from tests.bench.ratio import Interval, quantile_ratio
from tests.bench.room import bubble_room
from tests.stage import Stage, say

PACKAGE = "thonny"
"""A sample that has a Python, for the probe."""
QUANTILE = 0.99

_PROBE = Path(__file__).parent / "faultprobe.py"


@dataclass(slots=True)
class Faults:
    """Seconds of each fault, without and with fill; bytes that came over the line meanwhile.

    `fill_bytes` is what the fill itself had of it, as the client tells, for each run with fill.
    """

    without: list[float] = field(default_factory=list)
    filling: list[float] = field(default_factory=list)
    line_bytes: dict[str, list[int]] = field(default_factory=dict)
    fill_bytes: list[int] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def fill_ran(self) -> bool:
        """Whether the fill brought something during each run that was to have it."""
        return bool(self.fill_bytes) and all(self.fill_bytes)

    def growth(self) -> Interval | None:
        """Return the 99th percentile while filling over that without."""
        return quantile_ratio(self.filling, self.without, QUANTILE) if self.filling and self.without else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if both sides had faults, and one of them the fill."""
    parser = argparse.ArgumentParser(prog="tests/bench/fill", description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--faults", type=int, default=150, help="of each run")
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("tests/bench/fill: needs root, for network namespaces; run it with sudo", file=sys.stderr)
        return 2
    found = measure(told.repeats, told.faults, Plan(mbit=told.mbit, rtt_ms=told.rtt_ms))
    print(json.dumps(record(found)) if told.json else table(found))
    return 0 if found.without and found.filling and found.fill_ran else 1


def measure(repeats: int, faults: int, plan: Plan) -> Faults:
    """Take `faults` faults without fill and with it, `repeats` times in turn, each on an empty cache."""
    found = Faults()
    with ground(plan) as (on, link, _):
        on.publish(PACKAGE)
        on.sign_in()
        for repeat in range(repeats):
            found.load.append(os.getloadavg()[0])
            for filling in (False, True) if repeat % 2 == 0 else (True, False):
                say(f"faults {'while filling' if filling else 'without fill'} {repeat + 1}/{repeats}")
                taken, received, filled = _faults(on, link, faults, repeat, plan.rtt_ms, filling=filling)
                (found.filling if filling else found.without).extend(taken)
                found.line_bytes.setdefault("filling" if filling else "without", []).append(received)
                if filling:
                    found.fill_bytes.append(filled)
    return found


def _faults(
    on: Stage, link: Link, count: int, seed: int, rtt_ms: float, *, filling: bool
) -> tuple[list[float], int, int]:
    """Return seconds of each fault, and bytes meanwhile: on the line, and of them the fill's."""
    on.forget()
    on.visit.appclient("settings", "--fill", "off")  # nothing but what is asked for
    on.visit.appclient("refresh")
    on.visit.settle()
    drop_page_cache()
    packed = base64.b64encode(_PROBE.read_bytes()).decode()
    with bubble_room(on, PACKAGE) as room:
        room.run(f"echo {packed} | base64 -d > probe.py && python3 -c 'import json, os, random, sys, time'")
        if filling:
            on.visit.appclient("fill", PACKAGE)  # goes on in the background
        # A fill waits until the launch is over, which no fault of the probe's may prolong.
        time.sleep(LAUNCH_SECONDS + 1)
        line, filled = link.received(), _filled(on)
        room.run(f"python3 probe.py {count} {seed} {rtt_ms / 2000} faults.json")
        line, filled = link.received() - line, _filled(on) - filled
        found = next(on.user.home.glob(".local/state/millstream/homes/**/faults.json"))
        return [float(one) for one in json.loads(found.read_text())], line, filled


def _filled(on: Stage) -> int:
    """Return the bytes that the client's fill has had."""
    return int(on.visit.status()["fill"]["bytes_received"])


def record(found: Faults) -> dict[str, Any]:
    """Return all of it for JSON, times in milliseconds."""
    growth = found.growth()
    return {
        "p99_ms": {"without": _p99(found.without), "filling": _p99(found.filling)},
        "faults": {"without": len(found.without), "filling": len(found.filling)},
        "line_bytes": found.line_bytes,
        "fill_bytes": found.fill_bytes,
        "fill_ran": found.fill_ran,
        "load": [round(load, 2) for load in found.load],
        "growth": None if growth is None else growth.record(),
    }


def table(found: Faults) -> str:
    """Return it as a table in Markdown."""
    lines = ["| | faults | median ms | 99th percentile ms | line MB |", "|---|--:|--:|--:|--:|"]
    for name, values in (("without", found.without), ("filling", found.filling)):
        ordered = sorted(values)
        middle = f"{ordered[len(ordered) // 2] * 1e3:.1f}" if ordered else "-"
        line_bytes = sum(found.line_bytes.get(name, [])) / 1e6
        lines.append(f"| {name} | {len(ordered)} | {middle} | {_p99(values) or '-'} | {line_bytes:.1f} |")
    idle = sum(not filled for filled in found.fill_bytes)
    ran = f"in {idle} of {len(found.fill_bytes)} runs it did not run" if idle else "it ran in every run"
    lines.append(f"\nThe fill brought {sum(found.fill_bytes) / 1e6:.1f} MB meanwhile: {ran}")
    lines.append(f"\n99th percentile while filling over without: {found.growth() or '-'}")
    return "\n".join(lines)


def _p99(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))] * 1e3, 2) if ordered else None


if __name__ == "__main__":
    sys.exit(main())
