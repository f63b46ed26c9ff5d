"""Frames of a launch pack: each page once, one class a frame, small frames first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packageformat.launchpack import PackExtent, PackReader, PackSource, build_pack
from packageformat.limits import PACK_FRAME_PLAIN_MAX, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.packplan import (
    CLASS_PLAIN_MIN,
    EXACT_PAGES,
    FIRST_FRAME_PLAIN,
    PageClass,
    fold_classes,
    plan_pack,
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
