"""What came of one point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.bench.ratio import Interval, Verdict


@dataclass(slots=True)
class Outcome:
    """Whether a point holds, and what was measured. `require` notes each thing that had to be so."""

    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    checks: int = 0

    def require(self, what: str, so: bool, seen: object = None) -> bool:
        """Note that `what` had to be so, and whether it was; return that."""
        self.checks += 1
        if not so:
            self.failures.append(what if seen is None else f"{what}: {str(seen)[-1500:]}")
        return so

    def expect(self, what: str, interval: Interval | None, threshold: float) -> None:
        """Note that a ratio had to be at most `threshold`; without one, it was not measured and fails."""
        self.checks += 1
        said = f"{what} at most {threshold:g}: {interval if interval is not None else 'not measured'}"
        verdict = Verdict.FAILS if interval is None else interval.verdict(threshold)
        if verdict is Verdict.FAILS:
            self.failures.append(said)
        elif verdict is Verdict.UNDECIDED:
            self.undecided.append(said)

    @property
    def holds(self) -> bool | Literal["undecided"]:
        """Something was checked, and nothing failed; undecided if something of it cannot be told."""
        if self.failures or not self.checks:
            return False
        return "undecided" if self.undecided else True

    def record(self) -> dict[str, Any]:
        """Return the figures, with the number of checks, what failed and what cannot be told."""
        told: dict[str, Any] = {**self.figures, "checks": self.checks}
        if self.failures:
            told["failed"] = self.failures
        if self.undecided:
            told["undecided"] = self.undecided
        return told


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of how much to measure; None and empty: as the point itself says."""

    repeats: int | None = None
    applications: tuple[str, ...] = ()


Point = Callable[[Outcome, Path], None]
"""Measures one point into an outcome; artefacts go to the folder."""

Points = Mapping[int, Point]
