"""Points 7 to 10: what runs already: steady state, the fill behind it, updates, restarts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.bench import fill, restart, steady, update, updatestart
from tests.bench.coldstart import Plan
from tests.bench.ratio import geometric_mean_of_ratios, ratio
from tests.bench.workloads import WORKLOADS
from tests.points.outcome import Outcome
from tests.points.speed_options import MBIT, RTT_MS, repeats
from tests.stage import package_cache

STEADY, P99_GROWTH, UPDATE_BYTES, UPDATE_PAIRS = 1.05, 1.2, 2.0, 8
AGENTS_KILLED, STALL_MS = 20, 1000
_FILL_REPEATS, _FAULTS = 7, 150


def steady_state(outcome: Outcome, artefacts: Path) -> None:
    """Warm wall time against an overlay on ext4, for five kinds of work."""
    found = steady.measure(list(WORKLOADS.values()), repeats(0) or None)
    (artefacts / "steady.md").write_text(steady.table(found) + "\n")
    (artefacts / "steady.json").write_text(json.dumps([steady.record(one) for one in found], indent=1))
    for one in found:
        outcome.figures[one.workload] = steady.record(one)["ratios"] | {"complete": one.complete}
        outcome.require(f"{one.workload} runs", not one.error, one.error)
        outcome.require(f"{one.workload}: everything is cached", one.complete)
        outcome.expect(f"{one.workload}, wall time over an overlay's", one.wall(steady.OVERLAY), STEADY)


def beside_the_fill(outcome: Outcome, artefacts: Path) -> None:
    """The 99th percentile of an application's faults, with background fill over without."""
    found = fill.measure(repeats(_FILL_REPEATS), _FAULTS, Plan(mbit=MBIT, rtt_ms=RTT_MS))
    (artefacts / "fill.md").write_text(fill.table(found) + "\n")
    outcome.figures |= fill.record(found)
    outcome.require("the fill ran during every measurement", found.fill_ran, found.fill_bytes)
    outcome.expect("99th percentile while filling over without", found.growth(), P99_GROWTH)


def updates(outcome: Outcome, artefacts: Path) -> None:
    """Bytes of real updates against the best delta tool; the time from an update to the first window."""
    work = package_cache() / "updates"
    found = update.measure(update.SHOWN, work, progress=True)
    (artefacts / "update.md").write_text(update.table(found) + "\n")
    outcome.figures["pairs"] = {one.package: round(one.ratio, 4) for one in found}
    outcome.figures["failed"] = {one.package: one.failures for one in found if one.failures}
    outcome.require(f"at least {UPDATE_PAIRS} pairs", len(found) >= UPDATE_PAIRS, len(found))
    interval = ratio([(one.ours, one.best) for one in found if one.best], geometric_mean_of_ratios)
    outcome.figures["bytes_to_best"] = interval.record()
    outcome.require(
        f"bytes over the best tool's at most {UPDATE_BYTES:g}", interval.estimate <= UPDATE_BYTES, interval
    )
    above = {one.package: one.blocks_above_plain for one in found if one.blocks_above_plain}
    outcome.require("no block above the plain one", not above, above)
    updatestart.point(outcome, artefacts)


def restarts(outcome: Outcome, artefacts: Path) -> None:
    """Agents killed while an application starts, views killed while it runs (tests/bench/restart)."""
    found = restart.measure("galculator", repeats(AGENTS_KILLED))
    (artefacts / "restart.md").write_text(restart.table(found) + "\n")
    outcome.figures |= asdict(found)
    outcome.require("the application always comes up", 0 < found.came_up == found.agents_killed, found.errors)
    stalls = [stall for stall in found.stall_ms if stall is not None]
    outcome.require("somebody needed the next agent", bool(stalls))
    outcome.require(
        f"a stall of at most {STALL_MS:g} ms after the restart", max(stalls, default=0) <= STALL_MS, stalls
    )
    outcome.require(
        "every view came back, or its reads ended with an error",
        0 < found.views_killed == found.read_right,
        found.errors,
    )
    outcome.require("the application lived on", found.application_lived, found.errors)
