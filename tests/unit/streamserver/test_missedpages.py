"""Relearning: one account never changes a profile, three honest ones do, and nobody bloats it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import PAGE_SIZE
from streamserver.missedpages import (
    GROWTH_PART,
    PAGES_MAX,
    RUNS_MAX,
    MissedRun,
    StackFile,
    check_runs,
    collected,
    decode_runs,
    encode_runs,
    learned,
)

FILES = {bytes([number]) * 32: StackFile(40 * PAGE_SIZE - 7, b"usr/lib/%d" % number) for number in range(4)}
IDS = list(FILES)
TRAINED = LaunchProfile(
    application="editor",
    bubble_id=bytes(32),
    runs=(ProfileRun("first launch", 900),),
    contents=tuple(ProfileContent(name, FILES[name].size, FILES[name].path) for name in IDS[:3]),
    touches=(
        Touch(0, 0, 20, 1, 0),
        Touch(1, 10, 10, 200, 0),
        Touch(2, 0, 5, 400, 0),
        Touch(0, 25, 5, 1200, 0),
    ),
    window_touches=3,
)


def pages_of(profile: LaunchProfile) -> set[tuple[bytes, int]]:
    return {
        (profile.contents[touch.content].content_id, page)
        for touch in profile.touches
        for page in range(touch.first_page, touch.first_page + touch.pages)
    }


def learn(*reports: list[MissedRun], holding: LaunchProfile = TRAINED) -> LaunchProfile | None:
    covered = pages_of(holding)
    return learned(TRAINED, holding, reports, FILES, lambda name, page: (name, page) in covered)


strange = st.binary(min_size=32, max_size=32)
runs = st.builds(
    MissedRun,
    st.sampled_from(IDS) | strange,
    st.integers(0, 60) | st.integers(0, (1 << 28) - 40),
    st.integers(1, 40),
)
reports = st.lists(runs, max_size=30)


@given(reports)
def test_one_account_alone_changes_nothing(report: list[MissedRun]) -> None:
    assert learn(report) is None


@given(reports, st.lists(reports, min_size=1, max_size=6))
def test_a_hostile_account_among_others_adds_no_page_of_its_own(
    hostile: list[MissedRun], honest: list[list[MissedRun]]
) -> None:
    found = learn(hostile, *honest)
    said = {
        (run.content_id, page)
        for one in honest
        for run in one
        for page in range(run.first_page, run.first_page + run.pages)
    }
    if found is not None:
        assert pages_of(found) - pages_of(TRAINED) <= said


@given(st.sets(st.tuples(st.sampled_from(IDS), st.integers(0, 39)), max_size=10))
def test_what_three_miss_is_learned(pages: set[tuple[bytes, int]]) -> None:
    report = [MissedRun(name, page, 1) for name, page in sorted(pages)]
    found = learn(report, report, report)
    after = pages_of(found or TRAINED)
    assert after == pages_of(TRAINED) | pages
    assert found is None or learn(report, report, report, holding=found) is None


@given(st.lists(reports, max_size=8))
def test_a_profile_grows_by_a_quarter_at_most_and_only_by_pages_that_are_there(
    all_reports: list[list[MissedRun]],
) -> None:
    holding = TRAINED
    for _ in range(3):
        holding = learn(*all_reports, holding=holding) or holding
    assert holding.pages <= TRAINED.pages + TRAINED.pages // GROWTH_PART
    assert pages_of(holding) >= pages_of(TRAINED)
    for name, page in pages_of(holding):
        assert page < 40
        assert name in FILES


@given(st.lists(reports, min_size=3, max_size=12))
def test_a_page_needs_two_accounts_and_a_third_of_them(all_reports: list[list[MissedRun]]) -> None:
    found = learn(*all_reports)
    for name, page in pages_of(found or TRAINED) - pages_of(TRAINED):
        votes = sum(
            any(run.content_id == name and 0 <= page - run.first_page < run.pages for run in report)
            for report in all_reports
        )
        assert votes >= 2
        assert votes * 3 >= len(all_reports)


def test_a_page_comes_beside_its_file_and_a_new_file_before_the_window() -> None:
    report = [MissedRun(IDS[3], 7, 2), MissedRun(IDS[1], 21, 1), MissedRun(IDS[0], 31, 1)]
    found = learn(report, report)
    assert found is not None
    assert [(touch.content, touch.first_page, touch.pages) for touch in found.touches] == [
        (0, 0, 20),
        (1, 10, 10),
        (1, 21, 1),
        (2, 0, 5),
        (3, 7, 2),
        (0, 25, 5),
        (0, 31, 1),
    ]
    assert found.window_touches == 5
    assert [touch.after_ms for touch in found.touches] == [1, 200, 200, 400, 400, 1200, 1200]


@given(reports, reports)
def test_what_is_kept_of_an_account_is_bounded_and_says_each_page_once(
    new: list[MissedRun], old: list[MissedRun]
) -> None:
    kept = collected(new, old)
    pages = [
        (run.content_id, page) for run in kept for page in range(run.first_page, run.first_page + run.pages)
    ]
    assert len(pages) == len(set(pages)) <= PAGES_MAX
    assert decode_runs(encode_runs(kept)) == kept
    assert collected(new, kept) == collected((), kept) == kept


def test_endless_reports_are_cut_or_refused() -> None:
    many = [MissedRun(bytes(32), 2 * number, 1) for number in range(RUNS_MAX)]
    assert (
        len(collected(many, [MissedRun(bytes(32), 2 * number + 1, 1) for number in range(0, 40, 3)]))
        <= RUNS_MAX
    )
    with pytest.raises(FormatError):
        check_runs([*many, many[0]])
    with pytest.raises(FormatError):
        check_runs([MissedRun(bytes(32), 0, PAGES_MAX)] * 2)
    with pytest.raises(FormatError):
        MissedRun(bytes(32), 0, PAGES_MAX + 1)
    assert collected([MissedRun(bytes(32), (1 << 28) - 2, 2)], [])
    with pytest.raises(FormatError):
        MissedRun(bytes(32), (1 << 28) - 2, 3)
    with pytest.raises(FormatError):
        decode_runs(b"x")
