"""Puts pages into the kernel's cache before anybody asks for them (FUSE_NOTIFY_STORE).

In a thread of its own, because the kernel takes a page's lock to store it, and somebody who reads that very
page holds it until the view has answered. The view never waits for the pusher, so it answers, and the pusher
goes on. What cannot be stored (a file that the kernel does not know yet, a queue that is full) is read as
anything else is.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Sequence

from bubble import fuse

QUEUE_BYTES_MAX = 64 << 20
"""Bytes that may wait to be stored; what is more is left to be read."""

PIECE = 1 << 17
"""Bytes of one store: with larger ones some pages were read again (FACTS)."""

TRIES = 4
TRY_AGAIN_SECONDS = 0.002
"""A file that the view has just told the kernel of is not known before the look-up that asked has gone on."""


_Piece = tuple[int, int, list[bytes], int, float]
"""The kernel's node, the offset, the data; which try this is, and when it is worth one."""


class Pusher:
    """Stores pages of one view's files."""

    def __init__(self, device: int) -> None:
        """Prepare; the thread begins with the first push.

        Args:
            device: the descriptor of /dev/fuse.
        """
        self._device = device
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._waiting = 0  # bytes; counted by both threads, each for itself
        self._done = 0
        self._thread: threading.Thread | None = None
        self.pages = 0  # that the kernel has taken

    def push(self, node: int, offset: int, parts: Sequence[bytes]) -> bool:
        """Have pages, verified, stored at `offset` of the kernel's node; return whether they are queued.

        Args:
            node: the kernel's.
            offset: of the first page.
            parts: what follows each other there, each at most a block.
        """
        if self._waiting - self._done > QUEUE_BYTES_MAX:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pusher", daemon=True)
            self._thread.start()
        piece: list[bytes] = []
        size = 0
        for part in parts:
            if size + len(part) > PIECE:
                self._put(node, offset, piece, size)
                offset += size
                piece, size = [], 0
            piece.append(part)
            size += len(part)
        self._put(node, offset, piece, size)
        return True

    def _put(self, node: int, offset: int, piece: list[bytes], size: int) -> None:
        self._waiting += size
        self._queue.put((node, offset, piece, 1, 0.0))

    def end(self) -> None:
        """Let the thread end when it can; it may be waiting for a page that nobody will answer any more."""
        if self._thread is not None:
            self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            node, offset, parts, tries, not_before = item
            size = sum(map(len, parts))
            if (early := not_before - time.monotonic()) > 0:
                time.sleep(early)
            try:
                os.writev(self._device, (fuse.store_head(node, offset, size), *parts))
            except OSError as error:
                if error.errno == errno.ENOENT and tries < TRIES:
                    again = time.monotonic() + TRY_AGAIN_SECONDS
                    self._queue.put((node, offset, parts, tries + 1, again))
                    continue
                # unknown to the kernel, or unmounted: it will be read, or nobody can
            else:
                self.pages += -(-size // 4096)
            self._done += size
