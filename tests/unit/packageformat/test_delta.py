"""Deltas: every block comes back; never larger than plain; nothing wrong is ever given."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packageformat.compression import compress
from packageformat.delta import (
    PREAMBLE_SIZE,
    Delta,
    DeltaFrame,
    OldPages,
    PageNumbers,
    decode_delta,
    delta_head_size,
    read_region,
    unpack_delta_frame,
)
from packageformat.deltabuild import DeltaSide, build_delta, changed_blocks, pair_files
from packageformat.deltadirectory import DeltaDirectory, decode_directory, encode_directory
from packageformat.deltaframe import encode_delta_frame
from packageformat.deltamatch import OldFile, Segment, find_segments
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import block_id, digest
from packageformat.hashtree import split
from packageformat.lanes import add_bytes, subtract_bytes, unequal_bytes
from packageformat.limits import BLOCK_SIZE, DELTA_REGION_MAX, PAGE_SIZE
from packageformat.tree import Kind, Node, build_tree
from tests.vectors.sample import NEW, OLD, SAMPLE, make_delta, plain_blocks

SAMPLE_DELTA = make_delta()


def side(name: bytes, contents: Mapping[bytes, bytes]) -> DeltaSide:
    tree = build_tree({path: Node(Kind.FILE, 0o644, size=len(plain)) for path, plain in contents.items()})
    blocks = plain_blocks(tree, dict(contents))
    return DeltaSide(digest(name), tree, b"".join(map(block_id, blocks)), blocks.__getitem__)


def made(old: DeltaSide, new: DeltaSide) -> tuple[bytes, Delta]:
    data = build_delta(old, new, lambda block: len(compress(new.read_block(block))), level=3)
    head = data[: delta_head_size(data[:PREAMBLE_SIZE])]
    return data, decode_delta(head, new.tree, new.version_id, PageNumbers(old.tree), old.version_id)


def given_by(data: bytes, delta: Delta, old: DeltaSide, new: DeltaSide) -> dict[int, bytes]:
    pages = PageNumbers(old.tree)
    found: dict[int, bytes] = {}
    for number, frame in enumerate(delta.directory.frames):
        region = read_region(frame, pages, lambda block, start, end: old.read_block(block)[start:end])
        assert region is not None
        offset, size = delta.place(number)
        stored = data[offset : offset + size]
        found |= unpack_delta_frame(frame, new.tree, split(new.block_ids).__getitem__, stored, region)
    return found


@given(st.binary(max_size=300), st.data())
def test_sums_and_differences_are_those_of_each_byte(first: bytes, data: st.DataObject) -> None:
    second = data.draw(st.binary(min_size=len(first), max_size=len(first)))
    pairs = list(zip(first, second, strict=True))
    assert add_bytes(first, second) == bytes((a + b) % 256 for a, b in pairs)
    assert subtract_bytes(first, second) == bytes((a - b) % 256 for a, b in pairs)
    assert [byte == 0 for byte in unequal_bytes(first, second)] == [a == b for a, b in pairs]


@st.composite
def edits(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return an old and a new file: pieces moved, bytes changed, pieces put in and taken away."""
    source = random.Random(draw(st.integers(0, 2**32)))
    old = source.randbytes(draw(st.sampled_from([0, 10, 4096, 65536, 65537, 150_000])))
    new = bytearray(old)
    for _ in range(draw(st.integers(0, 6))):
        place = source.randrange(len(new) + 1)
        match source.randrange(4):
            case 0:
                new[place:place] = source.randbytes(source.randrange(1, 3000))
            case 1:
                del new[place : place + source.randrange(1, 3000)]
            case 2:
                for other in range(place, len(new), source.randrange(20, 200)):
                    new[other] = (new[other] + 64) % 256
            case _:
                start = source.randrange(len(new) + 1)
                new[place:place] = new[start : start + source.randrange(1, 9000)]
    return old, bytes(new)


@settings(max_examples=40)
@given(st.lists(edits(), min_size=1, max_size=4))
def test_whatever_changed_comes_back_and_is_never_larger_than_plain(files: list[tuple[bytes, bytes]]) -> None:
    old = side(b"old", {b"file%d" % number: before for number, (before, _) in enumerate(files)})
    new = side(b"new", {b"file%d" % number: after for number, (_, after) in enumerate(files)})
    data, delta = made(old, new)
    assert delta.size == len(data)
    found = given_by(data, delta, old, new)
    assert found.items() <= {block: new.read_block(block) for block in changed_blocks(old, new)}.items()
    for frame in delta.directory.frames:
        plain = [len(compress(new.read_block(block))) for block in frame.blocks]
        assert frame.stored_size <= max(plain)
        assert all(delta.frame_of(block) is not None for block in frame.blocks)
    for block in set(changed_blocks(old, new)) - found.keys():
        assert delta.frame_of(block) is None


