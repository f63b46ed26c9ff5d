"""First window at the speed of the wire, updates by the byte (eleven points)."""

from __future__ import annotations

from tests.points.outcome import Points
from tests.points.speed_cold import (
    against_peers,
    against_the_floor,
    bytes_received,
    far_away,
)
from tests.points.speed_options import configure
from tests.points.speed_packs import pages_lacking, profile_picture, second_application
from tests.points.speed_running import beside_the_fill, restarts, steady_state, updates

POINTS: Points = {
    1: against_the_floor,
    2: against_peers,
    3: bytes_received,
    4: far_away,
    5: pages_lacking,
    6: second_application,
    7: steady_state,
    8: beside_the_fill,
    9: updates,
    10: restarts,
    11: profile_picture,
}

__all__ = ["POINTS", "configure"]
