"""Frames of a launch pack read out of order, for those who have some of its pages already."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.hashing import page_hashes
from packageformat.launchpack import PREAMBLE_SIZE, MissingHashesError, PackExtent, PackReader, directory_end
from packageformat.limits import PAGE_SIZE
from packageformat.packbuild import PackSource, build_pack
from tests.vectors.sample import SAMPLE, STACK

TREE = SAMPLE.package.tree
SOURCE = PackSource(SAMPLE.package.version_id, TREE, SAMPLE.package.block_ids)
PAGES = [
    (block, page)
    for block in range(TREE.block_count)
    for page in range(-(-TREE.block_size(block) // PAGE_SIZE))
]
EXTENTS = [PackExtent(0, block, page, 1) for block, page in PAGES[::3] + PAGES[1::3] + PAGES[2::3]]
PACK = build_pack("app", [SOURCE], EXTENTS, lambda _layer, block: SAMPLE.blocks[block])


def opened() -> PackReader:
    reader = PackReader(STACK, "app")
    assert reader.feed(PACK[: directory_end(PACK[:PREAMBLE_SIZE])]) == []
    return reader


def known(_layer: int, block: int) -> bytes:
    return page_hashes(SAMPLE.blocks[block])


def part(reader: PackReader, frame: int) -> bytes:
    start, size = reader.frame_places()[frame]
    return PACK[start : start + size]


def test_the_frames_make_up_the_pack() -> None:
    places = opened().frame_places()
    assert len(places) > 2
    assert places[0][0] == directory_end(PACK)
    assert all(sum(one) == following[0] for one, following in itertools.pairwise(places))
    assert sum(places[-1]) == len(PACK)


@given(st.permutations(range(len(opened().frame_places()))))
def test_frames_verify_in_any_order_for_those_who_know_the_hashes(order: list[int]) -> None:
    reader = opened()
    found = {}
    for frame in order:
        for one in reader.read_frame(frame, part(reader, frame), known):
            assert one.hashes == page_hashes(SAMPLE.blocks[one.block])
            found.update({(one.block, page): plain for page, plain in one.pages.items()})
    for block, page in PAGES:
        assert found[block, page] == SAMPLE.blocks[block][page * PAGE_SIZE : (page + 1) * PAGE_SIZE]


def test_without_the_hashes_an_earlier_frame_is_asked_for() -> None:
    reader = opened()
    last = len(reader.frame_places()) - 1
    with pytest.raises(MissingHashesError):
        reader.read_frame(last, part(reader, last))
    with pytest.raises(MissingHashesError):
        reader.read_frame(last, part(reader, last), lambda *_: bytes(32 * 16))
    for frame in sorted(reader.first_frames(last)):
        reader.read_frame(frame, part(reader, frame))
    assert reader.read_frame(last, part(reader, last))


@given(st.data())
def test_a_flipped_bit_in_a_frame_gives_none_of_its_pages(data: st.DataObject) -> None:
    reader = opened()
    frame = data.draw(st.integers(0, len(reader.frame_places()) - 1))
    damaged = bytearray(part(reader, frame))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FormatError):
        reader.read_frame(frame, bytes(damaged), known)
    assert reader.read_frame(frame, part(reader, frame), known)


@pytest.mark.parametrize("head", [b"", PACK[:10], b"X" + PACK[1:64], PACK[:12] + b"\xff" * 4 + PACK[16:64]])
def test_what_is_no_preamble_is_refused(head: bytes) -> None:
    with pytest.raises(FormatError):
        directory_end(head)
