from __future__ import annotations

from pathlib import Path

import pytest

from bubble.cachefile import CacheFile, CacheFolder
from bubble.composition import compose
from bubble.contentstore import ContentStore, Lack
from bubble.viewimage import load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest, page_hashes
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.tree import build_tree

SIZE = 2 * BLOCK_SIZE + 5000
PLAIN = (digest(b"content") * (SIZE // 32 + 1))[:SIZE]
BLOCKS = [PLAIN[start : start + BLOCK_SIZE] for start in range(0, SIZE, BLOCK_SIZE)]


@pytest.fixture
def cached(tmp_path: Path) -> tuple[ContentStore, CacheFile]:
    tree = build_tree({b"file": Node(Kind.FILE, 0o644, size=SIZE)})
    image = load(compose([(bytes(32), tree, b"".join(map(block_id, BLOCKS)))]))
    cache = CacheFolder(tmp_path)
    return ContentStore(image, cache, 10), cache.create(image.content(0).content_id, SIZE)


def test_a_read_names_the_blocks_that_it_lacks(cached):
    store, file = cached
    assert store.lacks(0, 0, SIZE) == [(0, Lack.MISSING), (1, Lack.MISSING), (2, Lack.MISSING)]
    file.write_block(1, BLOCKS[1])
    assert store.lacks(0, 0, SIZE) == [(0, Lack.MISSING), (2, Lack.MISSING)]
    assert store.lacks(0, BLOCK_SIZE, BLOCK_SIZE) == []
    assert store.read(0, BLOCK_SIZE + 7, 100) == BLOCKS[1][7:107]
    file.write_block(0, BLOCKS[0])
    file.write_block(2, BLOCKS[2])
    store.refresh(0)
    assert store.lacks(0, 0, SIZE) == []
    assert store.read(0, 0, SIZE) == PLAIN


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_flipped_byte_in_a_whole_block_is_damage(cached, block):
    store, file = cached
    for number, plain in enumerate(BLOCKS):
        file.write_block(number, plain)
    damaged = bytearray(file.place.read_bytes())
    damaged[block * BLOCK_SIZE + 4000] ^= 1
    file.place.write_bytes(damaged)
    assert store.lacks(0, 0, SIZE) == [(block, Lack.DAMAGED)]


def test_single_pages_are_served_when_the_block_is_not_whole(cached):
    store, file = cached
    pages = {number: BLOCKS[0][number * PAGE_SIZE :][:PAGE_SIZE] for number in (3, 4)}
    file.write_pages(0, page_hashes(BLOCKS[0]), pages)
    assert store.lacks(0, 3 * PAGE_SIZE, 2 * PAGE_SIZE) == []
    assert store.lacks(0, 3 * PAGE_SIZE + 5, 10) == []
    assert store.lacks(0, 2 * PAGE_SIZE, 2 * PAGE_SIZE) == [(0, Lack.MISSING)]
    assert store.lacks(0, 5 * PAGE_SIZE, 1) == [(0, Lack.MISSING)]


def test_a_flipped_byte_in_a_page_of_a_half_filled_block_is_damage(cached):
    store, file = cached
    file.write_pages(0, page_hashes(BLOCKS[0]), {3: BLOCKS[0][3 * PAGE_SIZE :][:PAGE_SIZE]})
    with file.place.open("r+b") as data:
        data.seek(3 * PAGE_SIZE + 17)
        data.write(b"\xff\xfe")
    assert store.lacks(0, 3 * PAGE_SIZE, 10) == [(0, Lack.DAMAGED)]


def test_forged_page_hashes_in_the_map_are_damage(cached):
    store, file = cached
    other = bytes(BLOCK_SIZE)
    file.write_pages(0, page_hashes(other), {3: bytes(PAGE_SIZE)})
    assert store.lacks(0, 3 * PAGE_SIZE, 10) == [(0, Lack.DAMAGED)]


def test_few_descriptors_suffice_for_many_contents(tmp_path):
    plains = [digest(str(number).encode()) * 10 for number in range(50)]
    tree = build_tree({b"%03d" % n: Node(Kind.FILE, 0o644, size=320) for n in range(50)})
    image = load(compose([(bytes(32), tree, b"".join(map(block_id, plains)))]))
    cache = CacheFolder(tmp_path)
    for number, plain in enumerate(plains):
        cache.create(image.content(number).content_id, 320).write_block(0, plain)
    store = ContentStore(image, cache, 8)
    for _ in range(2):
        for number, plain in enumerate(plains):
            assert store.lacks(number, 0, 320) == []
            assert store.read(number, 0, 320) == plain
    store.close()
