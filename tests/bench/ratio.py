"""Ratios of two measurements taken in alternation, how sure they are, and whether they are small enough.

Pure. A pair is one value of each side, measured one right after the other, so that what else the machine
does falls on both. Intervals come from a bootstrap over the pairs: the pairs, not the values, are drawn anew.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

CONFIDENCE = 0.95
DRAWS = 2000
SEED = 20
"""The same measurements give the same interval, always."""

LEAST_PAIRS = 3
"""Fewer pairs than this tell nothing about how much the next one may differ."""

WIDEST = 1.25
"""Undecided: an interval on both sides of a threshold, its upper end more than so many times its lower."""

Pair = tuple[float, float]


class Verdict(StrEnum):
    """What an interval says about a threshold."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its interval (95%); `pairs` is how many measurements it rests on."""

    estimate: float
    lower: float
    upper: float
    pairs: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower <= self.upper):
            raise ValueError(f"an interval from {self.lower} to {self.upper}")

    def verdict(self, threshold: float) -> Verdict:
        """Return whether this is at most `threshold`.

        It fails if all of the interval is above, holds if its lower end is not; but an interval on both sides
        that is too wide, or rests on too few pairs, says nothing.
        """
        if self.lower > threshold:
            return Verdict.FAILS if self.pairs >= LEAST_PAIRS else Verdict.UNDECIDED
        if self.pairs < LEAST_PAIRS:
            return Verdict.UNDECIDED
        if self.upper > threshold and self.upper > self.lower * WIDEST:
            return Verdict.UNDECIDED
        return Verdict.HOLDS

    def __str__(self) -> str:
        return f"{self.estimate:.3g} ({self.lower:.3g} to {self.upper:.3g})"

    def record(self) -> dict[str, float]:
        """Return it for JSON, to four figures."""
        kept = {name: float(f"{getattr(self, name):.4g}") for name in ("estimate", "lower", "upper")}
        return {**kept, "pairs": self.pairs}


def ratio_of_medians(pairs: Sequence[Pair]) -> float:
    """Return the median of the first values over the median of the second ones: no single spike moves it."""
    return statistics.median(ours for ours, _ in pairs) / statistics.median(theirs for _, theirs in pairs)


def geometric_mean_of_ratios(pairs: Sequence[Pair]) -> float:
    """Return the geometric mean of each pair's ratio: every pair counts alike, large or small."""
    return math.exp(statistics.fmean(math.log(ours / theirs) for ours, theirs in pairs))


def ratio(
    pairs: Sequence[Pair], statistic: Callable[[Sequence[Pair]], float] = ratio_of_medians, seed: int = SEED
) -> Interval:
    """Return `statistic` of `pairs` (ours, theirs) with its 95% percentile interval.

    Raises:
        ValueError: there are none, or a value is not above 0.
    """
    if not pairs or any(value <= 0 or not math.isfinite(value) for pair in pairs for value in pair):
        raise ValueError("a ratio needs pairs of values above 0")
    return _bootstrap(pairs, statistic, seed)


def ratio_of_sums(groups: Sequence[Sequence[Pair]], seed: int = SEED) -> Interval:
    """Return the sum over groups of the first values' medians, over that of the second ones.

    A group is one application; each group's pairs are drawn anew within the group.

    Raises:
        ValueError: there are none, or a group or a value is empty or not above 0.
    """
    if not groups or any(not group for group in groups):
        raise ValueError("a ratio of sums needs groups of pairs")
    if any(value <= 0 or not math.isfinite(value) for group in groups for pair in group for value in pair):
        raise ValueError("a ratio needs pairs of values above 0")

    def total(drawn: Sequence[Sequence[Pair]]) -> float:
        ours = sum(statistics.median(pair[0] for pair in group) for group in drawn)
        return ours / sum(statistics.median(pair[1] for pair in group) for group in drawn)

    randomness = random.Random(seed)
    found = sorted(total([randomness.choices(group, k=len(group)) for group in groups]) for _ in range(DRAWS))
    return _interval(total(groups), found, min(len(group) for group in groups))


def quantile_ratio(
    ours: Sequence[float], theirs: Sequence[float], quantile: float, seed: int = SEED
) -> Interval:
    """Return the ratio of a quantile (0 to 1) of two sets of values that are not pairs.

    Raises:
        ValueError: a set is empty, or its quantile is not above 0.
    """
    if not ours or not theirs:
        raise ValueError("a ratio of quantiles needs values on both sides")

    def at(values: Sequence[float]) -> float:
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, math.ceil(quantile * len(ordered)) - 1)]

    if at(ours) <= 0 or at(theirs) <= 0:
        raise ValueError("a ratio needs quantiles above 0")
    randomness = random.Random(seed)
    draws = DRAWS // 4
    found = sorted(
        at(randomness.choices(ours, k=len(ours))) / at(randomness.choices(theirs, k=len(theirs)))
        for _ in range(draws)
    )
    return _interval(at(ours) / at(theirs), found, min(len(ours), len(theirs)))


def _bootstrap(pairs: Sequence[Pair], statistic: Callable[[Sequence[Pair]], float], seed: int) -> Interval:
    randomness = random.Random(seed)
    found = sorted(statistic(randomness.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    return _interval(statistic(pairs), found, len(pairs))


def _interval(estimate: float, drawn: Sequence[float], pairs: int) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    lower = drawn[int(tail * len(drawn))]
    upper = drawn[min(len(drawn) - 1, int((1 - tail) * len(drawn)))]
    return Interval(estimate, lower, upper, pairs)
