"""What cold starts gave: the runs of one application, their ratios, and the tables. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.ratio import Interval, Pair, geometric_mean_of_ratios, ratio

STREAMED, DOWNLOAD, NATIVE_COLD, NATIVE_WARM = "streamed", "download", "native cold", "native warm"
_OURS = (STREAMED, DOWNLOAD, NATIVE_COLD, NATIVE_WARM)


def elsewhere(kind: str, rtt_ms: float, loss: float) -> str:
    """Return the name of runs of a kind over a link of another shape than the benchmark's own."""
    lost = f", {loss:.1%} lost" if loss else ""
    return f"{kind} at {rtt_ms:g} ms{lost}"


@dataclass(frozen=True, slots=True)
class Taken:
    """One run. `received_bytes` are those on the line, headers and all; `error` says why there is no time."""

    seconds: float = 0.0
    received_bytes: int = 0
    error: str = ""
    window: str = ""
    tallies: dict[str, int] = field(default_factory=dict)
    """What the client counted, summed over bubbles (`appclient status --json`)."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What a launch read before its first window: pages of 4 KiB, and those alone as one zstd -19 stream."""

    pages: int
    files: int
    packed_bytes: int
    unprofiled: int | None = None
    """Pages that the application's launch profile does not have; None without a profile."""


@dataclass(slots=True)
class Sample:
    """One application: a list holds one entry a repeat, so that equal positions were measured together."""

    application: str
    packaged_bytes: int = 0
    runs: dict[str, list[Taken]] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    touched: Touched | None = None
    errors: list[str] = field(default_factory=list)
    """What went wrong beside the runs."""

    def add(self, kind: str, taken: Taken) -> None:
        """Note a run."""
        self.runs.setdefault(kind, []).append(taken)

    def seconds(self, kind: str) -> list[float]:
        """Return the times of the runs of one kind that showed a window."""
        return [taken.seconds for taken in self.runs.get(kind, ()) if not taken.error]

    def received(self, kind: str) -> list[int]:
        """Return their bytes."""
        return [taken.received_bytes for taken in self.runs.get(kind, ()) if not taken.error]

    def tally(self, name: str) -> list[int]:
        """Return one of the client's counts, of each streamed run."""
        return [taken.tallies.get(name, 0) for taken in self.runs.get(STREAMED, ()) if not taken.error]

    def failures(self, kinds: Sequence[str] | None = None) -> list[str]:
        """Return what went wrong in runs of these kinds (of ours and native, by default)."""
        wanted = [kind for kind in self.runs if _is_ours(kind)] if kinds is None else kinds
        found = [taken.error for kind in wanted for taken in self.runs.get(kind, ()) if taken.error]
        return [*self.errors, *found]

    def peers(self) -> list[str]:
        """Return the peers that were run."""
        return [kind for kind in self.runs if not _is_ours(kind)]

    def elsewhere(self) -> list[str]:
        """Return the kinds of ours that ran over links of other shapes."""
        return [kind for kind in self.runs if _is_ours(kind) and kind not in _OURS]

    def best_peer(self) -> str | None:
        """Return the peer with the least median, of those that always showed a window."""
        whole = [kind for kind in self.peers() if not any(taken.error for taken in self.runs[kind])]
        return min(whole, key=lambda kind: statistics.median(self.seconds(kind)), default=None)

    def pairs(self, of: Callable[[int], float | None], to: Callable[[int], float | None]) -> list[Pair]:
        """Return the pairs of two values by repeat, where both are there."""
        count = max((len(runs) for runs in self.runs.values()), default=0)
        both = [(of(repeat), to(repeat)) for repeat in range(count)]
        return [(ours, theirs) for ours, theirs in both if ours and theirs]

    def time(self, kind: str) -> Callable[[int], float | None]:
        """Return what gives the seconds of a repeat."""

        def of(repeat: int) -> float | None:
            runs = self.runs.get(kind, [])
            return runs[repeat].seconds if repeat < len(runs) and not runs[repeat].error else None

        return of

    def floor(self, repeat: int) -> float | None:
        """Return what no client can beat: the plain download of what ours received, or native cold."""
        download, native = self.time(DOWNLOAD)(repeat), self.time(NATIVE_COLD)(repeat)
        return max(download, native) if download and native else None

    def to_floor(self) -> Interval | None:
        """Return streamed time over the floor."""
        return _mean(self.pairs(self.time(STREAMED), self.floor))

    def to_peer(self, peer: str) -> Interval | None:
        """Return streamed time over a peer's."""
        return self.between(STREAMED, peer)

    def between(self, kind: str, other: str) -> Interval | None:
        """Return the time of one kind over that of another."""
        return _mean(self.pairs(self.time(kind), self.time(other)))

    def to_touched(self) -> Interval | None:
        """Return received bytes over the touched pages' as one zstd -19 stream."""
        if self.touched is None:
            return None
        packed = float(self.touched.packed_bytes)
        return _mean([(float(received), packed) for received in self.received(STREAMED)])


