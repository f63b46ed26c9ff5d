"""What launches waited for though their packs hold it: it comes sooner. Pure.

Clients tell pages that they asked for since the pack would have brought them much later, and how much of its
part that leads to the window had come by then; `packageformat.movedahead` tells where such pages belong. The
rule is that of missed pages (`missedpages`): two accounts or more and a third of those that reported; and
what leads to the window stays within five quarters of what was trained, whatever it grew by. So a hostile
client cannot have all of a profile sent first, nor move anything by itself.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile
from packageformat.movedahead import moved_ahead
from streamserver.missedpages import (
    GROWTH_PART,
    PAGES_MAX,
    MissedRun,
    is_enough,
    joined,
    pages_of,
)

RUNS_MAX = 1024
"""Runs of pages in one report, and in what is kept of one account."""

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
    asked: dict[tuple[int, int], int] = {}
    for page, moments in sorted(told.items(), key=lambda item: -len(item[1])):  # stable: then as told
        if not is_enough(len(moments), len(reports)):
            break
        if page[0] in numbers:
            asked[numbers[page[0]], page[1]] = median_low(moments)
    window = trained.before_window().pages
    return moved_ahead(
        holding, asked, behind=window // GROWTH_PART - (holding.before_window().pages - window)
    )


def _pages(runs: Iterable[LateRun]) -> dict[Page, int]:
    """Return pages, each as it is told first."""
    found: dict[Page, int] = {}
    for late in runs:
        for page in pages_of([late.run]):
            found.setdefault(page, late.come)
    return found
