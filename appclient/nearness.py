"""Whether what a stream is about to bring is sooner here than a request of one's own would bring it. Pure."""

from __future__ import annotations

WAIT_SECONDS = 0.12
"""A fault waits for what should be here within this time,"""

WAIT_ROUNDS = 3
"""or within so many round trips."""

_SLOWEST = 1 << 20
"""Bytes a second that a stream is trusted to have from its beginning."""


def is_near(ahead: int, received: int, elapsed: float, round_trip: float = 0.0) -> bool:
    """Return whether a fault waits.

    Args:
        ahead: bytes of the stream that come first.
        received: bytes of it that have come,
        elapsed: in so many seconds.
        round_trip: seconds, there and back.
    """
    rate = max(received / max(elapsed, 0.001), _SLOWEST)
    return ahead <= rate * max(WAIT_SECONDS, WAIT_ROUNDS * round_trip)
