"""How much the points of `tests/show speed` measure."""

from __future__ import annotations

from tests.bench.coldstart import GUI_SAMPLES
from tests.points.outcome import Options

MBIT, RTT_MS = 100.0, 20.0
FAR_MS, LOSS = 200.0, 0.01
COLD_REPEATS = 7

_told = Options()


def configure(options: Options) -> None:
    """Take what the command line says, before any point runs."""
    global _told
    _told = options


def repeats(usual: int) -> int:
    """Return how often to measure what is usually measured `usual` times."""
    return _told.repeats or usual


def applications() -> tuple[str, ...]:
    """Return the GUI samples to measure."""
    return _told.applications or GUI_SAMPLES
