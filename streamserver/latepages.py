"""What launches waited for though their packs hold it, behind the window: it moves up. Pure.

A launch pack brings first what leads to the window. Who needs something of the rest before that pays a
request for it. Clients tell such pages, and how much of the part that leads to the window had come by then:
there the page belongs. The rule is that of missed pages (`missedpages`): two accounts or more and a third of
those that reported; and what leads to the window stays within five quarters of what was trained, whatever it
grew by. So a hostile client cannot have all of a profile sent first.

Pages within that part stay in their order, though clients tell those too that would have come much later:
moving them to where they were asked for did not help (tests/bench/RESULTS.md, 2026-11-29). A thread that is
spared one such wait only meets the next one sooner.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median_low

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile, Touch
from packageformat.limits import PROFILE_TOUCHES_MAX
from packageformat.profileorder import in_due_time
from streamserver.missedpages import (
    GROWTH_PART,
    PAGES_MAX,
    MissedRun,
    is_enough,
    joined,
    pages_of,
    touches_of,
)

RUNS_MAX = 1024
"""Runs of pages in one report, and in what is kept of one account."""

AHEAD = 10
"""Thousandths before the moment when it was needed that a page comes."""

_RUN = struct.Struct("<32sIIH")

Page = tuple[bytes, int]
"""A content id, and a page's number in the file."""


@dataclass(frozen=True, slots=True)
class LateRun:
    """Pages that a launch needed when so many thousandths of the window's part of its pack had come."""

    run: MissedRun
    come: int

    def __post_init__(self) -> None:
        if not 0 <= self.come <= 1000:
            raise FormatError(f"pages that were late when {self.come} of 1000 had come")


def check_late(runs: Sequence[LateRun]) -> tuple[LateRun, ...]:
    """Return the runs of one report.

    Raises:
        FormatError: they are more than a report may hold.
    """
    if len(runs) > RUNS_MAX or sum(late.run.pages for late in runs) > PAGES_MAX:
        raise FormatError("a report of more late pages than a launch can have")
    return tuple(runs)


def encode_late(runs: Iterable[LateRun]) -> bytes:
    """Return runs as the database keeps them."""
    return b"".join(
        _RUN.pack(late.run.content_id, late.run.first_page, late.run.pages, late.come) for late in runs
    )


def decode_late(data: bytes) -> tuple[LateRun, ...]:
    """Return the runs that `encode_late` made.

    Raises:
        FormatError: it did not make these.
    """
    if len(data) % _RUN.size:
        raise FormatError("late pages that are cut short")
    return check_late([LateRun(MissedRun(*fields[:3]), fields[3]) for fields in _RUN.iter_unpack(data)])


def collected_late(new: Sequence[LateRun], old: Sequence[LateRun]) -> tuple[LateRun, ...]:
    """Return what is kept of one account: each page once, the latest report first, within the limits."""
    return tuple(LateRun(run, come) for run, come in joined(_pages((*new, *old)), RUNS_MAX))


def moved_up(
    trained: LaunchProfile,
    holding: LaunchProfile,
    reports: Sequence[Sequence[LateRun]],
) -> LaunchProfile | None:
    """Return the profile with pages where enough accounts needed them, or None if all are.

    Args:
        trained: the profile as it was trained.
        holding: the one that holds now.
        reports: what came late to the launches of each account; of each account that reported, also nothing.
    """
    told: dict[Page, list[int]] = defaultdict(list)
    for late in reports:
        for page, come in _pages(late).items():
            told[page].append(come)
    numbers = {content.content_id: number for number, content in enumerate(holding.contents)}
    ordered = in_due_time(holding)  # as packs are built
    behind = {page for touch in ordered.touches[ordered.window_touches :] for page in _numbers(touch)}
    window = trained.before_window().pages
    room = min(
        window // GROWTH_PART - (holding.before_window().pages - window),
        (PROFILE_TOUCHES_MAX - len(holding.touches)) // 2,  # a page taken out of a touch leaves two
    )
    wanted: dict[tuple[int, int], int] = {}  # content and page: thousandths
    for page, moments in sorted(told.items(), key=lambda item: -len(item[1])):  # stable: then as told
        place = (numbers.get(page[0], -1), page[1])
        if len(wanted) >= room or not is_enough(len(moments), len(reports)):
            break
        if place in behind:
            wanted[place] = median_low(moments)
    return _with(holding, wanted) if wanted else None


def _pages(runs: Iterable[LateRun]) -> dict[Page, int]:
    """Return pages, each as it is told first."""
    found: dict[Page, int] = {}
    for late in runs:
        for page in pages_of([late.run]):
            found.setdefault(page, late.come)
    return found


def _numbers(touch: Touch) -> list[tuple[int, int]]:
    return [(touch.content, page) for page in range(touch.first_page, touch.first_page + touch.pages)]


def _with(profile: LaunchProfile, wanted: dict[tuple[int, int], int]) -> LaunchProfile:
    window = profile.touches[: profile.window_touches]
    ends = list(accumulate(touch.pages for touch in window))
    before: dict[int, list[tuple[int, int]]] = defaultdict(list)  # position of a touch: pages
    for place, come in wanted.items():
        at = max(0, come - AHEAD) * ends[-1] // 1000
        before[bisect_right(ends, at)].append(place)
    moved: list[Touch] = []
    for position, touch in enumerate(window):
        moved += (*touches_of(before[position], touch.after_ms, touch.run), touch)
    rest = [part for touch in profile.touches[profile.window_touches :] for part in _without(touch, wanted)]
    return replace(profile, touches=(*moved, *rest), window_touches=len(moved))


def _without(touch: Touch, taken: dict[tuple[int, int], int]) -> Iterable[Touch]:
    """Give what is left of a touch."""
    pages = [page for page in _numbers(touch) if page not in taken]
    return (touch,) if len(pages) == touch.pages else touches_of(pages, touch.after_ms, touch.run)
