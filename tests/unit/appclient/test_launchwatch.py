"""Which pages a launch missed, and what is told of them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appclient.launchreports import KEPT_MOST, PAGES_MAX, RUNS_MAX, LaunchReports, runs_of
from appclient.launchwatch import QUIET_SECONDS, WATCH_SECONDS, LaunchWatch, RoundTrips
from packageformat.launchpack import language_pack

BUBBLE, VERSION, OTHER = (bytes([number]) * 32 for number in range(3))
APPLICATION = "org.example.Probe"


def never(bubble: bytes) -> bool:
    return False


def watched() -> LaunchWatch:
    watch = LaunchWatch()
    watch.begin(BUBBLE, VERSION, APPLICATION, 1000, 0.0)
    return watch


def test_what_the_pack_holds_is_no_miss_whenever_its_directory_comes() -> None:
    watch = watched()
    assert watch.need(BUBBLE, VERSION, 7, 0b0111, 1.0) == 0
    assert watch.packed(BUBBLE, APPLICATION, {(VERSION, 7): 0b0011}) == 1
    assert watch.need(BUBBLE, VERSION, 7, 0b1111, 2.0) == 1
    assert watch.need(BUBBLE, VERSION, 7, 0b1111, 2.0) == 0, "each page once"
    assert watch.need(BUBBLE, OTHER, 7, 0b0001, 2.0) == 1
    (launch,) = watch.ended(2.0 + QUIET_SECONDS, never)
    assert launch.missed == {(VERSION, 7): 0b1100, (OTHER, 7): 0b0001}
    assert launch.pages_needed == 2 + 3
    assert not watch.busy


def test_what_the_pack_brings_too_late_is_told_apart() -> None:
    watch = watched()
    watch.packed(BUBBLE, APPLICATION, {(VERSION, 7): 0b0111})
    assert watch.need(BUBBLE, VERSION, 7, 0b1000, 1.0) == 1
    watch.late(BUBBLE, VERSION, 7, 0b0011, 250)
    watch.late(BUBBLE, VERSION, 7, 0b0110, 400)  # page 1 was told
    watch.late(BUBBLE, OTHER, 1, 0b1, 700)
    watch.late(OTHER, VERSION, 1, 0b1, 700)  # of no launch
    watch.forget(OTHER, 1)
    (launch,) = watch.ended(1.0 + QUIET_SECONDS, never)
    assert launch.missed == {(VERSION, 7): 0b1000}
    assert launch.late == {(VERSION, 7, 250): 0b0011, (VERSION, 7, 400): 0b0100}


def test_pages_of_the_users_language_come_from_a_pack_beside() -> None:
    watch = watched()
    watch.packed(BUBBLE, APPLICATION, {})
    assert watch.need(BUBBLE, VERSION, 1, 0b11, 1.0) == 2
    assert watch.packed(BUBBLE, language_pack(APPLICATION, "fr"), {(VERSION, 1): 0b01}) == -1
    (launch,) = watch.ended(9.0, never)
    assert launch.missed == {(VERSION, 1): 0b10}


def test_without_a_pack_nothing_is_told() -> None:
    watch = watched()
    watch.packed(BUBBLE, language_pack(APPLICATION, "fr"), {})
    assert watch.need(BUBBLE, VERSION, 1, 1, 1.0) == 0
    assert watch.ended(100.0, never) == []
    assert not watch.busy


def test_a_launch_is_over_when_faults_are_quiet_and_the_pack_is_here_or_it_takes_too_long() -> None:
    watch = watched()
    watch.packed(BUBBLE, APPLICATION, {})
    watch.need(BUBBLE, VERSION, 1, 1, 3.0)
    assert watch.ended(3.0 + QUIET_SECONDS - 0.1, never) == []
    assert watch.ended(60.0, lambda bubble: True) == []
    assert len(watch.ended(WATCH_SECONDS, lambda bubble: True)) == 1


def test_a_block_that_came_damaged_from_the_cache_is_not_the_packs_fault() -> None:
    watch = watched()
    watch.packed(BUBBLE, APPLICATION, {})
    watch.forget(VERSION, 1)
    assert watch.need(BUBBLE, VERSION, 1, 1, 1.0) == 0


def test_the_next_launch_of_a_bubble_ends_the_watch_of_the_one_before() -> None:
    watch = watched()
    watch.packed(BUBBLE, APPLICATION, {})
    watch.begin(BUBBLE, VERSION, "org.example.Other", 0, 1.0)
    assert [launch.application for launch in watch.ended(1.0, never)] == [APPLICATION]
    assert watch.busy


def test_round_trips_that_overlap_count_once() -> None:
    trips = RoundTrips()
    waits = [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.9, 2.5), (3.0, 4.0)]
    assert [trips.wait(BUBBLE, *wait) for wait in waits] == [1, 0, 1, 0, 1]
    assert trips.wait(OTHER, 0.0, 5.0) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from([VERSION, OTHER]), st.integers(0, 3), st.integers(1, 0xFFFF)), max_size=9
    )
)
def test_runs_hold_exactly_the_pages(places: list[tuple[bytes, int, int]]) -> None:
    unique = list({place[:2]: place for place in places}.values())
    pages = [(content, first + at) for content, first, count in runs_of(unique) for at in range(count)]
    assert sorted(pages) == sorted(
        (content, 16 * block + page)
        for content, block, bits in unique
        for page in range(16)
        if bits >> page & 1
    )


def test_a_report_stays_within_its_limits() -> None:
    runs = runs_of((VERSION, block, 0x5555) for block in range(10_000))
    assert len(runs) == RUNS_MAX
    runs = runs_of((VERSION, block, 0xFFFF) for block in range(10_000))
    assert sum(count for _, _, count in runs) == PAGES_MAX


def test_only_so_many_reports_wait(tmp_path: Path) -> None:
    reports = LaunchReports(tmp_path)
    for number in range(KEPT_MOST + 5):
        reports.keep({"number": number}, VERSION, 1000.0 + number)
    assert reports.count == KEPT_MOST
    reports.drop()
    assert reports.count == 0
