"""Relearning the order: what enough launches waited for moves before the window, a quarter at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import PAGE_SIZE
from streamserver.latepages import moved_up
from streamserver.missedpages import GROWTH_PART, MissedRun

IDS = [bytes([number]) * 32 for number in range(4)]
TRAINED = LaunchProfile(
    application="editor",
    bubble_id=bytes(32),
    runs=(ProfileRun("first launch", 900), ProfileRun("second launch", 400)),
    contents=tuple(
        ProfileContent(name, 60 * PAGE_SIZE, b"usr/lib/%d" % number) for number, name in enumerate(IDS)
    ),
    touches=(
        Touch(0, 0, 20, 1, 0),
        Touch(1, 10, 10, 200, 0),
        Touch(0, 50, 2, 300, 0),
        Touch(0, 25, 8, 1200, 0),
        Touch(1, 40, 5, 1300, 0),
        Touch(2, 0, 9, 30, 1),
    ),
    window_touches=3,
)

runs = st.builds(
    MissedRun,
    st.sampled_from(IDS) | st.binary(min_size=32, max_size=32),
    st.integers(0, 70) | st.integers(0, (1 << 28) - 1),
    st.integers(1, 40),
)
reports = st.lists(runs, max_size=20)


def pages_of(profile: LaunchProfile) -> set[tuple[int, int]]:
    return {
        (touch.content, page)
        for touch in profile.touches
        for page in range(touch.first_page, touch.first_page + touch.pages)
    }


def moved(*told: list[MissedRun], holding: LaunchProfile = TRAINED) -> LaunchProfile | None:
    return moved_up(TRAINED, holding, told, lambda name, page: True)


def shown(profile: LaunchProfile | None) -> list[tuple[int, int, int]]:
    assert profile is not None
    return [(touch.content, touch.first_page, touch.pages) for touch in profile.touches]


def test_a_late_page_comes_beside_its_file_before_the_window_and_goes_from_behind() -> None:
    report = [MissedRun(IDS[0], 27, 2), MissedRun(IDS[2], 0, 1), MissedRun(IDS[1], 44, 1)]
    found = moved(report, report, [])
    assert shown(found) == [
        *((0, 0, 20), (0, 27, 2), (1, 10, 10), (1, 44, 1), (0, 50, 2), (2, 0, 1)),
        *((0, 25, 2), (0, 29, 4), (1, 40, 4), (2, 1, 8)),
    ]
    assert found is not None
    assert found.window_touches == 6
    assert pages_of(found) == pages_of(TRAINED)
    assert moved(report, report, [], holding=found) is None, "it is there"


def test_what_comes_before_the_window_anyhow_or_is_in_no_profile_stays_as_it_is() -> None:
    report = [MissedRun(IDS[0], 3, 2), MissedRun(IDS[3], 0, 1), MissedRun(b"x" * 32, 0, 1)]
    assert moved(report, report) is None
    behind = [MissedRun(IDS[0], 27, 2)]
    assert moved_up(TRAINED, TRAINED, [behind, behind], lambda name, page: False) is None, "the pack moved it"


@given(st.lists(reports, max_size=1), st.integers(0, 4))
def test_one_account_moves_nothing(told: list[list[MissedRun]], silent: int) -> None:
    assert moved(*told, *[[] for _ in range(silent)]) is None


@given(st.lists(reports, max_size=6))
def test_nothing_is_lost_and_what_leads_to_the_window_grows_by_a_quarter_at_most(
    told: list[list[MissedRun]],
) -> None:
    holding = TRAINED
    for _ in range(3):
        holding = moved(*told, holding=holding) or holding
    assert pages_of(holding) == pages_of(TRAINED)
    assert holding.pages == TRAINED.pages
    trained = TRAINED.before_window().pages
    assert holding.before_window().pages <= trained + trained // GROWTH_PART
    assert pages_of(holding.before_window()) >= pages_of(TRAINED.before_window())


def test_a_profile_without_a_window_learns_one() -> None:
    holding = LaunchProfile(
        "editor", bytes(32), TRAINED.runs, TRAINED.contents, TRAINED.touches, window_touches=0
    )
    report = [MissedRun(IDS[0], 3, 2)]
    assert moved_up(holding, holding, [report, report], lambda name, page: True) is None, "a quarter of none"
    found = moved_up(TRAINED, holding, [report, report], lambda name, page: True)
    assert shown(found)[:3] == [(0, 3, 2), (0, 0, 3), (0, 5, 15)]
