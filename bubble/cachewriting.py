"""How files of the cache are written: pages before their presence, whole files in one step.

A launch pack brings some thousand pages of some hundred files within a second, so nothing here looks at what
it need not, makes a path object, or makes two system calls where one does.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from bubble.presence import HEADER, MAGIC, PRESENCE, block_count, hashes_offset, map_of, page_mask
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE, PAGES_A_BLOCK

_serial = count()
_PIECES_MAX = 512
"""Pages of one system call; the kernel takes 1024."""


def begin(place: Path, size: int) -> None:
    """Make a content without any block: its map first.

    Both are made where they stay: a map without a header or bits says that nothing is here, a file of
    another size counts as none.
    """
    if size:
        with _opened(map_of(place)) as descriptor:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, HEADER.pack(MAGIC, size), 0)
            os.ftruncate(descriptor, hashes_offset(size))
    with _opened(place) as descriptor:
        os.ftruncate(descriptor, size)


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def check_hashes(place: str, size: int, blocks: Mapping[int, tuple[bytes, Mapping[int, bytes]]]) -> None:
    """Raise ValueError unless each block comes with the hashes of all its pages."""
    for block, (hashes, _) in blocks.items():
        if len(hashes) != page_mask(size, block).bit_length() * DIGEST_SIZE:
            raise ValueError(f"block {block} of {place} has another number of pages")


def store_pages(place: str, size: int, blocks: Mapping[int, tuple[bytes, Mapping[int, bytes]]]) -> None:
    """Write verified pages of a content that was begun, their presence last; nothing if it is whole."""
    check_hashes(place, size, blocks)
    with _begun(place) as held:
        if held is None:
            return
        with _opened_there(place) as data:
            _write_runs(data, blocks)
        bits = {block: sum(1 << page for page in pages) for block, (_, pages) in blocks.items()}
        _note(held, place, size, bits, {block: hashes for block, (hashes, _) in blocks.items()})


def store_blocks(place: str, size: int, blocks: Mapping[int, bytes]) -> None:
    """Write verified blocks of a content that was begun, their presence last; nothing if it is whole."""
    with _begun(place) as held:
        if held is None:
            return
        written: dict[int, int] = {}
        try:
            with _opened_there(place) as data:
                for block, plain in blocks.items():
                    write_all(data, plain, block * BLOCK_SIZE)
                    written[block] = page_mask(size, block)
        finally:  # on a full disk, what there was room for stays
            if written:
                _note(held, place, size, written, {})


@contextmanager
def _begun(place: str) -> Iterator[int | None]:
    """Give a descriptor of the map of a content that was begun, None if there is none: it is whole."""
    try:
        held = os.open(place + ".map", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield held
    finally:
        os.close(held)


@contextmanager
def _opened_there(place: str) -> Iterator[int]:
    data = os.open(place, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield data
    finally:
        os.close(data)


def _note(held: int, place: str, size: int, bits: Mapping[int, int], hashes: Mapping[int, bytes]) -> None:
    """Note in a map which pages have been written, by block; it goes away when all are here.

    Args:
        held: the map.
        place: of the content.
        size: of the content.
        bits: by block, bit n: page n.
        hashes: of the pages of all these blocks; nothing if each of them is whole.
    """
    count = block_count(size)
    fcntl.flock(held, fcntl.LOCK_EX)
    presence = bytearray(os.pread(held, 2 * count, HEADER.size).ljust(2 * count, b"\0"))
    for run in _neighbours(bits):
        for block in run:
            (before,) = PRESENCE.unpack_from(presence, 2 * block)
            PRESENCE.pack_into(presence, 2 * block, (before | bits[block]) & page_mask(size, block))
        known = b"".join([hashes.get(block, b"") for block in run])  # of whole blocks but the file's last
        if known:
            write_all(held, known, hashes_offset(size) + run[0] * PAGES_A_BLOCK * DIGEST_SIZE)
        os.pwrite(held, presence[2 * run[0] : 2 * run[-1] + 2], HEADER.size + 2 * run[0])
    last = page_mask(size, count - 1)
    whole = b"\xff\xff" * (count - 1)
    if presence.startswith(whole) and not ~PRESENCE.unpack(presence[-2:])[0] & last:
        _unlink(place + ".map")  # unless another writer was as far at the same time


def _write_runs(descriptor: int, blocks: Mapping[int, tuple[bytes, Mapping[int, bytes]]]) -> None:
    """Write pages, neighbours together."""
    run: list[bytes] = []
    first = end = 0

    def write() -> None:
        written = os.pwritev(descriptor, run, first * PAGE_SIZE) if run else 0
        if written < sum(map(len, run)):  # the disk is full, or nearly
            write_all(descriptor, b"".join(run)[written:], first * PAGE_SIZE + written)

    for block in sorted(blocks):
        base = block * PAGES_A_BLOCK
        pages = blocks[block][1]
        for page in sorted(pages):
            if base + page != end or len(run) == _PIECES_MAX:
                write()
                run = []
                first = base + page
            run.append(pages[page])
            end = base + page + 1
    write()


def _neighbours(blocks: Iterable[int]) -> list[list[int]]:
    """Return numbers in runs of those that follow each other."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it, or raise OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
        offset += written


@contextmanager
def replaced(place: str) -> Iterator[int]:
    """Give a descriptor of a new file that takes `place` at the end, or vanishes. Launches do it often."""
    folder, _, name = place.rpartition("/")
    scratch = f"{folder}/.{name[:40]}.{os.getpid()}.{next(_serial)}.new"
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        os.rename(scratch, place)  # noqa: PTH104 - a path is made for none of this
    except BaseException:
        _unlink(scratch)
        raise


def write_whole(place: str, plain: bytes | memoryview) -> None:
    """Put a file of one block into the cache."""
    with replaced(place) as descriptor:
        write_all(descriptor, plain, 0)
    _unlink(place + ".map")


def _unlink(place: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(place)  # noqa: PTH108


@contextmanager
def locked(place: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    """Give a descriptor of what lies there, locked against others who do this."""
    descriptor = os.open(place, flags | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
