"""Relearning the order: what enough launches waited for moves to where they needed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import PAGE_SIZE
from packageformat.movedahead import MOVED_MAX
from streamserver.latepages import (
    RUNS_MAX,
    LateRun,
    check_late,
    collected_late,
    decode_late,
    encode_late,
    moved_up,
)
from streamserver.missedpages import GROWTH_PART, PAGES_MAX, MissedRun

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
        Touch(0, 50, 10, 300, 0),
        Touch(0, 25, 8, 1200, 0),
        Touch(1, 40, 5, 1300, 0),
        Touch(2, 0, 9, 30, 1),
    ),
    window_touches=3,
)


def late(content: int, first: int, pages: int, come: int) -> LateRun:
    return LateRun(MissedRun(IDS[content], first, pages), come)


runs = st.builds(
    LateRun,
    st.builds(
        MissedRun,
        st.sampled_from(IDS) | st.binary(min_size=32, max_size=32),
        st.integers(0, 70) | st.integers(0, (1 << 28) - 40),
        st.integers(1, 40),
    ),
    st.integers(0, 1000),
)
reports = st.lists(runs, max_size=20)


def pages_of(profile: LaunchProfile) -> list[tuple[int, int]]:
    return [
        (touch.content, page)
        for touch in profile.touches
        for page in range(touch.first_page, touch.first_page + touch.pages)
    ]


def moved(*told: list[LateRun], holding: LaunchProfile = TRAINED) -> LaunchProfile | None:
    return moved_up(TRAINED, holding, told)


def shown(profile: LaunchProfile | None) -> list[tuple[int, int, int]]:
    assert profile is not None
    return [(touch.content, touch.first_page, touch.pages) for touch in profile.touches]


def test_pages_that_enough_accounts_asked_for_come_sooner() -> None:
    report = [late(0, 27, 2, 1000), late(2, 0, 1, 520), late(1, 44, 1, 100)]
    found = moved(report, report, [])
    assert shown(found) == [
        *((1, 44, 1), (2, 0, 1), (0, 0, 20), (0, 27, 2), (1, 10, 10), (0, 50, 10)),
        *((0, 25, 2), (0, 29, 4), (1, 40, 4), (2, 1, 8)),
    ]
    assert found is not None
    assert found.window_touches == 6
    assert sorted(pages_of(found)) == sorted(pages_of(TRAINED))
    assert moved(report, report, [], holding=found) is None, "it is there"


def test_the_middle_of_what_is_told_counts() -> None:
    pages = tuple(Touch(0, 2 * page, 1, page, 0) for page in range(20))
    holding = replace(TRAINED, touches=(*pages, Touch(1, 44, 1, 1300, 0)), window_touches=20)
    told = [[late(1, 44, 1, come)] for come in (0, 560, 1000)]
    found = moved_up(holding, holding, told)
    assert shown(found).index((1, 44, 1)) == 20 * 280 // 1000, "half of the way"
    assert found is not None and found.window_touches == 21


def test_what_comes_in_time_anyhow_or_is_in_no_profile_stays_as_it_is() -> None:
    strange = LateRun(MissedRun(b"x" * 32, 0, 1), 0)
    report = [late(0, 3, 2, 500), late(3, 0, 1, 0), strange]
    assert moved(report, report) is None
    other = Touch(0, 20, 2, 0, 1)  # in a block of a small file that the first run touches
    holding = replace(TRAINED, touches=(*TRAINED.touches, other))
    early = [late(0, 20, 1, 1000)]
    assert moved(early, early, holding=holding) is None, "the pack moved it"


def test_so_many_pages_move_at_once() -> None:
    content = replace(TRAINED.contents[0], size=4 * MOVED_MAX * PAGE_SIZE)
    holding = replace(
        TRAINED,
        contents=(content, *TRAINED.contents[1:]),
        touches=(Touch(1, 0, 20, 0, 0), Touch(0, 0, 4 * MOVED_MAX, 9, 0)),
        window_touches=2,
    )
    report = [late(0, 2 * MOVED_MAX, 2 * MOVED_MAX, 0)]
    found = moved_up(holding, holding, [report, report])
    assert shown(found)[:2] == [(0, 2 * MOVED_MAX, MOVED_MAX), (1, 0, 20)]
    assert found is not None and sorted(pages_of(found)) == sorted(pages_of(holding))


@given(st.lists(reports, max_size=1), st.integers(0, 4))
def test_one_account_moves_nothing(told: list[list[LateRun]], silent: int) -> None:
    assert moved(*told, *[[] for _ in range(silent)]) is None


@given(st.lists(reports, max_size=6))
def test_nothing_is_lost_and_what_leads_to_the_window_grows_by_a_quarter_at_most(
    told: list[list[LateRun]],
) -> None:
    holding = TRAINED
    for _ in range(3):
        holding = moved(*told, holding=holding) or holding
    assert sorted(pages_of(holding)) == sorted(pages_of(TRAINED))
    trained = TRAINED.before_window().pages
    assert holding.before_window().pages <= trained + trained // GROWTH_PART
    assert set(pages_of(holding.before_window())) >= set(pages_of(TRAINED.before_window()))


@given(reports, reports)
def test_what_is_kept_of_an_account_is_bounded_and_says_each_page_once(
    new: list[LateRun], old: list[LateRun]
) -> None:
    kept = collected_late(new, old)
    pages = [
        (one.run.content_id, page)
        for one in kept
        for page in range(one.run.first_page, one.run.first_page + one.run.pages)
    ]
    assert len(pages) == len(set(pages)) <= PAGES_MAX
    assert decode_late(encode_late(kept)) == kept
    assert collected_late((), kept) == kept


def test_endless_reports_are_cut_or_refused() -> None:
    many = [late(0, 2 * number, 1, 7) for number in range(RUNS_MAX)]
    assert len(collected_late(many, [late(1, 0, 1, 3)])) == RUNS_MAX
    with pytest.raises(FormatError):
        check_late([*many, many[0]])
    with pytest.raises(FormatError):
        check_late([late(0, 0, PAGES_MAX, 1)] * 2)
    with pytest.raises(FormatError):
        late(0, 0, 1, 1001)
    with pytest.raises(FormatError):
        decode_late(b"x")


LARGE = LaunchProfile(
    application="editor",
    bubble_id=bytes(32),
    runs=(ProfileRun("first launch", 3000), ProfileRun("elsewhere", 4000)),
    contents=(
        ProfileContent(IDS[0], 4096 * PAGE_SIZE, b"usr/lib/large"),
        ProfileContent(IDS[1], 60 * PAGE_SIZE, b"usr/lib/small"),
        ProfileContent(IDS[2], 900 * PAGE_SIZE, b"usr/share/data"),
    ),
    touches=(
        *(Touch(0, 16 * number, 12, 5 * number, 0) for number in range(200)),
        *(Touch(2, 4 * number, 3, 1000 + 9 * number, 0) for number in range(200)),
        Touch(1, 0, 40, 2900, 0),
        Touch(0, 3500, 200, 3020, 0),
        Touch(1, 44, 6, 10, 1),
        *(Touch(0, 16 * number + 13, 2, 11 * number, 1) for number in range(0, 200, 3)),
        Touch(0, 3800, 100, 3500, 1),
    ),
    window_touches=401,
)
"""With pages that are put in due time, regions of chance, and more behind the window."""

everywhere = st.lists(
    st.builds(
        LateRun,
        st.builds(MissedRun, st.sampled_from(IDS[:3]), st.integers(0, 4000), st.integers(1, 60)),
        st.integers(0, 1000),
    ),
    max_size=30,
)


@given(st.lists(everywhere, min_size=1, max_size=3))
def test_what_is_told_again_and_again_moves_a_few_times_and_then_no_more(told: list[list[LateRun]]) -> None:
    holding: LaunchProfile = LARGE
    trained = LARGE.before_window().pages
    for _ in range(10):
        found = moved_up(LARGE, holding, [*told, *told])
        if found is None:
            return
        assert sorted(pages_of(found)) == sorted(pages_of(LARGE))
        assert found.before_window().pages <= trained + trained // GROWTH_PART
        holding = found
    raise AssertionError("packs would be built anew for ever")


def test_pages_that_are_late_together_do_not_move_one_by_one() -> None:
    """Found by the test above: the others came just before the threshold, and 26 orders were built."""
    told = [late(0, 1530, 34, 260)]
    found = moved_up(LARGE, LARGE, [told, told])
    assert found is not None
    assert moved_up(LARGE, found, [told, told]) is None


def test_pages_that_no_profile_has_take_nobodys_place() -> None:
    made_up = [late(3, number, 1, 0) for number in range(MOVED_MAX // 2)]
    page = 16 * 199 + 3
    true = [late(0, page, 1, 100)]
    found = moved_up(LARGE, LARGE, [[*made_up, *true], [*made_up, *true]])
    assert found is not None
    assert pages_of(found).index((0, page)) < pages_of(LARGE).index((0, page)) // 4


def test_a_page_of_a_region_that_comes_as_a_whole_stays_with_it() -> None:
    told = [late(0, 13, 1, 0), late(0, 3820, 1, 0)]
    found = moved_up(LARGE, LARGE, [told, told])
    assert found is None or (0, 13) not in pages_of(found.before_window())
