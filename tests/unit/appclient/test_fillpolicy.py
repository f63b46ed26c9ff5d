"""When the background fill runs, what it brings first, and how fast."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appclient.fillpolicy import (
    FIRST_PIECE,
    LAUNCH_SECONDS,
    LINE_SECONDS,
    PIECE_MAX,
    PIECE_MIN,
    QUIET_SECONDS,
    Pace,
    Road,
    Wanted,
    obstacle,
    runs_of,
    versions_to_fill,
)
from appclient.settings import Fill, Settings

RUNTIME, OLD, NEW, NEVER = (bytes([number]) * 32 for number in range(4))
PUBLISHED = [Wanted((RUNTIME, NEVER), 0.0), Wanted((RUNTIME, OLD), 10.0), Wanted((RUNTIME, NEW), 20.0)]
GIB = 1 << 30


def test_what_was_used_last_comes_first_and_the_application_before_its_runtime() -> None:
    assert versions_to_fill(Fill.LAUNCHED, PUBLISHED, ()) == [NEW, RUNTIME, OLD]
    assert versions_to_fill(Fill.ALL, PUBLISHED, ()) == [NEW, RUNTIME, OLD, NEVER]
    assert versions_to_fill(Fill.OFF, PUBLISHED, ()) == []


def test_what_somebody_asked_for_comes_before_all_whatever_the_policy() -> None:
    assert versions_to_fill(Fill.OFF, PUBLISHED, {NEVER}) == [NEVER, RUNTIME]
    assert versions_to_fill(Fill.LAUNCHED, PUBLISHED, {NEVER})[:2] == [NEVER, RUNTIME]


def test_policy_and_metered_links_give_way_to_a_request_and_a_full_disk_to_none() -> None:
    usual = {"metered": False, "free": 50 * GIB, "size": 100 * GIB, "asked": False}
    assert obstacle(Settings(), **usual) == ""
    assert "off" in obstacle(Settings(fill=Fill.OFF), **usual)
    assert "metered" in obstacle(Settings(), **{**usual, "metered": True})
    assert obstacle(Settings(fill=Fill.OFF), **{**usual, "metered": True, "asked": True}) == ""
    for free in (4 * GIB, GIB // 2):
        for asked in (False, True):
            told = obstacle(Settings(), **{**usual, "free": free, "asked": asked})
            assert told.startswith("the disk")
            assert "appclient settings" in told
    assert obstacle(Settings(free_percent=1), **{**usual, "free": 4 * GIB}) == ""


def test_the_road_is_closed_while_somebody_waits_and_through_a_launch() -> None:
    road = Road()
    assert road.closed_for(0.0) == 0
    road.fault(10.0)
    assert road.closed_for(10.0) == QUIET_SECONDS
    assert road.closed_for(10.0 + QUIET_SECONDS) == 0
    road.launch(20.0)
    road.fault(22.0)
    assert road.closed_for(22.0 + QUIET_SECONDS) > 0
    assert road.closed_for(22.0 + LAUNCH_SECONDS) == 0
    road.fault(30.0)  # the launch is over: a fault closes the road for a moment only
    assert road.closed_for(30.0 + QUIET_SECONDS) == 0


@given(st.lists(st.floats(1e3, 1e10), max_size=40))
def test_pieces_hold_the_line_no_longer_than_a_moment(rates: list[float]) -> None:
    road = Road()
    for rate in rates:
        road.came(PIECE_MAX, PIECE_MAX / rate)
        assert FIRST_PIECE <= road.piece <= PIECE_MAX
    slow = [rate for rate in rates[-9:] if rate * LINE_SECONDS < FIRST_PIECE]
    if len(slow) >= 5 or len(rates) < 9:
        assert road.piece == FIRST_PIECE


def test_a_line_of_100_mbit_gets_pieces_of_50_kilobytes() -> None:
    road = Road()
    for _ in range(20):
        road.came(FIRST_PIECE, FIRST_PIECE / 12.5e6)
    assert 49_000 < road.piece < 51_000


@given(st.floats(0.1, 1000), st.lists(st.integers(1, PIECE_MAX), min_size=3, max_size=30))
def test_no_more_comes_than_the_limit_allows(limit: float, sizes: list[int]) -> None:
    pace = Pace()
    now = 0.0
    for size in sizes:
        now += pace.wait(now)
        pace.took(size, limit, now)
    assert sum(sizes[:-1]) <= now * limit * 125_000 * 1.0001 + 1
    assert PIECE_MIN <= pace.piece(limit, PIECE_MAX) <= PIECE_MAX


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace()
    pace.took(PIECE_MAX, 0.0, 5.0)
    assert pace.wait(5.0) == 0
    assert pace.piece(0.0, PIECE_MAX) == PIECE_MAX


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_runs_hold_every_frame_once_and_neighbours_together(frames: list[int]) -> None:
    runs = runs_of(frames)
    assert [frame for run in runs for frame in run] == frames
    assert all(run == list(range(run[0], run[-1] + 1)) for run in runs)
    assert all(one[-1] + 1 < other[0] for one, other in pairwise(runs))
