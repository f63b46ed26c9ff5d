"""Frames of a launch pack: each page once, one class a frame, small frames first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packageformat.launchpack import PackExtent, PackReader
from packageformat.limits import PACK_FRAME_PLAIN_MAX, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.packbuild import PackSource, build_pack
from packageformat.packplan import (
    CLASS_PLAIN_MIN,
    EXACT_PAGES,
    FIRST_FRAME_PLAIN,
    LATE_FILE_MAX,
    PageClass,
    fold_classes,
    plan_pack,
    with_late_pages,
)
from tests.vectors.sample import SAMPLE, STACK

TREE = SAMPLE.package.tree
classes = st.tuples(st.integers(0, 2), st.frozensets(st.integers(0, 3)))


def extents_of(places: list[int]) -> list[PackExtent]:
    return [PackExtent(place % 2, place // 32, place // 2 % PAGES_A_BLOCK, 1) for place in places]


def pages_of(extents: tuple[PackExtent, ...]) -> list[tuple[int, int, int]]:
    return [(e.layer, e.block, e.first_page + page) for e in extents for page in range(e.pages)]


def plan(
    places: list[int], class_count: int, size: int = PAGE_SIZE
) -> tuple[list[PackExtent], list[tuple[PackExtent, ...]]]:
    extents = extents_of(places)
    frames = list(
        plan_pack(extents, lambda e: size * e.pages, lambda e: (e.block * 7 + e.first_page) % class_count)
    )
    return extents, frames


@given(st.lists(st.integers(0, 20_000), unique=True, max_size=3000), st.integers(1, 5))
def test_each_page_is_in_one_frame_of_one_class(places: list[int], class_count: int) -> None:
    extents, frames = plan(places, class_count)
    found = [page for frame in frames for page in pages_of(frame)]
    assert sorted(found) == sorted((e.layer, e.block, e.first_page) for e in extents)
    for frame in frames:
        assert pages_of(frame) == sorted(pages_of(frame))
        assert len({(block * 7 + page) % class_count for _, block, page in pages_of(frame)}) == 1


@given(st.lists(st.integers(0, 20_000), unique=True, min_size=1, max_size=3000), st.integers(1, 5))
def test_frames_begin_small_and_grow_no_faster_than_what_was_given(
    places: list[int], class_count: int
) -> None:
    _, frames = plan(places, class_count)
    given_before = 0
    for frame in frames:
        plain = len(pages_of(frame)) * PAGE_SIZE
        assert plain <= min(PACK_FRAME_PLAIN_MAX, max(FIRST_FRAME_PLAIN, given_before))
        given_before += plain


@given(st.lists(st.integers(0, 20_000), unique=True, min_size=1, max_size=1000), st.integers(1, 5))
def test_a_page_waits_for_one_frame_of_each_class_at_most(places: list[int], class_count: int) -> None:
    extents, frames = plan(places, class_count)
    order = [(e.layer, e.block, e.first_page) for e in extents][:EXACT_PAGES]
    turn = {page: number for number, frame in enumerate(frames) for page in pages_of(frame)}
    for number, page in enumerate(order):
        before = {turn[earlier] for earlier in order[:number]}
        assert len([frame for frame in range(turn[page]) if frame not in before]) == 0


@given(st.dictionaries(classes, st.integers(1, 4 * CLASS_PLAIN_MIN), max_size=40))
def test_a_small_class_goes_with_one_that_no_others_share(weights: dict[PageClass, int]) -> None:
    folded = fold_classes(weights)
    assert folded.keys() == weights.keys()
    for name, target in folded.items():
        assert target[1] <= name[1]
        assert folded.get(target, target) == target
        if name != target and target in weights and target[1]:
            assert weights[target] >= CLASS_PLAIN_MIN


def test_a_client_that_has_one_class_reads_the_rest_by_ranges() -> None:
    """The frames of a class are skipped; their blocks' hashes are known from the cache."""
    pages = [PackExtent(0, 0, page, 1) for page in range(16)]
    pack = build_pack(
        "app",
        [PackSource(SAMPLE.package.version_id, TREE, SAMPLE.package.block_ids)],
        pages,
        lambda _, block: SAMPLE.blocks[block],
        class_of=lambda extent: extent.first_page % 2,
    )
    reader = PackReader(STACK)
    reader.feed(pack)
    assert reader.complete
    assert reader.directory is not None
    frames = reader.directory.frames
    assert [{page % 2 for _, _, page in pages_of(frame.extents)} for frame in frames] == [{0}, {1}]


