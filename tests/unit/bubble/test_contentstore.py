from __future__ import annotations

from pathlib import Path

import pytest

from bubble.cachefile import CacheFile, CacheFolder
from bubble.composition import write_view
from bubble.contentstore import ContentStore, Lack
from bubble.viewimage import ViewImage, load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest, page_hashes
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.tree import Tree, build_tree

SIZE = 2 * BLOCK_SIZE + 5000
PLAIN = (digest(b"content") * (SIZE // 32 + 1))[:SIZE]
BLOCKS = [PLAIN[start : start + BLOCK_SIZE] for start in range(0, SIZE, BLOCK_SIZE)]


FILE = 1
"""The file's node: the first entry of the first layer after the root."""

WHOLE = (1 << 16) - 1
REST = 0b11  # the pages of the last block


def image_in(folder: Path, tree: Tree, ids: bytes) -> ViewImage:
    write_view(folder / "image", [(bytes(32), tree, ids)])
    return load((folder / "image").read_bytes())


@pytest.fixture
def cached(tmp_path: Path) -> tuple[ContentStore, CacheFile]:
    tree = build_tree({b"file": Node(Kind.FILE, 0o644, size=SIZE)})
    image = image_in(tmp_path, tree, b"".join(map(block_id, BLOCKS)))
    cache = CacheFolder(tmp_path)
    node = image.find(b"file") or 0
    assert node == FILE
    return ContentStore(image, cache, 10), cache.create(image.content_id(image.content(node)) or b"", SIZE)


def test_a_read_names_the_blocks_that_it_lacks(cached):
    store, file = cached
    assert store.lacks(FILE, 0, SIZE) == [
        (0, WHOLE, Lack.MISSING),
        (1, WHOLE, Lack.MISSING),
        (2, REST, Lack.MISSING),
    ]
    file.write_block(1, BLOCKS[1])
    assert store.lacks(FILE, 0, SIZE) == [(0, WHOLE, Lack.MISSING), (2, REST, Lack.MISSING)]
    assert store.lacks(FILE, BLOCK_SIZE, BLOCK_SIZE) == []
    assert store.read(FILE, BLOCK_SIZE + 7, 100) == BLOCKS[1][7:107]
    file.write_block(0, BLOCKS[0])
    file.write_block(2, BLOCKS[2])
    store.refresh(FILE)
    assert store.lacks(FILE, 0, SIZE) == []
    assert store.read(FILE, 0, SIZE) == PLAIN


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_flipped_byte_in_a_whole_block_is_damage(cached, block):
    store, file = cached
    for number, plain in enumerate(BLOCKS):
        file.write_block(number, plain)
    damaged = bytearray(file.place.read_bytes())
    damaged[block * BLOCK_SIZE + 4000] ^= 1
    file.place.write_bytes(damaged)
    assert store.lacks(FILE, 0, SIZE) == [(block, REST if block == 2 else WHOLE, Lack.DAMAGED)]


def test_single_pages_are_served_when_the_block_is_not_whole(cached):
    store, file = cached
    pages = {number: BLOCKS[0][number * PAGE_SIZE :][:PAGE_SIZE] for number in (3, 4)}
    file.write_pages(0, page_hashes(BLOCKS[0]), pages)
    assert store.lacks(FILE, 3 * PAGE_SIZE, 2 * PAGE_SIZE) == []
    assert store.lacks(FILE, 3 * PAGE_SIZE + 5, 10) == []
    assert store.lacks(FILE, 2 * PAGE_SIZE, 2 * PAGE_SIZE) == [(0, 0b1100, Lack.MISSING)]
    assert store.lacks(FILE, 5 * PAGE_SIZE, 1) == [(0, 0b100000, Lack.MISSING)]


def test_a_flipped_byte_in_a_page_of_a_half_filled_block_is_damage(cached):
    store, file = cached
    file.write_pages(0, page_hashes(BLOCKS[0]), {3: BLOCKS[0][3 * PAGE_SIZE :][:PAGE_SIZE]})
    with file.place.open("r+b") as data:
        data.seek(3 * PAGE_SIZE + 17)
        data.write(b"\xff\xfe")
    assert store.lacks(FILE, 3 * PAGE_SIZE, 10) == [(0, 0b1000, Lack.DAMAGED)]


def test_forged_page_hashes_in_the_map_are_damage(cached):
    store, file = cached
    other = bytes(BLOCK_SIZE)
    file.write_pages(0, page_hashes(other), {3: bytes(PAGE_SIZE)})
    assert store.lacks(FILE, 3 * PAGE_SIZE, 10) == [(0, 0b1000, Lack.DAMAGED)]


def found(store, first_page: int, pages: int, besides=(0, 0, 0)) -> list[tuple[int, int]]:
    """Return the runs that are there, as first page and count, having looked at their bytes."""
    runs = []
    end = min(first_page + pages, -(-SIZE // PAGE_SIZE))
    asked = [
        sum(1 << page for page in range(PAGES_A_BLOCK) if first_page <= PAGES_A_BLOCK * block + page < end)
        & ~besides[block]
        for block in range(len(BLOCKS))
    ]
    start = min(first_page // PAGES_A_BLOCK, len(BLOCKS) - 1)
    for page, parts in store.verified(FILE, start, asked[start:]):
        data = b"".join(parts)
        assert data == PLAIN[page * PAGE_SIZE :][: len(data)]
        assert len(data) % PAGE_SIZE == 0 or page * PAGE_SIZE + len(data) == SIZE
        runs.append((page, -(-len(data) // PAGE_SIZE)))
    return runs


def test_pages_that_are_here_are_found_as_runs_and_damaged_ones_left_out(cached):
    store, file = cached
    assert found(store, 0, 1000) == []
    pages = {number: BLOCKS[0][number * PAGE_SIZE :][:PAGE_SIZE] for number in (3, 4, 7, 14, 15)}
    file.write_pages(0, page_hashes(BLOCKS[0]), pages)
    file.write_pages(1, page_hashes(BLOCKS[1]), {0: BLOCKS[1][:PAGE_SIZE]})
    assert found(store, 0, 1000) == [(3, 2), (7, 1), (14, 3)]
    assert found(store, 4, 11) == [(4, 1), (7, 1), (14, 1)]
    assert found(store, 0, 1000, (1 << 4 | 1 << 14, 0, 0)) == [(3, 1), (7, 1), (15, 2)]
    assert found(store, 40, 0) == found(store, 1000, 10) == []
    file.write_block(2, BLOCKS[2])
    with file.place.open("r+b") as data:
        data.seek(2 * BLOCK_SIZE)
        data.write(b"\xff\xfe")
    assert found(store, 30, 20) == []


def test_of_a_block_that_is_damaged_what_was_verified_before_is_found(cached):
    store, file = cached
    file.write_pages(0, page_hashes(BLOCKS[0]), {2: BLOCKS[0][2 * PAGE_SIZE :][:PAGE_SIZE]})
    assert found(store, 0, 16) == [(2, 1)]
    file.write_pages(0, page_hashes(BLOCKS[0]), {3: bytes(PAGE_SIZE)})
    assert found(store, 0, 16) == [(2, 1)]
    assert store.lacks(FILE, 3 * PAGE_SIZE, 1) == [(0, 1 << 3, Lack.DAMAGED)]


def test_a_whole_file_is_found_in_one_run_to_its_last_byte(cached):
    store, file = cached
    for number, plain in enumerate(BLOCKS):
        file.write_block(number, plain)
    store.refresh(FILE)
    assert found(store, 0, 1000) == [(0, -(-SIZE // PAGE_SIZE))]
    assert found(store, 17, 2) == [(17, 2)]


def test_a_block_that_becomes_whole_or_goes_is_seen_through_an_open_map(cached):
    store, file = cached
    file.write_pages(0, page_hashes(BLOCKS[0]), {0: BLOCKS[0][:PAGE_SIZE]})
    assert store.lacks(FILE, 0, PAGE_SIZE) == []
    for number, plain in enumerate(BLOCKS):
        file.write_block(number, plain)
    store.refresh(FILE)
    assert store.lacks(FILE, 0, SIZE) == []
    file.forget_block(1)
    store.distrust(FILE, 1)
    assert store.lacks(FILE, BLOCK_SIZE, 1) == [(1, 1, Lack.MISSING)]


def test_few_descriptors_suffice_for_many_contents(tmp_path):
    plains = [digest(str(number).encode()) * 10 for number in range(50)]
    tree = build_tree({b"%03d" % n: Node(Kind.FILE, 0o644, size=320) for n in range(50)})
    image = image_in(tmp_path, tree, b"".join(map(block_id, plains)))
    cache = CacheFolder(tmp_path)
    for number, plain in enumerate(plains, 1):
        cache.create(image.content_id(image.content(number)) or b"", 320).write_block(0, plain)
    store = ContentStore(image, cache, 8)
    for _ in range(2):
        for number, plain in enumerate(plains, 1):
            assert store.lacks(number, 0, 320) == []
            assert store.read(number, 0, 320) == plain
    store.close()
