"""An update from what the cache holds: copies, delta frames, and what is left for the package."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from appclient.deltas import FIRST_BYTES, Update, delta_head_size
from appclient.heads import Head
from appclient.layer import Layer
from bubble.blockids import make_table, write_ids
from bubble.cachefile import CacheFolder
from bubble.viewimage import LayerFiles
from packageformat.deltabuild import DeltaSide, build_delta, changed_blocks
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.hashing import page_hashes
from packageformat.launchpack import BlockPages
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from tests.packagefiles import PackageFile, open_package
from tests.packages import build_package

PROGRAM = secrets.token_bytes(5 * BLOCK_SIZE + 999)
NEWS = secrets.token_hex(35_000).encode()
COMMON = secrets.token_bytes(2 * BLOCK_SIZE)


def moved(number: int) -> bytes:
    """Return the program with addresses in its first four blocks moved; the others are as they were."""
    changed = bytearray(PROGRAM)
    for place in range(0, 4 * BLOCK_SIZE, 61):
        changed[place] = (changed[place] + number) % 256
    return bytes(changed)


class Version:
    """A package file, its blocks, and a layer over a cache."""

    def __init__(self, folder: Path, cache: CacheFolder, number: int) -> None:
        files = {
            "usr/bin/program": moved(number),
            "usr/share/common": COMMON,
            f"usr/share/news-{number}": NEWS.replace(b"00", b"%d" % (90 + number)),
        }
        built = build_package(folder, "editor", files, version=str(number))
        self.file: PackageFile = open_package(built.path)
        package = self.file.package
        self.blocks = {block: plain for frame in self.file.frames() for block, plain in frame}
        for block in range(package.tree.block_count):
            if block not in self.blocks:
                name = package.block_id(block)
                self.blocks[block] = next(
                    plain for one, plain in self.blocks.items() if package.block_id(one) == name
                )
        ids = folder / f"ids-{number}"
        make_table(ids, package.tree.block_count)
        write_ids(ids, {0: package.block_ids})
        head = Head(package.outline, b"", sha256(built.path.read_bytes()).digest(), package)
        self.layer = Layer(head, cache, LayerFiles(package.version_id, folder / "no-image", ids))

    @property
    def side(self) -> DeltaSide:
        package = self.file.package
        return DeltaSide(package.version_id, package.tree, package.block_ids, self.blocks.__getitem__)

    def plain_size(self, block: int) -> int:
        package = self.file.package
        return package.frame_extent(package.layout.frame_of(block))[1]

    def keep(self, blocks: Iterable[int]) -> None:
        self.layer.write_blocks([(block, self.blocks[block]) for block in blocks], ())

    def blocks_of(self, path: bytes) -> range:
        tree = self.file.package.tree
        entry = tree.find(path)
        assert entry is not None
        return range(tree.first_block(entry), tree.first_block(entry) + tree.file_block_count(entry))


class Pair:
    def __init__(self, folder: Path) -> None:
        self.cache = CacheFolder(folder / "cache")
        self.old, self.new = Version(folder, self.cache, 1), Version(folder, self.cache, 2)
        self.delta = build_delta(self.old.side, self.new.side, self.new.plain_size, level=3)
        self.head = self.delta[: delta_head_size(self.delta[:FIRST_BYTES])]
        self.update = Update.read(self.head, self.old.layer, self.new.layer)

    @property
    def all_blocks(self) -> range:
        return range(self.new.file.package.tree.block_count)

    def fetch(self, frames: Iterable[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for span in self.update.spans(list(frames)):
            data = self.delta[span.offset : span.offset + span.size]
            for frame, start, end in span.frames:
                blocks = self.update.unpack(frame, data[start:end])
                assert blocks is not None
                found |= blocks
        return found


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_with_the_old_version_cached_all_of_the_new_one_comes_from_copies_and_the_delta(pair: Pair) -> None:
    pair.old.keep(pair.old.blocks)
    order = pair.update.order(pair.all_blocks)
    assert order.left == ()
    assert {block for block, _ in order.copies} == set(pair.new.blocks_of(b"usr/bin/program")[4:])
    program = pair.new.blocks_of(b"usr/bin/program")
    assert all(pair.new.layer.has_block(block) for block in pair.new.blocks_of(b"usr/share/common"))
    copied = [(block, pair.update.copy(block)) for block, _ in order.copies]
    pair.new.layer.write_blocks([(block, plain) for block, plain in copied if plain is not None], ())
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
    assert pair.old.layer.read_pages(last, 0, 2 * PAGE_SIZE) == plain[: 2 * PAGE_SIZE]
    assert pair.old.layer.read_pages(last, PAGE_SIZE, 3 * PAGE_SIZE) is None
    frame = pair.update.delta.frame_of(pair.new.blocks_of(b"usr/bin/program")[0])
    assert frame is not None
    assert pair.update.has_region(frame)
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
    with pytest.raises(CorruptBlockError):
        pair.update.unpack(frame, stored)
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
