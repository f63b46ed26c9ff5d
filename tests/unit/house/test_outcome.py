"""A point that cannot tell says so; a point that failed never hides behind that."""

from __future__ import annotations

from tests.bench.ratio import Interval
from tests.points.outcome import Outcome

SMALL, LARGE, WIDE = Interval(1.0, 0.9, 1.1, 7), Interval(2.0, 1.9, 2.1, 7), Interval(1.5, 0.5, 3.0, 7)


def test_nothing_measured_does_not_hold() -> None:
    assert Outcome().holds is False


def test_a_small_ratio_holds() -> None:
    outcome = Outcome()
    outcome.expect("it is small", SMALL, 1.3)
    assert outcome.holds is True
    assert "undecided" not in outcome.record()


def test_a_wide_interval_is_undecided_and_named() -> None:
    outcome = Outcome()
    outcome.expect("it is small", SMALL, 1.3)
    outcome.expect("it is wide", WIDE, 1.3)
    assert outcome.holds == "undecided"
    assert "it is wide" in outcome.record()["undecided"][0]


def test_a_failure_outweighs_what_is_undecided() -> None:
    outcome = Outcome()
    outcome.expect("it is wide", WIDE, 1.3)
    outcome.expect("it is large", LARGE, 1.3)
    assert outcome.holds is False


def test_what_was_not_measured_fails() -> None:
    outcome = Outcome()
    outcome.expect("it is there", None, 1.3)
    assert outcome.holds is False
    assert "not measured" in outcome.record()["failed"][0]
