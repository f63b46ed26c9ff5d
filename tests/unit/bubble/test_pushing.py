"""What a view gives the kernel unasked, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from bubble.cachefile import CacheFile, CacheFolder
from bubble.composition import write_view
from bubble.contentstore import ContentStore
from bubble.pushing import FIRST_AFTER, FIRST_BEFORE, SLICE, Pushing
from bubble.viewimage import load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.tree import build_tree

BLOCKS = 40
PLAIN = b"".join(digest(bytes([n])) * (BLOCK_SIZE // 32) for n in range(BLOCKS))[:-100]
FILE = 1
ALL = (1 << PAGES_A_BLOCK) - 1


class Taker:
    """Takes what is pushed."""

    def __init__(self) -> None:
        self.taken: dict[int, bytes] = {}
        self.twice: list[int] = []

    def push(self, node: int, offset: int, parts: list[bytes], now: float) -> None:
        assert now > 0
        assert node == FILE + 1 and offset % PAGE_SIZE == 0
        assert all(0 < len(part) <= BLOCK_SIZE for part in parts)
        data = b"".join(parts)
        for start in range(0, len(data), PAGE_SIZE):
            page = (offset + start) // PAGE_SIZE
            if page in self.taken:
                self.twice.append(page)
            self.taken[page] = data[start : start + PAGE_SIZE]


class Ground:
    def __init__(self, folder: Path) -> None:
        tree = build_tree({b"file": Node(Kind.FILE, 0o644, size=len(PLAIN))})
        ids = b"".join(block_id(self.block(number)) for number in range(BLOCKS))
        write_view(folder / "image", [(bytes(32), tree, ids)])
        image = load((folder / "image").read_bytes())
        cache = CacheFolder(folder)
        name = image.content_id(image.content(FILE))
        assert name is not None
        self.file: CacheFile = cache.create(name, len(PLAIN))
        self.taker = Taker()
        self.store = ContentStore(image, cache, 10)
        self.pushing = Pushing(self.store, self.taker)  # type: ignore[arg-type]

    @staticmethod
    def block(number: int) -> bytes:
        return PLAIN[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]

    def bring(self, *blocks: int) -> None:
        for number in blocks:
            self.file.write_block(number, self.block(number))
        self.store.refresh(FILE)

    def work(self) -> int:
        """Do all that there is; return in how many slices."""
        slices = 0
        while self.pushing.has_work:
            self.pushing.work()
            slices += 1
        for page, data in self.taker.taken.items():
            assert data == PLAIN[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
        assert not self.taker.twice
        return slices

    def pages_of(self, *blocks: int) -> set[int]:
        return {block * PAGES_A_BLOCK + page for block in blocks for page in range(PAGES_A_BLOCK)}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_what_came_of_an_expected_file_is_pushed_once_the_kernel_knows_it_and_nothing_else(ground):
    ground.bring(*range(0, BLOCKS, 2))  # as an older version's launch has left it
    ground.pushing.expect([FILE])
    ground.pushing.came(FILE, {0: 1, 4: ALL})
    ground.pushing.came(FILE, {0: ALL})
    assert not ground.pushing.has_work, "the kernel does not know it yet"
    ground.pushing.met(FILE)
    ground.work()
    assert set(ground.taker.taken) == ground.pages_of(0, 4)
    ground.pushing.met(FILE)
    assert not ground.pushing.has_work


def test_what_comes_of_a_file_that_the_kernel_knows_is_pushed_from_when_it_is_expected(ground):
    ground.bring(2, 6)
    ground.pushing.met(FILE)
    ground.pushing.came(FILE, {6: ALL})
    assert not ground.pushing.has_work, "nobody expects it"
    ground.pushing.expect([FILE])
    assert not ground.pushing.has_work
    ground.pushing.came(FILE, {2: ALL})
    ground.work()
    assert set(ground.taker.taken) == ground.pages_of(2)


def test_what_comes_for_a_file_in_use_is_pushed_and_nothing_twice(ground):
    ground.pushing.expect([FILE])
    ground.pushing.came(FILE, {0: ALL})
    assert not ground.pushing.has_work, "the kernel does not know the file"
    ground.pushing.met(FILE)
    ground.work()
    ground.bring(1, 2, 3, 7)
    ground.pushing.came(FILE, {3: ALL, 1: ALL, 2: ALL, 7: ALL, BLOCKS + 5: 1})
    ground.work()
    assert set(ground.taker.taken) == ground.pages_of(1, 2, 3, 7)
    ground.pushing.came(FILE, {1: ALL})
    assert not ground.pushing.has_work


def test_another_file_is_pushed_only_around_reads_and_those_come_first(ground):
    ground.bring(*range(BLOCKS))
    ground.pushing.met(FILE)
    assert not ground.pushing.has_work, "nobody has read of it, and no pack holds it"
    ground.pushing.read(FILE, 0, PAGE_SIZE)
    ground.pushing.came(FILE, {BLOCKS - 1: ALL})
    ground.pushing.work()
    assert max(ground.taker.taken) <= SLICE
    ground.work()
    assert 0 not in ground.taker.taken, "the reader has it"
    expected = set(range(1, FIRST_AFTER)) | ground.pages_of(BLOCKS - 1)
    assert set(ground.taker.taken) == expected


def test_what_follows_a_read_is_pushed_before_what_precedes_it(ground):
    ground.bring(*range(BLOCKS))
    ground.pushing.read(FILE, 100 * PAGE_SIZE, PAGE_SIZE)
    ground.pushing.work()
    assert set(ground.taker.taken) == set(range(101, 100 + SLICE))
    ground.work()
    assert min(ground.taker.taken) == 100 - FIRST_BEFORE


def test_damage_in_the_cache_is_never_pushed(ground):
    ground.bring(0, 1)
    damaged = bytearray(ground.file.place.read_bytes())
    damaged[BLOCK_SIZE + 4000] ^= 1
    ground.file.place.write_bytes(damaged)
    ground.pushing.expect([FILE])
    ground.pushing.met(FILE)
    ground.pushing.came(FILE, {0: ALL, 1: ALL})
    ground.work()
    assert set(ground.taker.taken) == ground.pages_of(0)


def test_an_order_is_pushed_block_by_block_in_its_order_once_the_kernel_knows_the_file(ground):
    ground.bring(0, 1, 5)
    order = [(FILE, 5 * PAGES_A_BLOCK + 2, 2), (FILE, 14, 4), (FILE, 5 * PAGES_A_BLOCK + 9, 1), (FILE, 50, 3)]
    ground.pushing.plan(order)
    ground.work()
    assert not ground.taker.taken, "the kernel does not know it yet"
    ground.pushing.met(FILE)
    ground.work()
    pages = [5 * PAGES_A_BLOCK + page for page in (2, 3, 9)] + [14, 15, 16, 17]
    assert list(ground.taker.taken) == pages, "of block 3 nothing is here"
    ground.bring(3)
    ground.pushing.came(FILE, {3: 1 << 2 | 1 << 7})
    ground.work()
    assert set(ground.taker.taken) == {*pages, 50, 51, 52, 55}, "what was foreseen before, and what came"


def test_around_a_read_comes_what_is_foreseen_and_else_what_is_here(ground):
    ground.bring(*range(BLOCKS))
    ground.pushing.plan([(FILE, 10, 5), (FILE, 200, 1)])
    ground.pushing.met(FILE)
    ground.pushing._backlog.clear()  # its turn is far
    ground.pushing.read(FILE, 11 * PAGE_SIZE, PAGE_SIZE)
    ground.work()
    assert set(ground.taker.taken) == {10, 12, 13, 14}
    ground.pushing.read(FILE, 100 * PAGE_SIZE, PAGE_SIZE)  # which nobody foresaw
    ground.work()
    assert set(ground.taker.taken) == {10, 12, 13, 14, *range(92, 156)} - {100}


def test_an_order_of_another_view_is_of_no_use_and_does_no_harm(ground):
    ground.bring(0)
    last = BLOCKS * PAGES_A_BLOCK
    foreign = [(1 << 60, 0, 1), (0, 0, 5), (FILE, last - 1, 1 << 31), (FILE, last + 7, 2)]
    ground.pushing.plan([*foreign, (FILE, 0, 1)])
    ground.pushing.met(FILE)
    ground.work()
    assert set(ground.taker.taken) == {0}
