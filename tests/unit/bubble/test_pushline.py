"""The pusher beside the view: it does what the view tells, and never holds the view up."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bubble import fuse, pushline
from bubble.cachefile import CacheFolder
from bubble.composition import write_view
from bubble.contentstore import ContentStore
from bubble.pusher import PIECE, TRIES, TRY_AGAIN_SECONDS, Pusher
from bubble.pushline import PushLine, work
from bubble.viewimage import load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.tree import build_tree

PLAIN = [
    b"".join(digest(bytes([block, page])) * (PAGE_SIZE // 32) for page in range(PAGES_A_BLOCK))
    for block in range(4)
]
FILE = 1
NOBODY = 1  # a process that is not our child


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], ContentStore]:
    """A cache with a file of four blocks, the last of which is not here."""
    tree = build_tree({b"file": Node(Kind.FILE, 0o644, size=len(PLAIN) * BLOCK_SIZE)})
    write_view(tmp_path / "image", [(bytes(32), tree, b"".join(map(block_id, PLAIN)))])
    image = load((tmp_path / "image").read_bytes())
    name = image.content_id(image.content(FILE))
    assert name is not None
    file = CacheFolder(tmp_path).create(name, len(PLAIN) * BLOCK_SIZE)
    for number in range(3):
        file.write_block(number, PLAIN[number])
    return lambda: ContentStore(image, CacheFolder(tmp_path), 10)


def stored(device: Path) -> dict[tuple[int, int], bytes]:
    """Return what was written to a file that stands for /dev/fuse: pages by node and offset."""
    data = device.read_bytes()
    found = {}
    at = 0
    head = len(fuse.store_head(1, 0, 0))
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little") - head
        node, offset = (int.from_bytes(data[at + 16 + n : at + 24 + n], "little") for n in (0, 8))
        for start in range(0, size, PAGE_SIZE):
            page = data[at + head + start : at + head + start + PAGE_SIZE]
            assert found.setdefault((node, offset + start), page) == page
        at += head + size
    return found


@pytest.fixture
def device(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "device", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def test_a_process_stores_what_the_view_tells_of_and_ends_with_it(make_store, device, tmp_path):
    inward, outward = os.pipe()
    lines: list[str] = []
    line = pushline.start(device, make_store, [outward], lines.append)
    assert line is not None
    os.close(outward)
    assert os.read(inward, 1) == b"", "the pusher does not hold what tells of the view's end"
    line.expect([FILE])
    line.met(FILE)
    line.came(FILE, {0: 0b11, 3: 1})  # nothing of a block that is not here
    line.read(FILE, 2 * BLOCK_SIZE, PAGE_SIZE)
    line.flush()
    expected = {(FILE + 1, at * PAGE_SIZE) for at in (0, 1, *range(33, 48))}
    wait_until(lambda: line.pages >= len(expected) and expected <= set(stored(tmp_path / "device")))
    for (_, offset), page in stored(tmp_path / "device").items():
        assert page == PLAIN[offset // BLOCK_SIZE][offset % BLOCK_SIZE :][:PAGE_SIZE]
    line.close()
    wait_until(lambda: not has_children())
    line.read(FILE, 0, PAGE_SIZE)
    line.flush()
    assert line.descriptor is None
    os.close(inward)


def test_what_the_view_found_damaged_is_verified_again_before_it_is_pushed(make_store, device, tmp_path):
    ours, theirs = socket.socketpair()
    line = PushLine(ours, mmap.mmap(-1, mmap.PAGESIZE), NOBODY)
    store = make_store()
    assert not store.lacks(FILE, 0, BLOCK_SIZE), "it is verified"
    (place,) = [
        path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2 * BLOCK_SIZE
    ]
    with place.open("r+b") as file:
        file.write(b"?")
    line.met(FILE)
    line.expect([FILE])
    line.distrust(FILE, 0)
    line.came(FILE, {0: 1, 1: 1})
    line.flush()
    worker = threading.Thread(target=work, args=(theirs, store, Pusher(device), line._count, pytest.fail))
    worker.start()
    with theirs:
        wait_until(lambda: (FILE + 1, BLOCK_SIZE) in stored(tmp_path / "device"))
        line.close()
        worker.join(10)
    assert (FILE + 1, 0) not in stored(tmp_path / "device")


def test_the_view_waits_for_nobody_and_what_it_told_comes_in_order():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = PushLine(ours, mmap.mmap(-1, mmap.PAGESIZE), NOBODY)
    told = 0
    while line.descriptor is None:
        line.read(told, 0, 0)
        line.flush()
        told += 1
    for _ in range(2):
        line.met(told)
        told += 1
    record = len(theirs.recv(24))
    contents = [0]
    theirs.setblocking(False)
    rest = b""
    while len(contents) < told:
        line.flush()
        rest += theirs.recv(1 << 16)
        while len(rest) >= record:
            contents.append(int.from_bytes(rest[8:16], "little"))
            rest = rest[record:]
    assert contents == list(range(told))
    assert line.descriptor is None
    theirs.close()
    line.met(1)
    line.flush()
    assert line.descriptor is None, "the other end is gone: nothing more is told"


def test_a_view_that_tells_without_end_keeps_little():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = PushLine(ours, mmap.mmap(-1, mmap.PAGESIZE), NOBODY)
    with theirs:
        for _ in range(300_000):
            line.met(1)
        assert len(line._told) <= (4 << 20) + 24
    line.close()


def test_records_that_come_in_pieces_are_understood_and_a_disk_that_fails_is_told_once(make_store, device):
    ours, theirs = socket.socketpair()
    lines: list[str] = []
    store = make_store()
    count = mmap.mmap(-1, mmap.PAGESIZE)

    def fail(*_: object) -> list[tuple[int, list[bytes]]]:
        raise OSError(errno.EIO, "a disk that fails")

    store.verified = fail  # type: ignore[method-assign]
    with theirs:
        worker = threading.Thread(target=work, args=(theirs, store, Pusher(device), count, lines.append))
        worker.start()
        told_in_pieces(ours, count)
        wait_until(lambda: lines)
        ours.close()
        worker.join(10)
    assert not worker.is_alive()
    assert len(lines) == 1 and "a disk that fails" in lines[0]


def told_in_pieces(ours: socket.socket, count: mmap.mmap) -> None:
    line = PushLine(ours, count, NOBODY)
    line.read(FILE, 0, PAGE_SIZE)
    line.read(FILE, BLOCK_SIZE, PAGE_SIZE)
    data = bytes(line._told)
    for at in range(0, len(data), 7):
        ours.sendall(data[at : at + 7])
        time.sleep(0.001)


def test_a_file_that_the_kernel_does_not_know_yet_is_tried_again_a_few_times(monkeypatch, device, tmp_path):
    pusher = Pusher(device)
    refused = 0

    def writev(*_: object) -> int:
        nonlocal refused
        refused += 1
        raise FileNotFoundError(errno.ENOENT, "no such node")

    monkeypatch.setattr(os, "writev", writev)
    pusher.push(5, 0, [b"x" * PAGE_SIZE], now=1.0)
    assert pusher.try_again(1.0) == pytest.approx(TRY_AGAIN_SECONDS)
    for number in range(1, 2 * TRIES):
        pusher.try_again(1.0 + number * TRY_AGAIN_SECONDS)
    assert refused == TRIES and pusher.try_again(9.0) is None and pusher.pages == 0
    pusher.push(5, 0, [b"x" * PAGE_SIZE], now=2.0)
    monkeypatch.undo()
    assert pusher.try_again(3.0) is None and pusher.pages == 1
    assert stored(tmp_path / "device") == {(5, 0): b"x" * PAGE_SIZE}


def test_a_long_run_is_stored_in_pieces(device, tmp_path):
    pusher = Pusher(device)
    pusher.push(5, PAGE_SIZE, PLAIN, now=1.0)
    assert pusher.pages == len(PLAIN) * BLOCK_SIZE // PAGE_SIZE
    plain = len(PLAIN) * BLOCK_SIZE
    heads = -(-plain // PIECE) * len(fuse.store_head(5, 0, 0))
    assert heads > len(fuse.store_head(5, 0, 0)), "it is longer than a piece"
    assert (tmp_path / "device").stat().st_size == plain + heads
    assert len(stored(tmp_path / "device")) == pusher.pages