@settings(max_examples=60)
@given(edits())
def test_segments_are_in_order_and_inside_both_files(files: tuple[bytes, bytes]) -> None:
    old, new = files
    block = new[:BLOCK_SIZE]
    segments, _ = find_segments(block, OldFile(old), 0)
    reached = 0
    for segment in segments:
        assert segment.start >= reached
        reached = segment.start + segment.size
        assert segment.size > 0
        assert 0 <= segment.old_start <= segment.old_start + segment.size <= len(old)
        here = block[segment.start : reached]
        there = old[segment.old_start : segment.old_start + segment.size]
        assert 2 * unequal_bytes(here, there).count(0) >= segment.size - 2 * PAGE_SIZE
    assert reached <= len(block)


def test_addresses_that_moved_cost_a_fraction_of_copies_and_new_bytes() -> None:
    source = random.Random(5)
    old = bytearray(source.randbytes(BLOCK_SIZE * 4))
    new = bytearray(old)
    for place in range(0, len(new) - 4, 24):
        address = int.from_bytes(new[place : place + 4], "little")
        new[place : place + 4] = ((address + 0x140) % 2**32).to_bytes(4, "little")
    new[1000:1000] = source.randbytes(64)
    before, after = side(b"old", {b"lib": bytes(old)}), side(b"new", {b"lib": bytes(new)})
    data, delta = made(before, after)
    assert given_by(data, delta, before, after).keys() == set(changed_blocks(before, after))
    region = compress(bytes(new[:BLOCK_SIZE]), 19, bytes(old[: 2 * BLOCK_SIZE]))
    assert len(data) < 3 * len(region)  # of four blocks


@given(st.integers(0, len(SAMPLE_DELTA) - 1), st.integers(0, 7))
def test_no_flipped_bit_gives_a_wrong_block(place: int, bit: int) -> None:
    damaged = bytearray(SAMPLE_DELTA)
    damaged[place] ^= 1 << bit
    data = bytes(damaged)
    try:
        head = data[: delta_head_size(data)]
        delta = decode_delta(head, NEW.tree, NEW.version_id, PageNumbers(OLD.tree), OLD.version_id)
        found = given_by(data, delta, OLD, NEW)
    except FormatError:
        return
    assert all(plain == SAMPLE.blocks[block] for block, plain in found.items())


@given(st.data())
def test_old_bytes_that_are_not_right_give_no_wrong_block(data: st.DataObject) -> None:
    pages = PageNumbers(OLD.tree)
    head = SAMPLE_DELTA[: delta_head_size(SAMPLE_DELTA)]
    delta = decode_delta(head, NEW.tree, NEW.version_id, pages, OLD.version_id)
    number = data.draw(st.integers(0, len(delta.directory.frames) - 1))
    frame = delta.directory.frames[number]
    region = read_region(frame, pages, lambda block, start, end: OLD.read_block(block)[start:end])
    assert region is not None
    wrong = bytearray(region)
    if wrong:
        wrong[data.draw(st.integers(0, len(wrong) - 1))] ^= data.draw(st.integers(1, 255))
    wrong = wrong[: data.draw(st.integers(0, len(wrong)))]
    offset, size = delta.place(number)
    stored = SAMPLE_DELTA[offset : offset + size]
    try:
        found = unpack_delta_frame(frame, NEW.tree, SAMPLE.package.block_id, stored, bytes(wrong))
    except CorruptBlockError:
        return
    assert all(plain == SAMPLE.blocks[block] for block, plain in found)


def test_a_region_of_which_a_page_is_not_to_be_had_is_none() -> None:
    pages = PageNumbers(OLD.tree)
    frame = DeltaFrame((0,), (OldPages(0, 20),), 1, 5)
    asked: list[tuple[int, int, int]] = []

    def read_old(block: int, start: int, end: int) -> bytes | None:
        asked.append((block, start, end))
        return None if block else OLD.read_block(block)[start:end]

    assert read_region(frame, pages, read_old) is None
    assert asked == [(0, 0, BLOCK_SIZE), (1, 0, 4 * PAGE_SIZE)]


