"""The union of traced runs: to the window first, nothing twice, nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bubble.trace import TracedRead
from packageformat.launchprofile import LaunchProfile, ProfileContent
from sequencer.firsttouch import TOGETHER_MS, RunKind, TracedRun, profile_of

CONTENTS = [ProfileContent(bytes([number + 1]) * 32, 40 * 4096, b"f%d" % number) for number in range(4)]


def run(kind: RunKind, *reads: tuple[int, int, int], window_ms: int = 100, name: str = "run") -> TracedRun:
    """Return a run of reads (milliseconds, content, page)."""
    traced = tuple(TracedRead(5_000_000 + ms * 1000, content, page, 1) for ms, content, page in reads)
    return TracedRun(name, kind, 5_000_000, 5_000_000 + window_ms * 1000, traced)


def profile(*runs: TracedRun) -> LaunchProfile:
    return profile_of("app", bytes(32), CONTENTS, runs)


def order(found: LaunchProfile) -> list[tuple[bytes, int]]:
    return [
        (found.contents[touch.content].path, page)
        for touch in found.touches
        for page in range(touch.first_page, touch.first_page + touch.pages)
    ]


def test_what_leads_to_the_window_comes_first_then_the_rest_then_what_others_added() -> None:
    found = profile(
        run(RunKind.FIRST, (1, 2, 0), (50, 0, 7), (150, 1, 1), name="first"),
        run(RunKind.FIRST, (1, 2, 0), (60, 3, 3), (170, 1, 2)),
        run(RunKind.VARIATION, (1, 2, 0), (9, 3, 9), (200, 3, 10)),
        run(RunKind.LATER, (1, 0, 7), (2, 0, 30), (300, 0, 31)),
    )
    assert order(found) == [
        (b"f2", 0), (b"f0", 7), (b"f3", 3),
        (b"f1", 1), (b"f1", 2),
        (b"f0", 30), (b"f0", 31),
        (b"f3", 9),
    ]  # fmt: skip
    assert found.window_touches == 3
    assert [touch.run for touch in found.touches] == [0, 0, 1, 0, 1, 3, 3, 2]
    assert found.window_ms == 100
    assert found.runs[0].name == "first"


def test_pages_read_one_after_the_other_are_one_touch() -> None:
    reads = [(1, 0, 0), (2, 0, 1), (3, 0, 2), (3 + TOGETHER_MS, 0, 3), (30, 1, 0), (31, 0, 4)]
    found = profile(run(RunKind.FIRST, *reads))
    assert [(touch.first_page, touch.pages, touch.after_ms) for touch in found.touches] == [
        (0, 3, 1),
        (3, 1, 3 + TOGETHER_MS),
        (0, 1, 30),
        (4, 1, 31),
    ]


def test_a_touch_does_not_reach_across_the_window() -> None:
    found = profile(run(RunKind.FIRST, (99, 0, 0), (101, 0, 1)))
    assert [touch.pages for touch in found.touches] == [1, 1]
    assert found.window_touches == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(RunKind),
            st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 39))),
        ),
        max_size=4,
    ),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 39)), min_size=1),
)
def test_every_page_is_there_once(
    others: list[tuple[RunKind, list[tuple[int, int, int]]]], first: list[tuple[int, int, int]]
) -> None:
    runs = [run(RunKind.FIRST, *sorted(first)), *(run(kind, *sorted(reads)) for kind, reads in others)]
    pages = order(profile(*runs))  # which checks itself that none is there twice
    wanted = {
        (b"f%d" % read.content, read.first_page)
        for one in runs
        for read in one.reads
        if one.kind is not RunKind.VARIATION or read.at_us <= one.window_us
    }
    assert set(pages) == wanted
