"""Points 1 to 4: cold starts, all from one run in which everything takes turns."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tests.bench import coldstart
from tests.bench.coldresult import STREAMED, Sample, elsewhere
from tests.bench.peers import PEERS
from tests.bench.ratio import Interval, ratio_of_sums
from tests.points.outcome import Outcome
from tests.points.speed_options import COLD_REPEATS, FAR_MS, LOSS, MBIT, RTT_MS, applications, repeats

TO_FLOOR, TO_PEER, TO_PEERS_IN_SUM, TO_TOUCHED, TO_NEAR = 1.3, 1 / 2, 1 / 3, 1.3, 1.6


@cache
def cold_samples() -> tuple[Sample, ...]:
    """Measure once for all points of this run: ours, the floor, native, every peer, and far away."""
    plan = coldstart.Plan(
        repeats=repeats(COLD_REPEATS),
        mbit=MBIT,
        rtt_ms=RTT_MS,
        also=((FAR_MS, 0.0), (RTT_MS, LOSS)),
        peers=tuple(PEERS),
        touched=True,
    )
    return tuple(coldstart.measure(applications(), plan))


def _measured(outcome: Outcome, artefacts: Path) -> tuple[Sample, ...]:
    samples = cold_samples()
    (artefacts / "coldstart.md").write_text(coldstart.table(samples) + "\n")
    (artefacts / "coldstart.json").write_text(
        json.dumps([coldstart.record(one) for one in samples], indent=1)
    )
    for sample in samples:
        streamed = len(sample.seconds(STREAMED))
        outcome.require(
            f"{sample.application} streams every time", streamed == repeats(COLD_REPEATS), sample.failures()
        )
    outcome.figures["load"] = round(max((load for one in samples for load in one.load), default=0.0), 1)
    return samples


def against_the_floor(outcome: Outcome, artefacts: Path) -> None:
    """Cold time to first window over max(plain download of as many bytes, native cold start)."""
    for sample in _measured(outcome, artefacts):
        interval = sample.to_floor()
        outcome.figures[sample.application] = _told(interval)
        outcome.expect(f"{sample.application} over its floor", interval, TO_FLOOR)


def against_peers(outcome: Outcome, artefacts: Path) -> None:
    """At least twice as fast as the best peer for each application, three times in sum."""
    groups = []
    for sample in _measured(outcome, artefacts):
        best = sample.best_peer()
        interval = sample.to_peer(best) if best else None
        outcome.figures[sample.application] = {"best": best} | (_told(interval) or {})
        outcome.figures[sample.application]["failed"] = {
            peer: failures for peer in sample.peers() if (failures := len(sample.failures([peer])))
        }
        outcome.expect(f"{sample.application} over the best peer ({best})", interval, TO_PEER)
        if best:
            groups.append(sample.pairs(sample.time(STREAMED), sample.time(best)))
    in_sum = ratio_of_sums(groups) if groups and all(groups) else None
    outcome.figures["in_sum"] = _told(in_sum)
    outcome.expect("the sum over the best peers' sum", in_sum, TO_PEERS_IN_SUM)


def bytes_received(outcome: Outcome, artefacts: Path) -> None:
    """Bytes before the first window over zstd -19 of exactly the pages touched."""
    for sample in _measured(outcome, artefacts):
        interval = sample.to_touched()
        touched = sample.touched
        outcome.figures[sample.application] = (_told(interval) or {}) | (
            {} if touched is None else {"touched_pages": touched.pages, "packed_bytes": touched.packed_bytes}
        )
        outcome.figures[sample.application]["received_bytes"] = sample.received(STREAMED)
        outcome.expect(f"{sample.application}'s bytes over its touched pages'", interval, TO_TOUCHED)


def far_away(outcome: Outcome, artefacts: Path) -> None:
    """Time at 200 ms over time at 20 ms; time with 1% loss is told."""
    for sample in _measured(outcome, artefacts):
        far = sample.between(elsewhere(STREAMED, FAR_MS, 0.0), STREAMED)
        lossy = elsewhere(STREAMED, RTT_MS, LOSS)
        outcome.figures[sample.application] = {
            "far": _told(far),
            "lossy": _told(sample.between(lossy, STREAMED)),
            "lossy_s": sample.seconds(lossy),
        }
        outcome.expect(f"{sample.application} at {FAR_MS:g} ms over {RTT_MS:g} ms", far, TO_NEAR)


def _told(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval.record()
