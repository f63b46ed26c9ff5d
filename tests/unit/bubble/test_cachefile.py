from __future__ import annotations

import errno
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bubble import cachefile, cachewriting
from bubble.cachefile import CacheFolder, CacheReader
from bubble.presence import PresenceMap, page_mask
from packageformat.hashing import digest, page_hashes
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE

sizes = st.one_of(
    st.integers(1, 5 * BLOCK_SIZE), st.sampled_from([PAGE_SIZE, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE])
)


def plain_of(size: int) -> bytes:
    return (digest(str(size).encode()) * (size // 32 + 1))[:size]


def block_of(plain: bytes, block: int) -> bytes:
    return plain[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]


@settings(deadline=None)
@given(sizes, st.data())
def test_blocks_written_in_any_order_read_back_and_the_map_goes_with_the_last(size, data):
    plain = plain_of(size)
    content_id = digest(plain)
    with tempfile.TemporaryDirectory() as folder:
        cache = CacheFolder(Path(folder))
        assert cache.open(content_id, size) is None
        file = cache.create(content_id, size)
        order = data.draw(st.permutations(range(file.blocks)))
        for done, block in enumerate(order):
            assert not file.complete
            assert sorted(order[done:]) == file.missing_blocks()
            assert file.read_block(block) is None
            file.write_block(block, block_of(plain, block))
            assert file.has_block(block)
        assert file.complete
        assert [path.name for path in file.place.parent.iterdir()] == [file.place.name]
        assert file.place.read_bytes() == plain
        assert all(file.read_block(block) == block_of(plain, block) for block in range(file.blocks))


@settings(deadline=None)
@given(sizes, st.data())
def test_a_forgotten_block_is_missing_until_it_is_written_again(size, data):
    plain = plain_of(size)
    content_id = digest(plain)
    with tempfile.TemporaryDirectory() as folder:
        file = CacheFolder(Path(folder)).create(content_id, size)
        for block in range(file.blocks):
            file.write_block(block, block_of(plain, block))
        forgotten = data.draw(st.sets(st.integers(0, file.blocks - 1), min_size=1))
        for block in forgotten:
            file.forget_block(block)
        assert file.missing_blocks() == sorted(forgotten)
        for block in forgotten:
            file.write_block(block, block_of(plain, block))
        assert file.complete
        assert file.place.read_bytes() == plain


@settings(deadline=None)
@given(sizes, st.data())
def test_pages_make_a_block_whole_only_when_all_are_there(size, data):
    plain = plain_of(size)
    with tempfile.TemporaryDirectory() as folder:
        file = CacheFolder(Path(folder)).create(digest(plain), size)
        block = data.draw(st.integers(0, file.blocks - 1))
        bytes_of_block = block_of(plain, block)
        pages = page_mask(size, block).bit_length()
        order = data.draw(st.permutations(range(pages)))
        for done, page in enumerate(order):
            assert not file.has_block(block)
            piece = bytes_of_block[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
            file.write_pages(block, page_hashes(bytes_of_block), {page: piece})
            assert file.has_block(block) == (done == pages - 1)
        assert file.read_block(block) == bytes_of_block


def test_a_file_of_one_block_never_has_a_map(tmp_path):
    file = CacheFolder(tmp_path).create(bytes(32), 100)
    assert not file.place.exists()
    file.write_block(0, bytes(100))
    assert [path.name for path in file.place.parent.iterdir()] == [file.place.name]


def test_a_cached_file_cut_short_counts_as_not_there(tmp_path):
    cache = CacheFolder(tmp_path)
    size = 2 * BLOCK_SIZE
    file = cache.create(bytes(32), size)
    for block in range(2):
        file.write_block(block, bytes(BLOCK_SIZE))
    os.truncate(file.place, 5)
    assert cache.open(bytes(32), size) is None
    assert file.missing_blocks() == [0, 1]
    again = cache.create(bytes(32), size)
    assert again.missing_blocks() == [0, 1]
    assert again.place.stat().st_size == size


def test_a_crash_between_map_and_file_loses_nothing_but_the_block(tmp_path):
    cache = CacheFolder(tmp_path)
    file = cache.create(bytes(32), 3 * BLOCK_SIZE)
    file.write_block(1, bytes(BLOCK_SIZE))
    file.place.unlink()  # as if the map had reached the disk and the file had not
    again = cache.create(bytes(32), 3 * BLOCK_SIZE)
    assert again.missing_blocks() == [0, 1, 2]


def test_a_forgotten_content_leaves_nothing(tmp_path):
    cache = CacheFolder(tmp_path)
    file = cache.create(bytes(32), 3 * BLOCK_SIZE)
    file.write_block(1, bytes(BLOCK_SIZE))
    assert [content_id for content_id, _ in cache.contents()] == [bytes(32)]
    cache.forget(bytes(32))
    assert list(file.place.parent.iterdir()) == []


def test_stray_presence_bits_behind_the_last_page_change_nothing(tmp_path):
    file = CacheFolder(tmp_path).create(bytes(32), 2 * BLOCK_SIZE + 1)
    file.write_block(2, b"x")
    map_of = file.place.with_name(file.place.name + ".map")
    data = bytearray(map_of.read_bytes())
    data[16:22] = b"\xff" * 6
    map_of.write_bytes(data)
    assert file.has_block(2)
    assert file.missing_blocks() == []


def test_many_writers_of_one_content_lose_nothing(tmp_path):
    size = 40 * BLOCK_SIZE
    plain = plain_of(size)
    for turn in range(20):
        content_id = digest(str(turn).encode())
        cache = CacheFolder(tmp_path)

        def write(block: int, cache: CacheFolder = cache, content_id: bytes = content_id) -> None:
            cache.create(content_id, size).write_block(block, block_of(plain, block))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        file = cache.open(content_id, size)
        assert file is not None
        assert file.complete
        assert file.place.read_bytes() == plain


def test_pages_of_many_blocks_are_written_at_once_and_seen_by_an_open_map(tmp_path):
    size = 3 * BLOCK_SIZE + 5000
    plain = bytes(range(256)) * (size // 256 + 1)
    blocks = [plain[start : min(start + BLOCK_SIZE, size)] for start in range(0, size, BLOCK_SIZE)]
    file = CacheFolder(tmp_path).create(b"m" * 32, size)
    presence = PresenceMap.of(file.place, size)
    assert presence is not None
    wanted = {0: (0, 1, 5), 2: (15,), 3: (0, 1)}
    file.write_many(
        {
            block: (
                page_hashes(blocks[block]),
                {page: blocks[block][page * PAGE_SIZE : (page + 1) * PAGE_SIZE] for page in pages},
            )
            for block, pages in wanted.items()
        }
    )
    for block in range(4):
        assert presence.pages(block) == sum(1 << page for page in wanted.get(block, ()))
        assert file.pages_of(block) == presence.pages(block)
    assert presence.hashes(2) == page_hashes(blocks[2]) == file.hashes_of(2)
    assert not presence.is_gone
    for block, whole in enumerate(blocks):
        file.write_block(block, whole)
    assert presence.is_gone and file.complete and file.hashes_of(0) is None
    assert file.place.read_bytes() == plain[:size]


def test_the_presence_of_many_blocks_is_read_at_once(tmp_path):
    size = 3 * BLOCK_SIZE + 5000
    file = CacheFolder(tmp_path).create(b"p" * 32, size)
    presence = PresenceMap.of(file.place, size)
    assert presence is not None and presence.pages_from(0, 9) == [0, 0, 0, 0]
    plain = b"y" * BLOCK_SIZE
    file.write_pages(1, page_hashes(plain), {3: plain[:PAGE_SIZE]})
    file.write_pages(3, page_hashes(plain[:5000]), {1: plain[: 5000 - PAGE_SIZE]})
    assert presence.pages_from(1, 2) == [1 << 3, 0]
    assert presence.pages_from(2, 100) == [0, 0b10]
    os.truncate(f"{file.place}.map", 18)
    assert presence.pages_from(0, 4) == [0, 0, 0, 0], "a map that was cut says that nothing is here"


def test_what_a_full_disk_takes_of_a_run_is_followed_by_the_rest(tmp_path, monkeypatch):
    size = 2 * BLOCK_SIZE
    plain = bytes(range(256)) * (size // 256)
    written = os.pwritev
    monkeypatch.setattr(
        os, "pwritev", lambda where, parts, offset: written(where, [b"".join(parts)[:5000]], offset)
    )
    cache = CacheFolder(tmp_path)
    cache.write_pages(
        b"f" * 32,
        size,
        {
            block: (
                page_hashes(plain[block * BLOCK_SIZE :][:BLOCK_SIZE]),
                {page: plain[block * BLOCK_SIZE + page * PAGE_SIZE :][:PAGE_SIZE] for page in range(16)},
            )
            for block in (0, 1)
        },
    )
    file = cache.open(b"f" * 32, size)
    assert file is not None and file.complete and file.place.read_bytes() == plain


def test_a_small_file_is_written_though_its_folder_went_away(tmp_path):
    cache = CacheFolder(tmp_path)
    plain = b"z" * 100
    for _ in range(2):
        cache.write_pages(b"g" * 32, 100, {0: (page_hashes(plain), {0: plain})})
        assert cache.place(b"g" * 32).read_bytes() == plain
        shutil.rmtree(tmp_path / "files")


def test_a_small_file_whose_pages_all_come_at_once_never_has_a_map(tmp_path):
    file = CacheFolder(tmp_path).create(b"s" * 32, 5000)
    plain = b"x" * 5000
    file.write_many({0: (page_hashes(plain), {0: plain[:PAGE_SIZE], 1: plain[PAGE_SIZE:]})})
    assert file.complete and PresenceMap.of(file.place, 5000) is None
    other = CacheFolder(tmp_path).create(b"t" * 32, 5000)
    other.write_many({0: (page_hashes(plain), {1: plain[PAGE_SIZE:]})})
    assert other.pages_of(0) == 0b10 and not other.complete
    other.write_many({0: (page_hashes(plain), {0: plain[:PAGE_SIZE]})})
    assert other.complete and other.place.read_bytes() == plain


@settings(deadline=None)
@given(sizes, st.data())
def test_blocks_are_written_together_and_what_is_here_is_told_and_read(size, data):
    plain = plain_of(size)
    content_id = digest(plain)
    count = -(-size // BLOCK_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        cache = CacheFolder(Path(folder))
        assert cache.pages_here(content_id, size) == [0] * count
        some = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
        cache.write_blocks(content_id, size, {block: block_of(plain, block) for block in some})
        here = [page_mask(size, block) if block in some else 0 for block in range(count)]
        assert cache.pages_here(content_id, size) == here
        assert cache.pages_here(content_id, size + 1) == [0] * (-(-(size + 1) // BLOCK_SIZE))
        with CacheReader(cache) as reader:
            for block in range(count):
                part = block_of(plain, block)
                wanted = part if block in some else None
                assert reader.pages(content_id, size, block, 0, len(part)) == wanted
            assert reader.pages(digest(b"another"), size, 0, 0, 1) is None
        rest = set(range(count)) - some
        cache.write_blocks(content_id, size, {block: block_of(plain, block) for block in rest or some})
        file = cache.open(content_id, size)
        assert file is not None and file.complete
        assert [path.name for path in file.place.parent.iterdir()] == [file.place.name]
        assert file.place.read_bytes() == plain


def test_a_block_of_another_size_is_not_written(tmp_path):
    cache = CacheFolder(tmp_path)
    with pytest.raises(ValueError, match="has not 9 bytes"):
        cache.write_blocks(digest(b"x"), 10, {0: b"123456789"})
    assert not list(tmp_path.rglob("*"))


def test_of_blocks_that_are_written_together_those_stay_for_which_there_is_room(tmp_path, monkeypatch):
    size = 5 * BLOCK_SIZE
    plain = plain_of(size)
    cache = CacheFolder(tmp_path)
    write = cachewriting.write_all

    def write_until_full(descriptor, data, offset):
        if offset >= 3 * BLOCK_SIZE:
            raise OSError(errno.ENOSPC, "full")
        write(descriptor, data, offset)

    monkeypatch.setattr(cachewriting, "write_all", write_until_full)
    with pytest.raises(OSError, match="full"):
        cache.write_blocks(digest(plain), size, {block: block_of(plain, block) for block in range(5)})
    assert cache.pages_here(digest(plain), size) == [page_mask(size, 0)] * 3 + [0, 0]


def test_a_reader_holds_few_descriptors_and_loses_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cachefile, "_OPENED_MAX", 2)
    cache = CacheFolder(tmp_path)
    contents = [bytes([number]) * 2 * BLOCK_SIZE for number in range(5)]
    for plain in contents:
        cache.write_blocks(digest(plain), len(plain), {0: block_of(plain, 0)})
    before = len(os.listdir("/proc/self/fd"))
    with CacheReader(cache) as reader:
        for plain in contents * 2:
            assert reader.pages(digest(plain), len(plain), 0, 5, 9) == plain[5:9]
            assert reader.pages(digest(b"nothing"), 10, 0, 0, 1) is None
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(os.listdir("/proc/self/fd")) == before

    def fail(*_):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(cache, "pages_here", fail)
    with CacheReader(cache) as reader, pytest.raises(OSError, match="too many"):
        reader.pages(digest(contents[0]), len(contents[0]), 0, 0, 1)
    assert len(os.listdir("/proc/self/fd")) == before
