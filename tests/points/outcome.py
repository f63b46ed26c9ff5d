"""What came of one point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Outcome:
    """Whether a point holds, and what was measured. `require` notes each thing that had to be so."""

    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    checks: int = 0

    def require(self, what: str, so: bool, seen: object = None) -> bool:
        """Note that `what` had to be so, and whether it was; return that."""
        self.checks += 1
        if not so:
            self.failures.append(what if seen is None else f"{what}: {str(seen)[-1500:]}")
        return so

    @property
    def holds(self) -> bool:
        """Something was checked, and nothing failed."""
        return self.checks > 0 and not self.failures

    def record(self) -> dict[str, Any]:
        """Return the figures, with the number of checks and what failed."""
        return {**self.figures, "checks": self.checks} | ({"failed": self.failures} if self.failures else {})


Point = Callable[[Outcome, Path], None]
"""Measures one point into an outcome; artefacts go to the folder."""

Points = Mapping[int, Point]
