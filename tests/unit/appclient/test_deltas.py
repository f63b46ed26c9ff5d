"""An update from what the cache holds: copies, delta frames, and what is left for the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from appclient.deltas import Update
from packageformat.deltabuild import changed_blocks
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import page_hashes
from packageformat.launchpack import BlockPages
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from tests.updatepair import PROGRAM, Pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_with_the_old_version_cached_all_of_the_new_one_comes_from_copies_and_the_delta(pair: Pair) -> None:
    pair.old.keep(pair.old.blocks)
    order = pair.update.order(pair.all_blocks)
    assert order.left == ()
    assert set(order.copies) == set(pair.new.blocks_of(b"usr/bin/program")[4:])
    program = pair.new.blocks_of(b"usr/bin/program")
    assert all(pair.new.layer.has_block(block) for block in pair.new.blocks_of(b"usr/share/common"))
    pair.new.layer.write_blocks(pair.update.copies(order.copies), ())
    pair.new.layer.write_blocks(pair.fetch(order.frames).items(), ())
    assert all(pair.new.layer.read_block(block) == pair.new.blocks[block] for block in pair.all_blocks)
    assert order.delta_bytes < order.plain_bytes
    after = pair.update.order(pair.all_blocks)
    assert (after.copies, after.frames, after.left) == ((), (), ())
    moved_frames = {pair.update.delta.frame_of(block) for block in program[:4]}
    assert sum(pair.update.delta.place(frame or 0)[1] for frame in moved_frames) < BLOCK_SIZE


def test_frames_come_in_the_order_of_their_use_and_old_pages_that_are_not_here_leave_blocks(
    pair: Pair,
) -> None:
    news = pair.new.blocks_of(b"usr/share/news-2")
    program = pair.new.blocks_of(b"usr/bin/program")
    assert pair.update.order(program).left == tuple(program)  # nothing is cached
    pair.old.keep(pair.old.blocks)
    forwards = pair.update.order([program[0], *news]).frames
    backwards = pair.update.order([*news, program[0]]).frames
    assert len(forwards) > 1
    assert (forwards[0], backwards[-1]) == (backwards[-1], pair.update.delta.frame_of(program[0]))
    pair.old.layer.forget_block(pair.old.blocks_of(b"usr/bin/program")[0])
    assert program[0] in pair.update.order(program).left
    frame = pair.update.delta.frame_of(program[0])
    assert frame is not None
    offset, size = pair.update.delta.place(frame)
    assert pair.update.unpack(frame, pair.delta[offset : offset + size]) is None


def test_pages_are_enough_where_a_frame_needs_no_more(pair: Pair) -> None:
    program = pair.old.blocks_of(b"usr/bin/program")
    pair.old.keep(program[:4])
    last = program[4]
    plain = pair.old.blocks[last]
    pages = {0: plain[:PAGE_SIZE], 1: plain[PAGE_SIZE : 2 * PAGE_SIZE]}
    pair.old.layer.write_pages([BlockPages(0, last, page_hashes(plain), pages)])
    with pair.old.layer.reading() as read:
        assert read(last, 0, 2 * PAGE_SIZE) == plain[: 2 * PAGE_SIZE]
        assert read(last, PAGE_SIZE, 3 * PAGE_SIZE) is None
    frame = pair.update.delta.frame_of(pair.new.blocks_of(b"usr/bin/program")[0])
    assert frame is not None
    assert pair.update.has_region(frame, pair.old.layer.look_here())
    assert pair.fetch([frame])


def test_damage_in_the_delta_or_the_cache_gives_no_block(pair: Pair) -> None:
    pair.old.keep(pair.old.blocks)
    frame = pair.update.delta.frame_of(pair.new.blocks_of(b"usr/bin/program")[0])
    assert frame is not None
    offset, size = pair.update.delta.place(frame)
    stored = pair.delta[offset : offset + size]
    assert pair.update.unpack(frame, stored)
    with pytest.raises(CorruptBlockError):
        pair.update.unpack(frame, stored[:-1])
    content = next(place for _, place in pair.cache.contents() if place.stat().st_size == len(PROGRAM))
    with content.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\x00\xff\x00")
    unpacked = pair.update.unpack(frame, stored)
    assert unpacked is not None
    with pytest.raises(CorruptBlockError):
        for block in unpacked.blocks:
            unpacked.block(block)
    with pytest.raises(FormatError):
        Update.read(pair.head[:-1], pair.old.layer, pair.new.layer)
    with pytest.raises(FormatError, match="other versions"):
        Update.read(pair.head, pair.new.layer, pair.old.layer)


def test_near_frames_share_a_request(pair: Pair) -> None:
    frames = range(len(pair.update.delta.directory.frames))
    (whole,) = pair.update.spans(list(frames))
    assert (whole.offset, whole.offset + whole.size) == (len(pair.head), len(pair.delta))
    apart = pair.update.spans(list(frames), size_max=1)
    assert [span.frames[0][0] for span in apart] == list(frames)
    assert len(changed_blocks(pair.old.side, pair.new.side)) == 4 + 2
    assert [span.frames[0][0] for span in pair.update.spans([*frames][::-1])] == [*frames][::-1]
