"""Ratios say how sure they are; what is too wide to tell is not called a success."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.ratio import (
    LEAST_PAIRS,
    Interval,
    Verdict,
    geometric_mean_of_ratios,
    quantile_ratio,
    ratio,
    ratio_of_medians,
    ratio_of_sums,
)

values = st.floats(0.01, 1000)
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=12)


def noisy(factor: float, spread: float, count: int, seed: int = 1) -> list[tuple[float, float]]:
    randomness = random.Random(seed)
    machine = [randomness.uniform(1, 1 + spread) for _ in range(count)]
    return [(factor * busy * randomness.uniform(0.98, 1.02), busy) for busy in machine]


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_a_mean_lies_among_the_ratios_that_were_measured(
    measured: list[tuple[float, float]],
) -> None:
    for statistic in (ratio_of_medians, geometric_mean_of_ratios):
        found = ratio(measured, statistic)
        ratios = [ours / theirs for ours, theirs in measured]
        assert found.lower <= found.upper
        assert found.pairs == len(measured)
        if statistic is geometric_mean_of_ratios:
            assert min(ratios) * 0.999 <= found.lower <= found.upper <= max(ratios) * 1.001


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_the_same_pairs_give_the_same_interval(measured: list[tuple[float, float]]) -> None:
    assert ratio(measured) == ratio(measured)


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_equal_sides_are_one(measured: list[tuple[float, float]]) -> None:
    same = [(ours, ours) for ours, _ in measured]
    found = ratio(same)
    assert (found.estimate, found.lower, found.upper) == (1, 1, 1)


def test_the_interval_of_twenty_pairs_holds_the_true_ratio_nearly_always() -> None:
    hits = 0
    for seed in range(60):
        found = ratio(noisy(1.2, 0.5, 20, seed), geometric_mean_of_ratios)
        hits += found.lower <= 1.2 <= found.upper
    assert hits >= 51  # 95% of 60 is 57; small samples come a little short


def test_noise_that_falls_on_both_sides_leaves_a_narrow_interval_of_pair_ratios() -> None:
    found = ratio(noisy(1.0, 3.0, 20), geometric_mean_of_ratios)
    assert found.upper / found.lower < 1.03


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(1.0, 0.9, 1.1, 7), Verdict.HOLDS),
        (Interval(1.3, 1.25, 1.35, 7), Verdict.HOLDS),  # its lower end is under the threshold
        (Interval(1.5, 1.31, 1.6, 7), Verdict.FAILS),
        (Interval(1.5, 1.0, 2.0, 7), Verdict.UNDECIDED),
        (Interval(0.5, 0.1, 1.2, 7), Verdict.HOLDS),  # wide, but all of it is under the threshold
        (Interval(1.0, 1.0, 1.0, LEAST_PAIRS - 1), Verdict.UNDECIDED),
        (Interval(2.0, 2.0, 2.0, LEAST_PAIRS - 1), Verdict.UNDECIDED),
    ],
)
def test_a_point_holds_if_the_lower_end_is_under_its_threshold(interval: Interval, said: Verdict) -> None:
    assert interval.verdict(1.3) is said


def test_sums_weigh_applications_by_what_they_take() -> None:
    found = ratio_of_sums([[(1.0, 2.0)] * 3, [(10.0, 40.0)] * 3])
    assert found.estimate == pytest.approx(11 / 42)
    assert found.lower == found.upper == found.estimate


def test_quantiles_are_compared_without_pairs() -> None:
    faults = [1.0] * 98 + [10.0] * 2
    assert quantile_ratio([2 * fault for fault in faults], faults, 0.99).estimate == pytest.approx(2)
    assert quantile_ratio(faults, faults, 0.5).verdict(1.2) is Verdict.HOLDS


@pytest.mark.parametrize("bad", [[], [(0.0, 1.0)], [(1.0, 0.0)], [(1.0, float("nan"))], [(1.0, -1.0)]])
def test_nothing_is_said_of_what_was_not_measured(bad: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="ratio"):
        ratio(bad)
    with pytest.raises(ValueError, match="ratio"):
        ratio_of_sums([bad])