@given(st.lists(st.integers(0, 20_000), unique=True, max_size=1500), st.integers(1, 5), st.data())
def test_no_page_after_the_window_is_in_a_frame_before_it(
    places: list[int], class_count: int, data: st.DataObject
) -> None:
    extents = extents_of(places)
    window = data.draw(st.integers(0, len(extents)))
    frames = list(
        plan_pack(
            extents, lambda e: PAGE_SIZE * e.pages, lambda e: (e.block + e.first_page) % class_count, window
        )
    )
    before = {(e.layer, e.block, e.first_page) for e in extents[:window]}
    early = [page in before for frame in frames for page in pages_of(frame)]
    assert early == sorted(early, reverse=True)
    assert sum(early) == window
    assert all(len({page in before for page in pages_of(frame)}) == 1 for frame in frames)


def singles(block: int, pages: range) -> list[PackExtent]:
    return [PackExtent(0, block, page, 1) for page in pages]


LIBRARY, EARLY, PROGRAM, HUGE, LATER = 1000, 1001, 1002, 1003, 1004
WINDOW = [
    PackExtent(0, EARLY, 0, 2),
    *(PackExtent(0, block, 0, 16) for block in range(EXACT_PAGES // 16)),
    PackExtent(0, LIBRARY, 0, 4),
    PackExtent(0, PROGRAM, 0, 16),
    PackExtent(0, HUGE, 0, 1),
    *(PackExtent(0, block, 0, 16) for block in range(100, 150)),
]
WINDOW_PAGES = sum(extent.pages for extent in WINDOW)
LATE = [*singles(HUGE, range(9, 10)), *singles(LATER, range(3)), *singles(LIBRARY, range(9, 12))]
LATE += singles(EARLY, range(5, 6))


def file_size(_layer: int, block: int) -> int:
    return LATE_FILE_MAX + (block == HUGE)


def test_late_pages_come_with_their_block_in_the_window() -> None:
    extents, window = with_late_pages([*WINDOW, *LATE], WINDOW_PAGES, file_size)
    assert window == WINDOW_PAGES + 4
    moved = [*singles(LIBRARY, range(9, 12)), *singles(EARLY, range(5, 6))]
    assert [page for page in extents[:window] if page not in moved] == [
        PackExtent(0, e.block, e.first_page + page, 1) for e in WINDOW for page in range(e.pages)
    ], "the window's own pages keep their order"
    assert extents[window:] == [*singles(HUGE, range(9, 10)), *singles(LATER, range(3))]
    assert extents.index(moved[0]) == extents.index(PackExtent(0, LIBRARY, 3, 1)) + 1
    assert extents.index(moved[3]) == EXACT_PAGES, "what every launch waits for waits for no late page"


def test_late_pages_make_no_frames_of_their_own() -> None:
    extents, window = with_late_pages([*WINDOW, *LATE], WINDOW_PAGES, file_size)
    before = list(plan_pack([*WINDOW, *LATE], lambda e: PAGE_SIZE * e.pages, None, WINDOW_PAGES))
    frames = list(plan_pack(extents, lambda e: PAGE_SIZE * e.pages, None, window))
    assert len(frames) == len(before)
    of = {page: number for number, frame in enumerate(frames) for page in pages_of(frame)}
    assert {of[0, LIBRARY, page] for page in (0, 1, 2, 3, 9, 10, 11)} == {of[0, LIBRARY, 0]}
    assert of[0, LIBRARY, 9] < of[0, 149, 0]


@given(st.lists(st.integers(0, 3_000), unique=True, max_size=800), st.data())
def test_moving_late_pages_loses_none_and_leaves_no_block_of_a_small_file_behind(
    places: list[int], data: st.DataObject
) -> None:
    extents = extents_of(places)
    given_window = data.draw(st.integers(0, len(extents)))
    found, window = with_late_pages(extents, given_window, lambda _, block: LATE_FILE_MAX + (block % 3 == 0))
    assert sorted(found, key=repr) == sorted(extents, key=repr)
    early = {(e.layer, e.block) for e in extents[:given_window]}
    assert [e for e in found if e in set(extents[:given_window])] == extents[:given_window]
    assert found[window:] == [
        e for e in extents[given_window:] if (e.layer, e.block) not in early or e.block % 3 == 0
    ]