def test_pages_are_numbered_through_all_blocks() -> None:
    pages = PageNumbers(side(b"x", {b"a": bytes(5000), b"b": bytes(BLOCK_SIZE + 1), b"c": b"1"}).tree)
    assert pages.count == 2 + 17 + 1
    assert list(pages.parts(OldPages(1, 19))) == [(0, 4096, 5000), (1, 0, BLOCK_SIZE), (2, 0, 1), (3, 0, 1)]
    with pytest.raises(IndexError):
        list(pages.parts(OldPages(19, 2)))


def test_a_directory_is_read_as_it_was_written() -> None:
    frames = (
        DeltaFrame((7, 3), (OldPages(9, 2), OldPages(0, 1)), 4, 100),
        DeltaFrame((5,), (), 0, 1),
    )
    directory = DeltaDirectory(bytes(32), b"\1" * 32, frames)
    assert decode_directory(encode_directory(directory)) == directory
    assert directory.frame_of == {7: 0, 3: 0, 5: 1}


def test_a_delta_that_does_not_fit_its_versions_is_refused() -> None:
    pages = PageNumbers(OLD.tree)
    head = SAMPLE_DELTA[: delta_head_size(SAMPLE_DELTA)]
    with pytest.raises(FormatError, match="other versions"):
        decode_delta(head, NEW.tree, bytes(32), pages, OLD.version_id)
    with pytest.raises(FormatError, match="not there"):
        decode_delta(head, side(b"x", {b"a": b"b"}).tree, NEW.version_id, pages, OLD.version_id)
    whole = DeltaFrame((0,), (OldPages(0, DELTA_REGION_MAX // PAGE_SIZE + 1),), 1, 5)
    with pytest.raises(FormatError, match="old pages"):
        DeltaDirectory(bytes(32), b"\1" * 32, (whole,)).check(pages, NEW.tree)


@pytest.mark.parametrize(
    "segment",
    [Segment(0, 65536, 1), Segment(10, 10, 70_000), Segment(65530, 7, 0), Segment(0, 1, -1)],
)
def test_a_segment_outside_its_block_or_region_is_refused(segment: Segment) -> None:
    plain, region = SAMPLE.blocks[0], SAMPLE.blocks[1]
    good = encode_delta_frame([plain], [[Segment(0, 16, 0)]], region, 3)
    frame = DeltaFrame((0,), (OldPages(0, 16),), 1, len(good))
    assert unpack_delta_frame(frame, NEW.tree, SAMPLE.package.block_id, good, region)[0][1] == plain
    control = (
        (1).to_bytes(2, "little")
        + segment.start.to_bytes(2, "little")
        + (segment.size - 1).to_bytes(2, "little")
        + (segment.old_start - segment.start).to_bytes(4, "little", signed=True)
    )
    bad = compress(control + bytes(len(plain)), 3, region)
    with pytest.raises(CorruptBlockError, match=r"segment that is not there|does not give"):
        unpack_delta_frame(frame, NEW.tree, SAMPLE.package.block_id, bad, region)


def test_files_are_paired_by_path_then_by_path_and_name_without_numbers() -> None:
    old = build_tree(
        {
            b"lib": Node(Kind.FOLDER),
            b"lib/liba.so.3.1": Node(Kind.FILE, size=100),
            b"lib/liba.so.3.0": Node(Kind.FILE, size=500),
            b"lib/same": Node(Kind.FILE, size=1),
            b"tool-1": Node(Kind.FILE, size=9),
        }
    )
    new = build_tree(
        {
            b"bin": Node(Kind.FOLDER),
            b"bin/tool-2": Node(Kind.FILE, size=9),
            b"lib": Node(Kind.FOLDER),
            b"lib/liba.so.4.2": Node(Kind.FILE, size=120),
            b"lib/other": Node(Kind.FILE, size=120),
            b"lib/same": Node(Kind.FILE, size=7),
        }
    )
    named = {new.path(entry): old.path(before) for entry, before in pair_files(old, new).items()}
    assert named == {
        b"lib/same": b"lib/same",
        b"lib/liba.so.4.2": b"lib/liba.so.3.1",
        b"bin/tool-2": b"tool-1",
    }


def test_versions_without_a_change_make_a_delta_without_frames() -> None:
    old, new = side(b"old", {b"a": b"same"}), side(b"new", {b"b": b"same"})
    data, delta = made(old, new)
    assert delta.directory.frames == ()
    assert delta.size == len(data)
