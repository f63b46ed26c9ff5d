"""When the pages that other runs than the first saw should come. Pure.

A profile lists what the first launch touched, then what the other runs touched besides: in another language,
with another home, with a document. A launch of somebody else needs some of the latter as early as that run
did, and would wait for them behind all the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from packageformat.launchprofile import LaunchProfile, Touch
from packageformat.limits import PAGES_A_BLOCK

FILE_MAX = 4 << 20
"""Bytes of the files whose pages are moved up in any number. Of a large one, a German launch's may be a
German's,"""

FEW = 64
"""unless they are few: of all large files together at most a 64th of what the first run touched before its
window. firefox without a network needs four pages that it does not need with one, one after the other: of a
server 200 ms away that is a second."""

REGION_PAGES = 256
"""Pages of a region of a large file: 1 MiB."""

CHANCE_PAGES, CHANCE_SHARE = 2, 0.02
"""A region is one of chance if other runs touched so many pages of it before their windows, and this share of
those that the first run touched."""

TABLE_SHARE, TABLE_GAP = 0.1, 2
"""Regions of chance are one table if they are no further apart, and looked up in any order if of all of it
other runs touched this share before their windows."""

RIGHT_BEHIND_MS = 40
"""What the first run touched in so many milliseconds after its window, another may touch before: threads and
processes that are held up differently."""


def in_due_time(profile: LaunchProfile) -> LaunchProfile:
    """Return a profile in which touches of other runs come when those runs made them.

    Moved are those that a run made before its own window, in blocks of small files that the first run touched
    before its window too: libraries that took another branch, not what another language or document needs by
    itself (that is in files of its own); and pages of large files, if they are few. Times are scaled to the
    first run's. Then come regions of chance, and what the first run touched right behind its window. Of a
    table of such regions all comes with the first page that the first run touched: no launch looks it up in
    the order of another.
    """
    window = profile.touches[: profile.window_touches]
    blocks = {block for touch in window for block in _blocks(touch)}
    moved: dict[int, list[Touch]] = {}
    rest: list[Touch] = []
    times = list(accumulate((touch.after_ms for touch in window), max))
    chance = _regions_of_chance(profile)
    tables = _tables(profile, chance)
    early = [touch for touch in profile.touches[profile.window_touches :] if _is_early(profile, touch)]
    regions = chance.keys() | tables.keys()
    of_large = [
        touch for touch in early if not _is_of_small(profile, touch) and _region(touch) not in regions
    ]
    is_few = FEW * sum(touch.pages for touch in of_large) <= sum(touch.pages for touch in window)
    due = {touch for touch in early if _is_of_small(profile, touch) and blocks.issuperset(_blocks(touch))}
    due.update(of_large if is_few else ())
    for touch in profile.touches[profile.window_touches :]:
        if touch in due:
            own = profile.runs[touch.run].window_ms
            place = bisect_right(times, touch.after_ms * profile.window_ms // own)
            moved.setdefault(place, []).append(touch)
        else:
            rest.append(touch)
    merged: list[Touch] = []
    for place, touch in enumerate(window):
        merged += [*moved.get(place, ()), touch]
    merged += moved.get(len(window), ())
    behind: list[Touch] = []
    for touch in rest:
        near = not touch.run and 0 <= touch.after_ms - profile.window_ms <= RIGHT_BEHIND_MS
        (merged if near or _region(touch) in regions else behind).append(touch)
    merged = _at_once(merged, tables)
    return replace(profile, touches=(*merged, *behind), window_touches=len(merged))


def _is_early(profile: LaunchProfile, touch: Touch) -> bool:
    """Return whether its run made a touch before its window."""
    return touch.after_ms < profile.runs[touch.run].window_ms


def _is_of_small(profile: LaunchProfile, touch: Touch) -> bool:
    return profile.contents[touch.content].size <= FILE_MAX


def is_of_chance(profile: LaunchProfile) -> Callable[[int, int], bool]:
    """Return what tells whether a page (content, number there) comes with a region, and not by itself."""
    chance = _regions_of_chance(profile)
    regions = chance.keys() | _tables(profile, chance).keys()
    return lambda content, page: (content, page // REGION_PAGES) in regions


def _tables(
    profile: LaunchProfile, chance: Mapping[tuple[int, int], int]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the regions of tables that are looked up in any order, each with its table's first region.

    firefox walks stacks before its window, and looks up how in 15 MB of its largest library: twenty times,
    one after the other, it waited for a page of these that was megabytes behind.
    """
    first: Counter[tuple[int, int]] = Counter()
    for touch in profile.touches[: profile.window_touches]:
        first[_region(touch)] += touch.pages
    found: dict[tuple[int, int], tuple[int, int]] = {}
    regions: list[tuple[int, int]] = []

    def end() -> None:
        """Take what was gathered as a table, with what lies between."""
        if sum(chance[one] for one in regions) >= TABLE_SHARE * sum(first[one] for one in regions):
            content, start = regions[0]
            found.update(((content, number), regions[0]) for number in range(start, regions[-1][1] + 1))

    for region in sorted(chance):
        if regions and (region[0] != regions[-1][0] or region[1] - regions[-1][1] > TABLE_GAP):
            end()
            regions = []
        regions.append(region)
    if regions:
        end()
    return found


def _at_once(touches: Sequence[Touch], tables: Mapping[tuple[int, int], tuple[int, int]]) -> list[Touch]:
    """Return touches with all of a table where its first one is, by their places in the file."""
    parts: dict[tuple[int, int], list[Touch]] = {}
    for touch in touches:
        table = tables.get(_region(touch))
        if table is not None:
            parts.setdefault(table, []).append(touch)
    ordered: list[Touch] = []
    for touch in touches:
        table = tables.get(_region(touch))
        if table is None:
            ordered.append(touch)
        else:
            ordered += sorted(parts.pop(table, ()), key=lambda one: one.first_page)
    return ordered


def _regions_of_chance(profile: LaunchProfile) -> dict[tuple[int, int], int]:
    """Return the regions of large files in which it is chance which pages a launch needs.

    And how many pages of each other runs touched before their windows, and the first did not.

    They are known by that other runs touched further pages of them before their windows: tables that are
    looked up by hash, or by what this user happens to have. Of such a region the next launch needs others
    again, and most of those are among the pages that were touched at any time (firefox: 49 of 59 misses were,
    which came one after the other, for 928 pages of 30,341).
    """
    first: Counter[tuple[int, int]] = Counter()
    other: Counter[tuple[int, int]] = Counter()
    for number, touch in enumerate(profile.touches):
        if _is_of_small(profile, touch):
            continue
        if number < profile.window_touches:
            first[_region(touch)] += touch.pages
        elif touch.run and _is_early(profile, touch):
            other[_region(touch)] += touch.pages
    return {
        region: pages
        for region, pages in other.items()
        if pages >= CHANCE_PAGES and pages >= CHANCE_SHARE * first[region]
    }


def _region(touch: Touch) -> tuple[int, int]:
    return touch.content, touch.first_page // REGION_PAGES


def _blocks(touch: Touch) -> set[tuple[int, int]]:
    """Return the blocks that a touch reaches into: content, and number there."""
    last = touch.first_page + touch.pages - 1
    return {
        (touch.content, block)
        for block in range(touch.first_page // PAGES_A_BLOCK, last // PAGES_A_BLOCK + 1)
    }
