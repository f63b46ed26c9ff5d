"""Pages that launches had to ask for, though a pack would have brought them later, come sooner. Pure.

The order of a profile is that in which one launch touched pages that were all at hand. Over a line the
threads and processes of an application are held up differently: one that needs few pages runs ahead of those
that need many, and asks for pages of which the pack's turn is far away, one after the other, a round trip
each. There are few of them. Put where they were asked for they would be late again: a thread that is spared
its waits is there sooner, and meets the next page that is not. So they come long before (`SOONER`), which
costs next to nothing, and what is met then is told by the next launches (tests/bench/RESULTS.md, 2026-11-29:
firefox 16 such waits, then 12, 14, 8 and 3).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate, islice

from packageformat.launchprofile import LaunchProfile, Touch, touches_of
from packageformat.limits import PROFILE_TOUCHES_MAX
from packageformat.profileorder import in_due_time, is_of_chance

SOONER = 2
"""A page comes where one part in so many had come of what had come when it was asked for."""

NEAR = 10
"""Thousandths: an order is built anew only if a page comes later than that after the middle between its place
and when it was asked for. Then all that come after that middle move: each move pushes others back, and they
would follow one by one, with an order anew for each."""

MOVED_MAX = 1024
"""Pages that are looked at: launches ask for some dozens."""

WINDOW = 1000
"""Thousandths of all that leads to the first window."""

Place = tuple[int, int]
"""A content's position in the profile, and a page's number in the file."""


def moved_ahead(profile: LaunchProfile, asked: Mapping[Place, int], *, behind: int) -> LaunchProfile | None:
    """Return the profile with pages where they do not have to be asked for, or None if all are.

    Args:
        profile: as it is now.
        asked: for pages how much had come of what leads to the first window, in thousandths, when they were
            asked for; those that matter most first.
        behind: how many pages may move that come behind the window now.
    """
    ordered = in_due_time(profile)  # as packs are built
    pages = max(1, ordered.before_window().pages)
    due = _due(ordered, pages)
    window = {place for touch in profile.touches[: profile.window_touches] for place in _pages(touch)}
    is_regional = is_of_chance(profile)
    known = dict(islice(((place, come) for place, come in asked.items() if place in due), MOVED_MAX))
    # Others that move, or have moved before, push a page back, and so does what is put in due time: nothing
    # moves for that. Otherwise packs would be built anew for ever.
    shift = len(known) + pages - len(window)
    near = NEAR + WINDOW * shift // pages
    touches = (PROFILE_TOUCHES_MAX - len(profile.touches)) // 2  # a page taken out of a touch leaves two
    wanted: dict[Place, int] = {}
    is_worth_it = False
    for place, come in known.items():
        at = come // SOONER
        if len(wanted) >= touches:
            break
        late_by = due[place] - (at + come) // 2
        if late_by <= 0:
            continue
        if place not in window:
            if behind <= 0 or is_regional(*place):
                continue
            behind -= 1
        wanted[place] = at
        is_worth_it = is_worth_it or late_by > near
    if not is_worth_it:
        return None
    moved = _moved(profile, wanted)
    return moved if in_due_time(moved).touches != ordered.touches else None


def _due(ordered: LaunchProfile, pages: int) -> dict[Place, int]:
    """Return when the pages of a pack come, in thousandths of what leads to the window; more: behind it."""
    found: dict[Place, int] = {}
    for number, touch in enumerate(ordered.touches):
        for place in _pages(touch):
            found[place] = WINDOW * len(found) // pages if number < ordered.window_touches else WINDOW + 1
    return found


def _moved(profile: LaunchProfile, wanted: Mapping[Place, int]) -> LaunchProfile:
    window = profile.touches[: profile.window_touches]
    ends = list(accumulate((touch.pages for touch in window), initial=0))
    before: dict[int, list[Place]] = defaultdict(list)  # position of a touch: pages
    for place, at in sorted(wanted.items(), key=lambda item: item[1]):
        before[min(len(window), bisect_right(ends, at * ends[-1] // WINDOW) - 1)].append(place)
    moved: list[Touch] = []
    for position, touch in enumerate(window):
        moved += touches_of(before[position], touch.after_ms, touch.run)
        moved += _without(touch, wanted)
    if before[len(window)]:
        moved += touches_of(before[len(window)], window[-1].after_ms if window else 0, 0)
    rest = [part for touch in profile.touches[profile.window_touches :] for part in _without(touch, wanted)]
    return replace(profile, touches=(*moved, *rest), window_touches=len(moved))


def _pages(touch: Touch) -> list[Place]:
    return [(touch.content, page) for page in range(touch.first_page, touch.first_page + touch.pages)]


def _without(touch: Touch, taken: Mapping[Place, int]) -> Iterable[Touch]:
    """Give what is left of a touch."""
    pages = [page for page in _pages(touch) if page not in taken]
    return (touch,) if len(pages) == touch.pages else touches_of(pages, touch.after_ms, touch.run)