def _is_ours(kind: str) -> bool:
    return kind.split(" at ")[0] in _OURS


def _mean(pairs: Sequence[Pair]) -> Interval | None:
    return ratio(pairs, geometric_mean_of_ratios) if pairs else None


def record(sample: Sample) -> dict[str, Any]:
    """Return all of it for JSON."""
    intervals = {
        "to_floor": sample.to_floor(),
        "to_touched": sample.to_touched(),
        **{f"to_{peer}": sample.to_peer(peer) for peer in sample.peers()},
        **{kind: sample.between(kind, STREAMED) for kind in sample.elsewhere() if kind.startswith(STREAMED)},
    }
    return {
        "application": sample.application,
        "packaged_bytes": sample.packaged_bytes,
        "load": [round(load, 2) for load in sample.load],
        "runs": {
            kind: [
                {"seconds": taken.seconds, "received_bytes": taken.received_bytes}
                | ({"error": taken.error} if taken.error else {})
                | ({"window": taken.window} if taken.window else {})
                | ({"tallies": taken.tallies} if taken.tallies else {})
                for taken in runs
            ]
            for kind, runs in sample.runs.items()
        },
        "touched": None
        if sample.touched is None
        else {
            "pages": sample.touched.pages,
            "files": sample.touched.files,
            "packed_bytes": sample.touched.packed_bytes,
            "unprofiled": sample.touched.unprofiled,
        },
        "best_peer": sample.best_peer(),
        "ratios": {name: interval.record() for name, interval in intervals.items() if interval is not None},
        "errors": sample.errors,
    }


def table(samples: Sequence[Sample]) -> str:
    """Return medians (least to most) and ratios as tables in Markdown."""
    lines = [
        "| application | packaged MB | streamed s | received MB | faults | download s | native cold s "
        "| native warm s | streamed / floor | received / touched | load |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for sample in samples:
        cells = [
            sample.application,
            f"{sample.packaged_bytes / 1e6:.0f}",
            middle(sample.seconds(STREAMED), "{:.2f}"),
            middle([count / 1e6 for count in sample.received(STREAMED)], "{:.1f}"),
            middle(sample.tally("faults_served"), "{:.0f}"),
            middle(sample.seconds(DOWNLOAD), "{:.2f}"),
            middle(sample.seconds(NATIVE_COLD), "{:.2f}"),
            middle(sample.seconds(NATIVE_WARM), "{:.2f}"),
            str(sample.to_floor() or "-"),
            str(sample.to_touched() or "-"),
            f"{max(sample.load, default=0):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"  {sample.application}: {error[-300:]}" for sample in samples for error in sample.failures()]
    if any(sample.elsewhere() for sample in samples):
        lines += ["", "| application | runs | s | MB | streamed there / here |", "|---|---|--:|--:|--:|"]
        lines += [
            f"| {sample.application} | {kind} | {middle(sample.seconds(kind), '{:.2f}')} "
            f"| {middle([count / 1e6 for count in sample.received(kind)], '{:.1f}')} "
            f"| {(kind.startswith(STREAMED) and sample.between(kind, STREAMED)) or '-'} |"
            for sample in samples
            for kind in sample.elsewhere()
        ]
    if any(sample.peers() for sample in samples):
        lines += ["", *_peers(samples)]
    return "\n".join(lines)


def _peers(samples: Sequence[Sample]) -> list[str]:
    names = list(dict.fromkeys(peer for sample in samples for peer in sample.peers()))
    lines = [
        f"| application | {' | '.join(f'{name} s | MB' for name in names)} | streamed / best peer |",
        f"|---|{'--:|--:|' * len(names)}--:|",
    ]
    for sample in samples:
        cells = [sample.application]
        for name in names:
            runs = sample.runs.get(name, [])
            failed = sum(bool(taken.error) for taken in runs)
            said = middle(sample.seconds(name), "{:.2f}")
            cells.append(f"{said}, {failed} of {len(runs)} failed" if failed else said)
            cells.append(middle([count / 1e6 for count in sample.received(name)], "{:.1f}"))
        best = sample.best_peer()
        interval = sample.to_peer(best) if best else None
        cells.append(f"{interval} ({best})" if interval else "-")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        f"  {sample.application}, {name}: {error[-300:]}"
        for sample in samples
        for name in names
        for error in dict.fromkeys(taken.error for taken in sample.runs.get(name, ()) if taken.error)
    ]
    return lines


def middle(values: Sequence[float], form: str) -> str:
    """Return the median, with the least and the most."""
    if not values:
        return "-"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))
