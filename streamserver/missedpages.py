"""What clients report that launches missed, and how a launch profile learns from it. Pure.

A page enters a profile when launches of two accounts or more missed it, and of a third or more of the
accounts that reported. One account counts once, however often it reports; a page that is in no file of the
stack counts for nothing; what is added stays within a quarter of what was trained. So one client, broken or
hostile, changes nothing, and several that conspire can add a quarter to a pack and no more.

Pages are only ever added: a launch that finds a page in the pack reports it no longer, and it would go again.
What was trained anew begins anew. What a pack has and brings too late is told apart (`latepages`).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile, ProfileContent, Touch, touches_of
from packageformat.limits import (
    DIGEST_SIZE,
    PAGE_SIZE,
    PROFILE_CONTENTS_MAX,
    PROFILE_TOUCHES_MAX,
)

ACCOUNTS_MIN = 2
ACCOUNTS_PART = 3
"""One of so many accounts that reported must have missed a page."""

GROWTH_PART = 4
"""A profile may grow by one page for so many that were trained."""

RUNS_MAX = 4096
"""Runs of pages in one report, and in what is kept of one account."""

PAGES_MAX = 16384
"""Pages in one report, and in what is kept of one account: 64 MiB."""

PAGE_NUMBERS = 1 << 28
"""Of one content, all pages of a run: one that reached further could be told, but not joined with others."""

_RUN = struct.Struct("<32sII")

Mark = TypeVar("Mark")


@dataclass(frozen=True, slots=True)
class MissedRun:
    """Pages of one file's content, one after the other, that a launch needed and the pack lacked."""

    content_id: bytes
    first_page: int
    pages: int

    def __post_init__(self) -> None:
        if not 1 <= self.pages <= PAGES_MAX:
            raise FormatError(f"{self.pages} missed pages in one run, allowed {PAGES_MAX}")
        if len(self.content_id) != DIGEST_SIZE or not 0 <= self.first_page <= PAGE_NUMBERS - self.pages:
            raise FormatError("missed pages that cannot be")


@dataclass(frozen=True, slots=True)
class StackFile:
    """A content that is in the stack: its size in bytes, and a path where it shows."""

    size: int
    path: bytes


def check_runs(runs: Sequence[MissedRun]) -> tuple[MissedRun, ...]:
    """Return the runs of one report.

    Raises:
        FormatError: they are more than a report may hold.
    """
    if len(runs) > RUNS_MAX or sum(run.pages for run in runs) > PAGES_MAX:
        raise FormatError("a report of more missed pages than a launch can have")
    return tuple(runs)


def encode_runs(runs: Iterable[MissedRun]) -> bytes:
    """Return runs as the database keeps them."""
    return b"".join(_RUN.pack(run.content_id, run.first_page, run.pages) for run in runs)


def decode_runs(data: bytes) -> tuple[MissedRun, ...]:
    """Return the runs that `encode_runs` made.

    Raises:
        FormatError: it did not make these.
    """
    if len(data) % _RUN.size:
        raise FormatError("missed pages that are cut short")
    return check_runs([MissedRun(*fields) for fields in _RUN.iter_unpack(data)])


def collected(new: Sequence[MissedRun], old: Sequence[MissedRun]) -> tuple[MissedRun, ...]:
    """Return what is kept of one account: each page once, the latest report first, within the limits."""
    pages = dict.fromkeys(pages_of((*new, *old)))
    return tuple(run for run, _ in joined(pages, RUNS_MAX))


def joined(pages: Mapping[tuple[bytes, int], Mark], most: int) -> list[tuple[MissedRun, Mark]]:
    """Return pages (content id, number) as runs of those that follow each other and are marked alike.

    Args:
        pages: with their marks, in order; what comes after the first `PAGES_MAX` is left out.
        most: runs; what comes after them is left out.
    """
    runs: list[tuple[MissedRun, Mark]] = []
    for (content_id, page), mark in islice(pages.items(), PAGES_MAX):
        last, marked = runs[-1] if runs else (None, mark)
        ends = last and (last.content_id, last.first_page + last.pages)
        if last and ends == (content_id, page) and marked == mark:
            runs[-1] = replace(last, pages=last.pages + 1), mark
        elif len(runs) == most:
            break
        else:
            runs.append((MissedRun(content_id, page, 1), mark))
    return runs


def learned(
    trained: LaunchProfile,
    holding: LaunchProfile,
    reports: Sequence[Sequence[MissedRun]],
    files: Mapping[bytes, StackFile],
    is_covered: Callable[[bytes, int], bool],
) -> LaunchProfile | None:
    """Return the profile with what enough accounts missed, or None if that is nothing new.

    A page comes after the nearest page of the same file that the profile has, since the launch was in that
    file then; of a file that it does not have, at the end of those that lead to the first window, in the
    order of the reports.

    Args:
        trained: the profile as it was trained.
        holding: the one that holds now: `trained` and what was learned before.
        reports: what the launches of each account missed; of each account that reported, also nothing.
        files: the stack's, by content id.
        is_covered: tells whether a page (content id, number in the file) is in the pack of `holding`.
    """
    room = min(
        trained.pages // GROWTH_PART - (holding.pages - trained.pages),
        PROFILE_TOUCHES_MAX - len(holding.touches),
    )
    wanted = [page for page in voted(reports) if _is_there(page, files) and not is_covered(*page)][
        : max(0, room)
    ]
    return _grown(holding, wanted, files) if wanted else None


def voted(reports: Sequence[Sequence[MissedRun]]) -> list[tuple[bytes, int]]:
    """Return the pages (content id, number) that enough accounts tell of: by their number, then as told.

    Args:
        reports: one of each account that reported.
    """
    votes: dict[tuple[bytes, int], int] = defaultdict(int)
    for runs in reports:
        for page in dict.fromkeys(pages_of(runs)):
            votes[page] += 1
    ordered = sorted(votes.items(), key=lambda item: -item[1])
    return [page for page, count in ordered if is_enough(count, len(reports))]


def is_enough(accounts: int, reported: int) -> bool:
    """Return whether what so many accounts tell counts, of those that reported."""
    return accounts >= ACCOUNTS_MIN and accounts * ACCOUNTS_PART >= reported


def pages_of(runs: Iterable[MissedRun]) -> Iterable[tuple[bytes, int]]:
    """Give the pages of runs (content id, number), in order."""
    for run in runs:
        for page in range(run.first_page, run.first_page + run.pages):
            yield run.content_id, page


def _is_there(page: tuple[bytes, int], files: Mapping[bytes, StackFile]) -> bool:
    file = files.get(page[0])
    return file is not None and page[1] < -(-file.size // PAGE_SIZE)


def _grown(
    profile: LaunchProfile, wanted: Sequence[tuple[bytes, int]], files: Mapping[bytes, StackFile]
) -> LaunchProfile | None:
    numbers = {content.content_id: number for number, content in enumerate(profile.contents)}
    contents = list(profile.contents)
    near = nearest_touches(profile.touches)
    after: dict[int, list[tuple[int, int]]] = defaultdict(list)  # position of a touch: (content, page)
    last: list[tuple[int, int]] = []
    for content_id, page in wanted:
        number = numbers.get(content_id)
        if number is None:
            if len(contents) == PROFILE_CONTENTS_MAX:
                continue
            number = numbers[content_id] = len(contents)
            file = files[content_id]
            contents.append(ProfileContent(content_id, file.size, file.path))
        position = near(number, page, -1)
        if position < 0:
            last.append((number, page))
        else:
            after[position].append((number, page))
    end = profile.touches[profile.window_touches - 1] if profile.window_touches else None
    touches: list[Touch] = []
    window = 0
    for position in range(len(profile.touches) + 1):
        if position == profile.window_touches:
            touches += touches_of(last, end.after_ms if end else 0, 0)
            window = len(touches)
        if position < len(profile.touches):
            touch = profile.touches[position]
            touches += (touch, *touches_of(sorted(after[position]), touch.after_ms, touch.run))
    return replace(profile, contents=tuple(contents), touches=tuple(touches), window_touches=window)


def nearest_touches(touches: Sequence[Touch]) -> Callable[[int, int, int], int]:
    """Return what tells the position of the touch nearest to a page of a content, or its last argument."""
    ends: dict[int, list[tuple[int, int]]] = defaultdict(list)  # content: (page, position of its touch)
    for position, touch in enumerate(touches):
        ends[touch.content] += (
            (touch.first_page, position),
            (touch.first_page + touch.pages - 1, position),
        )

    def nearest(content: int, page: int, otherwise: int) -> int:
        found = min(
            ends.get(content, ()), key=lambda place: (abs(place[0] - page), place[1]), default=(0, otherwise)
        )
        return found[1]

    return nearest
