"""When the background fill may run, what it brings first, and how fast. Pure: moments are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from appclient.settings import Fill, Settings

PIECE_MAX = 128 << 10
"""Stored bytes of one request of the fill: what a fault may find before it on the line."""

PIECE_MIN = 16 << 10
FIRST_PIECE = 32 << 10
"""A piece while it is not known how fast the line is."""

LINE_SECONDS = 0.004
"""A piece holds up the line no longer than this: a fifth of a fault's latency at 20 ms, in the worst case."""

_MEASURED = 9
"""Pieces by which the line's speed is judged: by the median of them."""

QUIET_SECONDS = 0.5
"""The fill waits until no application has waited for so long."""

LAUNCH_SECONDS = 5.0
"""After a launch began, and until faults have been quiet for so long once, nothing is filled."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A published package's stack, and when its application was used here last: 0 means never."""

    stack: tuple[bytes, ...]
    used: float


def versions_to_fill(policy: Fill, published: Iterable[Wanted], asked: Collection[bytes]) -> list[bytes]:
    """Return which package versions to bring, in this order, each once.

    Those that somebody has asked for come first, then those used last; the application before its runtimes.
    """
    known = sorted(published, key=lambda wanted: -wanted.used)
    wanted = [
        found
        for found in known
        if policy is Fill.ALL or (policy is Fill.LAUNCHED and found.used) or found.stack[-1] in asked
    ]
    wanted.sort(key=lambda found: found.stack[-1] not in asked)
    return list(dict.fromkeys(version for found in wanted for version in reversed(found.stack)))


def obstacle(settings: Settings, *, metered: bool, free: int, size: int, asked: bool) -> str:
    """Return why nothing may be brought now, in one line; nothing if it may.

    Args:
        settings: the user's.
        metered: whether the link is.
        free: bytes of the cache's disk that the user may still fill.
        size: bytes of that disk.
        asked: whether somebody has asked for just this: then neither policy nor a metered link stands
            in the way, a disk that is nearly full does.
    """
    if free < settings.free_gib * (1 << 30) or free < settings.free_percent / 100 * size:
        return (
            f"the disk has only {free / (1 << 30):.1f} GiB free ({100 * free / max(size, 1):.0f}%): "
            "free some space, or see 'appclient settings --keep-free-gib' and '--keep-free-percent'"
        )
    if asked:
        return ""
    if settings.fill is Fill.OFF:
        return "background fill is off ('appclient settings --fill launched' turns it on)"
    if metered:
        return "the network link is metered ('appclient settings --metered no' to fill anyway)"
    return ""


class Road:
    """Whether the fill would be in the way of an application."""

    def __init__(self) -> None:
        self._fault = float("-inf")
        self._launch = float("-inf")
        self._rates: deque[float] = deque(maxlen=_MEASURED)  # bytes a second

    @property
    def piece(self) -> int:
        """Bytes that the next piece may have."""
        if len(self._rates) < _MEASURED:
            return FIRST_PIECE
        return min(max(FIRST_PIECE, int(median(self._rates) * LINE_SECONDS)), PIECE_MAX)

    def fault(self, now: float) -> None:
        """Note that an application waits."""
        self._fault = now

    def launch(self, now: float) -> None:
        """Note that a launch begins, or goes on."""
        self._launch = now

    def came(self, size: int, seconds: float) -> None:
        """Note how long the line took for the last `size` bytes of a piece."""
        self._rates.append(size / max(seconds, 1e-6))

    def closed_for(self, now: float) -> float:
        """Return for how many seconds the fill has to wait at least; 0: the road is free."""
        launching = self._launch > float("-inf")
        if launching:
            rest = max(self._launch, self._fault) + LAUNCH_SECONDS - now
            if rest > 0:
                return rest
            self._launch = float("-inf")
        return max(0.0, self._fault + QUIET_SECONDS - now)


class Pace:
    """Holds the fill to a bandwidth."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def piece(self, limit_mbit: float, most: int) -> int:
        """Return how large a piece may be: under a limit no more than comes in a quarter of a second."""
        return min(most, max(PIECE_MIN, int(limit_mbit * 125_000 / 4))) if limit_mbit else most

    def wait(self, now: float) -> float:
        """Return how many seconds to wait before the next piece."""
        return max(0.0, self._next - now)

    def took(self, size: int, limit_mbit: float, now: float) -> None:
        """Note that a piece is asked for."""
        self._next = max(self._next, now) + (size / (limit_mbit * 125_000) if limit_mbit else 0.0)


def runs_of(frames: Sequence[int]) -> list[list[int]]:
    """Return frames as runs of neighbours, in their order."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs
