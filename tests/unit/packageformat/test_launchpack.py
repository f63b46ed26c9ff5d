"""Launch packs: every page verifies as its frame arrives; any flipped byte is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.compression import compress
from packageformat.errors import FormatError
from packageformat.hashing import block_id, page_hashes
from packageformat.hashtree import root, split
from packageformat.launchpack import PackedPage, PackExtent, PackLayer, PackReader, directory_end
from packageformat.limits import PAGE_SIZE
from packageformat.packbuild import PackSource, build_pack
from packageformat.packdirectory import PackFrame
from packageformat.tree import Kind, Node, build_tree
from tests.vectors.sample import EXTENTS, SAMPLE, STACK, make_pack
from tests.vectors.tablepack import (
    BLOCK_IDS,
    BLOCKS,
    CODE,
    LIBRARY,
    TABLE_STACK,
    VERSION,
    make_table_pack,
    with_first_page,
)
from tests.vectors.tablepack import TREE as TABLE_TREE

TREE = SAMPLE.package.tree
SOURCE = PackSource(SAMPLE.package.version_id, TREE, SAMPLE.package.block_ids)
PACK = make_pack()
PAGES = [
    (block, page)
    for block in range(TREE.block_count)
    for page in range(-(-TREE.block_size(block) // PAGE_SIZE))
]


def plain_of(page: PackedPage) -> bytes:
    return SAMPLE.blocks[page.block][page.page * PAGE_SIZE : (page.page + 1) * PAGE_SIZE]


def built(pages: list[tuple[int, int]]) -> bytes:
    extents = [PackExtent(0, block, page, 1) for block, page in pages]
    return build_pack("app", [SOURCE], extents, lambda _layer, block: SAMPLE.blocks[block])


@given(st.lists(st.sampled_from(PAGES), min_size=1, unique=True), st.integers(1, 30_000))
def test_any_pages_in_any_order_and_pieces_come_back(pages: list[tuple[int, int]], step: int) -> None:
    pack = built(pages)
    reader = PackReader(STACK, "app")
    found: list[PackedPage] = []
    for start in range(0, len(pack), step):
        assert not reader.complete
        found += reader.feed(pack[start : start + step])
    assert reader.complete
    assert reader.needs() == 0
    assert sorted((page.block, page.page) for page in found) == sorted(pages)
    for page in found:
        assert page.plain == plain_of(page)
        assert reader.hashes_of(0, page.block) == page_hashes(SAMPLE.blocks[page.block])


@given(st.integers(0, len(PACK) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_seen_and_what_came_before_was_right(place: int, bit: int) -> None:
    damaged = bytearray(PACK)
    damaged[place] ^= 1 << bit
    reader = PackReader(STACK)
    found: list[PackedPage] = []
    with pytest.raises(FormatError):
        for start in range(0, len(damaged), 97):
            found += reader.feed(bytes(damaged[start : start + 97]))
        assert reader.complete
        raise AssertionError("a damaged pack was read to its end")
    assert all(page.plain == plain_of(page) for page in found)
    with pytest.raises(FormatError, match="damaged before"):
        reader.feed(b"")


def test_the_pages_of_a_frame_arrive_with_the_frame() -> None:
    reader = PackReader(STACK)
    sizes = []
    fed = 0
    while not reader.complete:
        step = reader.needs()
        sizes.append(len(reader.feed(PACK[fed : fed + step])))
        fed += step
    assert fed == len(PACK)
    assert sizes[:2] == [0, 0]
    assert all(sizes[2:])
    assert sum(sizes) == sum(extent.pages for extent in EXTENTS)


def test_a_pack_of_another_bubble_or_application_is_refused() -> None:
    with pytest.raises(FormatError, match="another bubble"):
        PackReader([replace(STACK[0], version_id=bytes(32))]).feed(PACK)
    with pytest.raises(FormatError, match="not those of the manifest"):
        PackReader([replace(STACK[0], blocks_root=bytes(32))]).feed(PACK)
    with pytest.raises(FormatError, match="counts"):
        PackReader([replace(STACK[0], block_count=9)]).feed(PACK)
    with pytest.raises(FormatError, match="expected other"):
        PackReader(STACK, "other").feed(PACK)


@pytest.mark.parametrize(
    "extents",
    [
        [PackExtent(0, 99, 0, 1)],
        [PackExtent(1, 0, 0, 1)],
        [PackExtent(0, 0, 0, 17)],
        [PackExtent(0, 0, 15, 2)],
        [PackExtent(0, 0, 0, 0)],
        [PackExtent(0, 0, 0, 2), PackExtent(0, 0, 1, 1)],
    ],
)
def test_pages_that_are_not_there_or_twice_make_no_pack(extents: list[PackExtent]) -> None:
    with pytest.raises(FormatError):
        build_pack("app", [SOURCE], extents, lambda _layer, block: SAMPLE.blocks[block])


@given(st.sets(st.sampled_from(PAGES)), st.sets(st.integers(0, TREE.block_count - 1)))
def test_files_without_a_page_are_proved_to_their_last_block(
    pages: set[tuple[int, int]], also: set[int]
) -> None:
    extents = [PackExtent(0, block, page, 1) for block, page in sorted(pages)]
    read = SAMPLE.blocks.__getitem__
    pack = build_pack("app", [SOURCE], extents, lambda _, block: read(block), also=[(0, one) for one in also])
    reader = PackReader(None, "app")
    assert reader.feed(pack[: directory_end(pack)]) == []
    directory = reader.trust(STACK)
    entries = {TREE.block_place(block)[0] for block in also | {block for block, _ in pages}}
    ids = directory.layers[0].ids
    assert ids == {
        block: SAMPLE.package.block_id(block)
        for block in range(TREE.block_count)
        if TREE.block_place(block)[0] in entries
    }
    found = reader.feed(pack[directory_end(pack) :])
    assert reader.complete
    assert {(page.block, page.page) for page in found} == pages


@pytest.mark.parametrize("also", [(0, TREE.block_count), (1, 0), (-1, 0), (0, -1)])
def test_files_that_are_not_there_make_no_pack(also: tuple[int, int]) -> None:
    with pytest.raises(FormatError):
        build_pack("app", [SOURCE], EXTENTS, lambda _, block: SAMPLE.blocks[block], also=[also])


def test_a_pack_without_pages_is_complete_at_once() -> None:
    pack = built([])
    reader = PackReader(STACK)
    assert reader.feed(pack) == []
    assert reader.complete


@given(st.binary(max_size=200))
def test_any_bytes_give_no_page(data: bytes) -> None:
    reader = PackReader(STACK)
    try:
        assert reader.feed(data) == []
    except FormatError:
        return
    assert not reader.complete


def frame_of(pack: bytes) -> PackFrame:
    reader = PackReader(TABLE_STACK)
    reader.feed(pack[: directory_end(pack)])
    assert reader.directory is not None
    [frame] = reader.directory.frames
    return frame


def plain_library(pages: dict[int, bytes]) -> bool:
    return b"".join(pages[number] for number in sorted(pages)) == LIBRARY[12 * PAGE_SIZE :]


def test_a_table_of_relocations_is_stored_by_columns_and_read_back() -> None:
    pack = make_table_pack()
    assert frame_of(pack).extents == (
        PackExtent(0, 0, 12, 2),
        PackExtent(0, 1, 5, 3),
        PackExtent(0, 0, 14, 2, by_columns=True),
        PackExtent(0, 1, 0, 5, by_columns=True),
    ), "the code around it is stored as it is"
    reader = PackReader(TABLE_STACK, "library")
    found = reader.feed(pack)
    assert reader.complete
    assert plain_library({16 * page.block + page.page: page.plain for page in found})
    again = PackReader(TABLE_STACK)
    again.feed(pack[: directory_end(pack)])
    [(start, size)] = again.frame_places()
    assert plain_library(
        {
            16 * block.block + page: plain
            for block in again.read_frame(0, pack[start : start + size])
            for page, plain in block.pages.items()
        }
    )


def test_a_table_by_columns_makes_a_pack_smaller() -> None:
    code = LIBRARY[12 * PAGE_SIZE : 14 * PAGE_SIZE] + LIBRARY[21 * PAGE_SIZE :]
    without = len(compress(code, 19))
    by_rows = len(compress(code + LIBRARY[14 * PAGE_SIZE : 21 * PAGE_SIZE], 19))
    assert frame_of(make_table_pack()).stored_size - without < 0.7 * (by_rows - without)


@pytest.mark.parametrize(
    "plain", [CODE, b"".join(b"line %d of a text\n" % number for number in range(3000)), bytes(40_000)]
)
def test_what_is_no_table_is_stored_as_it_is(plain: bytes) -> None:
    tree = build_tree({b"": Node(Kind.FOLDER), b"file": Node(Kind.FILE, size=len(plain))})
    ids = block_id(plain)
    pages = -(-len(plain) // PAGE_SIZE)
    source = PackSource(VERSION, tree, ids)
    pack = build_pack("app", [source], [PackExtent(0, 0, 0, pages)], lambda _layer, _block: plain)
    reader = PackReader([PackLayer(VERSION, root(split(ids)), 1)])
    assert b"".join(page.plain for page in reader.feed(pack)) == plain
    assert reader.directory is not None
    assert [frame.extents for frame in reader.directory.frames] == [(PackExtent(0, 0, 0, pages),)]


@given(st.integers(0, 3), st.integers(0, 255))
def test_a_wrong_byte_for_an_extents_first_page_is_seen(extent: int, first_page: int) -> None:
    pack = with_first_page(extent, first_page)
    right = frame_of(make_table_pack()).extents[extent]
    reader = PackReader(TABLE_STACK)
    if first_page == right.first_page + 0x80 * right.by_columns:
        assert pack == make_table_pack()
        return
    with pytest.raises(FormatError):
        reader.feed(pack)


@given(st.lists(st.integers(0, len(LIBRARY) // PAGE_SIZE), min_size=1, unique=True))
def test_pages_of_a_table_come_back_in_any_order(numbers: list[int]) -> None:
    extents = [PackExtent(0, number // 16, number % 16, 1) for number in numbers]
    source = PackSource(VERSION, TABLE_TREE, BLOCK_IDS)
    reader = PackReader(TABLE_STACK)
    found = reader.feed(build_pack("app", [source], extents, lambda _layer, block: BLOCKS[block], level=1))
    assert {16 * page.block + page.page: page.plain for page in found} == {
        number: LIBRARY[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] for number in numbers
    }
