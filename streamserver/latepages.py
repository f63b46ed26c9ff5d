"""What clients report that launches waited for though their packs hold it, far behind: it moves up. Pure.

A launch pack brings first what leads to the window. What comes behind that costs whoever needs it sooner a
request of his own. The rule is that of missed pages (`missedpages`): two accounts or more and a third of
those that reported; and what leads to the window stays within five quarters of what was trained, whatever it
grew by. So a hostile client cannot have all of a profile sent first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from packageformat.launchprofile import LaunchProfile, Touch
from packageformat.limits import PROFILE_TOUCHES_MAX
from streamserver.missedpages import GROWTH_PART, MissedRun, nearest_touches, touches_of, voted


def moved_up(
    trained: LaunchProfile,
    holding: LaunchProfile,
    reports: Sequence[Sequence[MissedRun]],
    is_behind: Callable[[bytes, int], bool],
) -> LaunchProfile | None:
    """Return the profile with pages before the window that enough accounts needed there, or None if none.

    A page comes after the nearest page of the same file, or, of a file that leads to no window yet, at the
    end of those that do.

    Args:
        trained: the profile as it was trained.
        holding: the one that holds now.
        reports: what came late to the launches of each account; of each account that reported, also nothing.
        is_behind: tells whether a page (content id, number in the file) comes behind the window in the pack
            of `holding`.
    """
    grown = holding.before_window().pages - trained.before_window().pages
    room = min(
        trained.before_window().pages // GROWTH_PART - grown,
        (PROFILE_TOUCHES_MAX - len(holding.touches)) // 2,  # a page taken out of a touch leaves two
    )
    behind = {
        (touch.content, page)
        for touch in holding.touches[holding.window_touches :]
        for page in range(touch.first_page, touch.first_page + touch.pages)
    }
    numbers = {content.content_id: number for number, content in enumerate(holding.contents)}
    wanted = [
        (numbers[content_id], page)
        for content_id, page in voted(reports)
        if (numbers.get(content_id, -1), page) in behind and is_behind(content_id, page)
    ][: max(0, room)]
    return _with(holding, wanted) if wanted else None


def _with(profile: LaunchProfile, wanted: Sequence[tuple[int, int]]) -> LaunchProfile:
    window = profile.touches[: profile.window_touches]
    near = nearest_touches(window)
    after: dict[int, list[tuple[int, int]]] = defaultdict(list)  # position of a touch: (content, page)
    for number, page in wanted:
        after[near(number, page, len(window) - 1)].append((number, page))
    moved: list[Touch] = []
    for position, touch in enumerate(window):
        moved += (touch, *touches_of(sorted(after[position]), touch.after_ms, touch.run))
    if not window:
        moved += touches_of(wanted, 0, 0)
    taken = set(wanted)
    rest = [part for touch in profile.touches[profile.window_touches :] for part in _without(touch, taken)]
    return replace(profile, touches=(*moved, *rest), window_touches=len(moved))


def _without(touch: Touch, taken: set[tuple[int, int]]) -> Iterable[Touch]:
    """Give what is left of a touch."""
    pages = [
        page
        for page in range(touch.first_page, touch.first_page + touch.pages)
        if (touch.content, page) not in taken
    ]
    if len(pages) == touch.pages:
        return (touch,)
    return touches_of([(touch.content, page) for page in pages], touch.after_ms, touch.run)
