"""When the pages that other runs than the first saw should come. Pure.

A profile lists what the first launch touched, then what the other runs touched besides: in another language,
with another home, with a document. A launch of somebody else needs some of the latter as early as that run
did, and would wait for them behind all the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from itertools import accumulate

from packageformat.launchprofile import LaunchProfile, Touch
from packageformat.limits import PAGES_A_BLOCK

FILE_MAX = 4 << 20
"""Bytes of the files whose pages are moved up. Of a large one, a German launch's pages are a German's."""

REGION_PAGES = 256
"""Pages of a region of a large file: 1 MiB."""

CHANCE_PAGES, CHANCE_SHARE = 2, 0.02
"""A region is one of chance if other runs touched so many pages of it before their windows, and this share of
those that the first run touched."""

RIGHT_BEHIND_MS = 40
"""What the first run touched in so many milliseconds after its window, another may touch before: threads and
processes that are held up differently."""


def in_due_time(profile: LaunchProfile) -> LaunchProfile:
    """Return a profile in which touches of other runs come when those runs made them.

    Moved are those that a run made before its own window, in blocks of small files that the first run touched
    before its window too: libraries that took another branch, not what another language or document needs by
    itself (that is in files of its own). Times are scaled to the first run's. Regions of chance come last,
    and what the first run touched right behind its window.
    """
    window = profile.touches[: profile.window_touches]
    blocks = {block for touch in window for block in _blocks(touch)}
    moved: dict[int, list[Touch]] = {}
    rest: list[Touch] = []
    times = list(accumulate((touch.after_ms for touch in window), max))
    for touch in profile.touches[profile.window_touches :]:
        own = profile.runs[touch.run].window_ms
        small = profile.contents[touch.content].size <= FILE_MAX
        if touch.after_ms < own and small and blocks.issuperset(_blocks(touch)):
            place = bisect_right(times, touch.after_ms * profile.window_ms // own)
            moved.setdefault(place, []).append(touch)
        else:
            rest.append(touch)
    merged: list[Touch] = []
    for place, touch in enumerate(window):
        merged += [*moved.get(place, ()), touch]
    merged += moved.get(len(window), ())
    chance = _regions_of_chance(profile)
    behind: list[Touch] = []
    for touch in rest:
        near = not touch.run and 0 <= touch.after_ms - profile.window_ms <= RIGHT_BEHIND_MS
        (merged if near or _region(touch) in chance else behind).append(touch)
    return replace(profile, touches=(*merged, *behind), window_touches=len(merged))


def _regions_of_chance(profile: LaunchProfile) -> set[tuple[int, int]]:
    """Return the regions of large files in which it is chance which pages a launch needs.

    They are known by that other runs touched further pages of them before their windows: tables that are
    looked up by hash, or by what this user happens to have. Of such a region the next launch needs others
    again, and most of those are among the pages that were touched at any time (firefox: 49 of 59 misses were,
    which came one after the other, for 928 pages of 30,341).
    """
    first: Counter[tuple[int, int]] = Counter()
    other: Counter[tuple[int, int]] = Counter()
    for number, touch in enumerate(profile.touches):
        if profile.contents[touch.content].size <= FILE_MAX:
            continue
        if number < profile.window_touches:
            first[_region(touch)] += touch.pages
        elif touch.run and touch.after_ms < profile.runs[touch.run].window_ms:
            other[_region(touch)] += touch.pages
    return {
        region
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
