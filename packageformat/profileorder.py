"""When the pages that other runs than the first saw should come. Pure.

A profile lists what the first launch touched, then what the other runs touched besides: in another language,
with another home, with a document. A launch of somebody else needs some of the latter as early as that run
did, and would wait for them behind all the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

from packageformat.launchprofile import LaunchProfile, Touch
from packageformat.limits import PAGES_A_BLOCK

FILE_MAX = 4 << 20
"""Bytes of the files whose pages are moved up. Of a large one, a German launch's pages are a German's."""


def in_due_time(profile: LaunchProfile) -> LaunchProfile:
    """Return a profile in which touches of other runs come when those runs made them.

    Moved are those that a run made before its own window, in blocks of small files that the first run touched
    before its window too: libraries that took another branch, not what another language or document needs by
    itself (that is in files of its own). Times are scaled to the first run's.
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
    return replace(profile, touches=(*merged, *rest), window_touches=len(merged))


def _blocks(touch: Touch) -> set[tuple[int, int]]:
    """Return the blocks that a touch reaches into: content, and number there."""
    last = touch.first_page + touch.pages - 1
    return {
        (touch.content, block)
        for block in range(touch.first_page // PAGES_A_BLOCK, last // PAGES_A_BLOCK + 1)
    }
