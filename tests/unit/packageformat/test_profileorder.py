"""Touches of other runs come when those runs made them."""

from __future__ import annotations

from dataclasses import replace

from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.profileorder import FEW, FILE_MAX, RIGHT_BEHIND_MS, in_due_time

SMALL, LARGE, OTHER = 0, 1, 2

PROFILE = LaunchProfile(
    application="app",
    bubble_id=bytes(32),
    runs=(ProfileRun("first launch", 500), ProfileRun("first launch, de_DE", 1000)),
    contents=(
        ProfileContent(b"s" * 32, FILE_MAX, b"usr/lib/small"),
        ProfileContent(b"l" * 32, FILE_MAX + 1, b"usr/lib/large"),
        ProfileContent(b"o" * 32, 8192, b"usr/share/locale/de/x.mo"),
    ),
    touches=(
        Touch(SMALL, 0, 2, 100, 0),
        Touch(LARGE, 0, 1, 200, 0),
        Touch(SMALL, 40, 1, 300, 0),
        # after the window
        Touch(SMALL, 5, 1, 400, 1),  # at 200 of the first run's milliseconds
        Touch(SMALL, 6, 1, 1000, 1),  # after that run's window
        Touch(LARGE, 5, 1, 100, 1),
        Touch(OTHER, 0, 2, 100, 1),
        Touch(SMALL, 100, 1, 100, 1),  # a block that the first run does not touch
        Touch(SMALL, 7, 1, 20, 1),
        Touch(SMALL, 8, 1, 600, 0),
    ),
    window_touches=3,
)


def test_what_another_run_touched_before_its_window_comes_at_that_time() -> None:
    found = in_due_time(PROFILE)
    assert [(touch.content, touch.first_page) for touch in found.touches[: found.window_touches]] == [
        (SMALL, 7),
        (SMALL, 0),
        (LARGE, 0),
        (SMALL, 5),
        (SMALL, 40),
    ]


def test_everything_else_stays_behind_the_window_in_order() -> None:
    found = in_due_time(PROFILE)
    rest = [(touch.content, touch.first_page) for touch in found.touches[found.window_touches :]]
    assert rest == [(SMALL, 6), (LARGE, 5), (OTHER, 0), (SMALL, 100), (SMALL, 8)]
    assert sorted(map(repr, found.touches)) == sorted(map(repr, PROFILE.touches))


def test_few_pages_of_large_files_come_when_another_run_touched_them_and_many_do_not() -> None:
    window = Touch(SMALL, 100, 3 * FEW, 400, 0)
    few = (Touch(LARGE, 100, 1, 600, 1), Touch(LARGE, 300, 1, 650, 1), Touch(LARGE, 600, 1, 700, 1))
    profile = replace(PROFILE, touches=(window, *few, Touch(LARGE, 800, 9, 1001, 1)), window_touches=1)
    found = in_due_time(profile)
    assert found.touches[: found.window_touches] == (*few, window), "at 300 to 350 of the first run's ms"
    many = replace(profile, touches=(*profile.touches, Touch(LARGE, 1000, 1, 600, 1)))
    assert in_due_time(many) == many


def test_a_profile_of_one_run_stays_as_it_is() -> None:
    alone = replace(PROFILE, touches=PROFILE.touches[:3])
    assert in_due_time(alone) == alone


def test_what_the_first_run_touches_right_behind_its_window_leads_to_it() -> None:
    soon = Touch(LARGE, 700, 1, 500 + RIGHT_BEHIND_MS, 0)
    late = Touch(LARGE, 800, 1, 501 + RIGHT_BEHIND_MS, 0)
    others = Touch(LARGE, 900, 1, 500, 1)
    found = in_due_time(replace(PROFILE, touches=(*PROFILE.touches, soon, late, others)))
    assert found.touches[found.window_touches - 1] == soon
    assert found.touches[-2:] == (late, others)


def test_all_that_is_known_of_a_region_of_chance_leads_to_the_window() -> None:
    first = [Touch(LARGE, 256, 30, 210, 0), Touch(LARGE, 512, 155, 220, 0)]
    region = [  # of its region other runs touched two pages before their windows; of the other's, too few
        Touch(LARGE, 400, 1, 900, 1),
        Touch(LARGE, 402, 1, 990, 1),
        Touch(LARGE, 420, 3, 5000, 0),
        Touch(LARGE, 430, 1, 6000, 1),
    ]
    code = [Touch(LARGE, 712 + n, 1, 900, 1) for n in range(3)] + [Touch(LARGE, 730, 1, 5000, 0)]
    profile = replace(PROFILE, touches=(*first, *code, *region), window_touches=2)
    found = in_due_time(profile)
    assert list(found.touches) == [*first, *region, *code]
    assert found.window_touches == len(first) + len(region)


def test_a_table_comes_at_once_with_what_lies_between() -> None:
    first = [Touch(LARGE, 256, 9, 100, 0), Touch(SMALL, 0, 1, 200, 0), Touch(LARGE, 770, 8, 210, 0)]
    other = [Touch(LARGE, 300, 2, 900, 1), Touch(LARGE, 800, 2, 900, 1)]  # both are regions of chance
    between = Touch(LARGE, 600, 1, 5000, 0)
    far = Touch(LARGE, 10, 1, 5000, 0)
    profile = replace(PROFILE, touches=(*first, *other, between, far), window_touches=3)
    found = in_due_time(profile)
    assert list(found.touches) == [first[0], other[0], between, first[2], other[1], first[1], far]
    assert found.window_touches == 6


def test_regions_of_which_others_touched_little_stay_in_their_order() -> None:
    first = [Touch(LARGE, 256, 60, 100, 0), Touch(SMALL, 0, 1, 200, 0), Touch(LARGE, 512, 60, 210, 0)]
    other = [Touch(LARGE, 400, 2, 900, 1), Touch(LARGE, 700, 2, 900, 1)]
    found = in_due_time(replace(PROFILE, touches=(*first, *other), window_touches=3))
    assert list(found.touches) == [*first, *other]
