"""Pushing in a process beside the view, which tells it what happens and never waits for it.

To verify and store the pages of a launch takes as long as to answer its reads: in one process, readers waited
for that. The process is the view's child, with a store of its own over the same cache; it is killed with the
view that forked it. The view that takes over from one that died begins with a new one. It may be waiting,
uninterruptibly, for a page that the view was to give, and holds /dev/fuse as long: where no other view takes
over, the keeper has the kernel let go of it.

    view ── records ──▶ pusher ── FUSE_NOTIFY_STORE ──▶ kernel
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum

from bubble import namespaces
from bubble.contentstore import ContentStore
from bubble.launchorder import Run
from bubble.pusher import Pusher
from bubble.pushing import Pushing

_RECORD = struct.Struct("=IIQQ")
"""What happened, and its size or pages; the file; its offset or block."""

_COUNT = struct.Struct("=Q")

_TELL_MAX = 4 << 20
"""Bytes that may wait to be told; what happens beyond is not pushed, but read."""

_RECEIVE = 1 << 16


class _What(IntEnum):
    EXPECT = 1
    MET = 2
    READ = 3
    CAME = 4
    CHANGED = 5
    DISTRUST = 6


class PushLine:
    """The view's end. Whatever is wrong with the other one, the view serves on: pages are read then."""

    def __init__(self, channel: socket.socket, count: mmap.mmap, process: int) -> None:
        """Take the line to a process that `start` has forked.

        Args:
            channel: to it, not blocking.
            count: memory in which it counts the pages that the kernel has taken.
            process: its id.
        """
        self._channel: socket.socket | None = channel
        self._count = count
        self._process = process
        self._told = bytearray()  # not yet sent

    @property
    def pages(self) -> int:
        """How many pages the kernel has taken."""
        return int(_COUNT.unpack_from(self._count)[0])

    @property
    def descriptor(self) -> int | None:
        """What becomes writable when `flush` is worth a try, if something waits to be told."""
        return self._channel.fileno() if self._channel is not None and self._told else None

    def expect(self, contents: Iterable[int]) -> None:
        """See Pushing.expect."""
        for content in contents:
            self._tell(_What.EXPECT, content)

    def met(self, node: int) -> None:
        """See Pushing.met."""
        self._tell(_What.MET, node)

    def read(self, content: int, offset: int, size: int) -> None:
        """See Pushing.read."""
        self._tell(_What.READ, content, offset, size)

    def came(self, content: int, blocks: Mapping[int, int]) -> None:
        """See Pushing.came."""
        for block, pages in blocks.items():
            self._tell(_What.CAME, content, block, pages)

    def changed(self, content: int) -> None:
        """Tell that the supplier has changed something of a file; see ContentStore.refresh."""
        self._tell(_What.CHANGED, content)

    def distrust(self, content: int, block: int) -> None:
        """Tell at once that a block is damaged; see ContentStore.distrust."""
        self._tell(_What.DISTRUST, content, block)
        self.flush()

    def flush(self) -> None:
        """Send what was told, as far as it is taken now."""
        if self._channel is None or not self._told:
            return
        try:
            del self._told[: self._channel.send(self._told)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the other process end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._told.clear()
        with suppress(ChildProcessError):
            os.waitpid(self._process, os.WNOHANG)

    def _tell(self, what: _What, content: int, place: int = 0, size: int = 0) -> None:
        if self._channel is not None and len(self._told) < _TELL_MAX:
            self._told += _RECORD.pack(what, size, content, place)


def start(
    device: int,
    make_store: Callable[[], ContentStore],
    ends: Sequence[int],
    log: Callable[[str], None],
    order: Sequence[Run] = (),
) -> PushLine | None:
    """Fork the process that pushes; None if that cannot be: everything will be read.

    To be called while this process has one thread.

    Args:
        device: the descriptor of /dev/fuse.
        make_store: makes a store over the view's cache.
        ends: descriptors that the pusher must not hold: when nobody has them open, the view has ended.
        log: writes a line.
        order: the pages to begin with; see Pushing.plan.
    """
    try:
        count = mmap.mmap(-1, mmap.PAGESIZE)
        ours, theirs = socket.socketpair()
    except OSError as error:
        log(f"nothing is pushed: {error.strerror}")
        return None
    view = os.getpid()
    try:
        process = os.fork()
    except OSError as error:
        log(f"nothing is pushed: {error.strerror}")
        for each in (ours, theirs):
            each.close()
        return None
    if not process:
        try:
            namespaces.end_with(view)
            namespaces.name_process("bubble.pusher")
            for descriptor in (ours.detach(), *ends):
                os.close(descriptor)
            work(theirs, make_store(), Pusher(device), count, log, order)
        except BaseException:  # noqa: BLE001 - nothing of the view's goes on here
            log(f"the pusher ends by a bug: {traceback.format_exc().strip()!r}")
        finally:
            os._exit(0)
    theirs.close()
    ours.setblocking(False)
    return PushLine(ours, count, process)


def work(
    channel: socket.socket,
    store: ContentStore,
    pusher: Pusher,
    count: mmap.mmap,
    log: Callable[[str], None],
    order: Sequence[Run] = (),
) -> None:
    """Push what the order names and what the view tells of, until that ends.

    Args:
        channel: to the view.
        store: what is read from.
        pusher: what stores.
        count: memory in which taken pages are counted.
        log: writes a line.
        order: the pages to begin with.
    """
    pushing = Pushing(store, pusher)
    pushing.plan(order)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    rest = b""
    is_told = False
    while True:
        again = pusher.try_again(time.monotonic())
        patience = None if again is None else max(0.0, again) * 1000 + 1
        if poll.poll(0 if pushing.has_work else patience):
            data = channel.recv(_RECEIVE)
            if not data:
                return
            data = rest + data
            whole = len(data) - len(data) % _RECORD.size
            rest = data[whole:]
            _take(data[:whole], pushing, store)
        if pushing.has_work:
            try:
                pushing.work()
            except OSError as error:  # a disk that fails: who reads will hear of it
                if not is_told:
                    log(f"some pages are not pushed: {error}")
                is_told = True
        _COUNT.pack_into(count, 0, pusher.pages)


def _take(data: bytes, pushing: Pushing, store: ContentStore) -> None:
    """Do what the view has told."""
    came: dict[int, int] = {}
    of = -1
    for what, size, content, place in _RECORD.iter_unpack(data):
        if came and (what != _What.CAME or content != of):
            pushing.came(of, came)
            came = {}
        if what == _What.CAME:
            if content != of or not came:
                store.refresh(content)
            of = content
            came[place] = came.get(place, 0) | size
        elif what == _What.READ:
            pushing.read(content, place, size)
        elif what == _What.CHANGED:
            store.refresh(content)
        elif what == _What.DISTRUST:
            store.distrust(content, place)
        elif what == _What.MET:
            pushing.met(content)
        elif what == _What.EXPECT:
            pushing.expect([content])
    if came:
        pushing.came(of, came)
