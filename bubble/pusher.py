"""Puts pages into the kernel's cache before anybody asks for them (FUSE_NOTIFY_STORE).

The kernel takes a page's lock to store it, and somebody who reads that very page holds it until the view has
answered. So it is never the view that stores, but a process beside it (pushline.py). What cannot be stored
(a file that the kernel does not know) is read as anything else is.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence

from bubble import fuse
from packageformat.limits import PAGE_SIZE

PIECE = 1 << 17
"""Bytes of one store: with larger ones some pages were read again (FACTS)."""

TRIES = 4
TRY_AGAIN_SECONDS = 0.002
"""A file that the view has just told the kernel of is not known before the look-up that asked has gone on."""

WAITING_MAX = 256
"""Pieces that may wait to be tried again: 32 MiB."""

_Piece = tuple[float, int, int, list[bytes], int]
"""When it is worth another try; the kernel's node, the offset, the data; which try that is."""


class Pusher:
    """Stores pages of one view's files."""

    def __init__(self, device: int) -> None:
        """Prepare.

        Args:
            device: the descriptor of /dev/fuse.
        """
        self._device = device
        self._waiting: deque[_Piece] = deque()
        self.pages = 0  # that the kernel has taken

    def push(self, node: int, offset: int, parts: Sequence[bytes], now: float) -> None:
        """Store pages, verified, at `offset` of the kernel's node.

        Args:
            node: the kernel's.
            offset: of the first page.
            parts: what follows each other there, each at most a block.
            now: monotonic seconds.
        """
        piece: list[bytes] = []
        size = 0
        for part in parts:
            if size + len(part) > PIECE:
                self._store((now, node, offset, piece, 1))
                offset += size
                piece, size = [], 0
            piece.append(part)
            size += len(part)
        self._store((now, node, offset, piece, 1))

    def try_again(self, now: float) -> float | None:
        """Store what is worth another try; return in how many seconds that will be, or None."""
        while self._waiting and self._waiting[0][0] <= now:
            _, node, offset, parts, tries = self._waiting.popleft()
            self._store((now, node, offset, parts, tries))
        return self._waiting[0][0] - now if self._waiting else None

    def _store(self, piece: _Piece) -> None:
        now, node, offset, parts, tries = piece
        size = sum(map(len, parts))
        try:
            os.writev(self._device, (fuse.store_head(node, offset, size), *parts))
        except OSError as error:
            if error.errno == errno.ENOENT and tries < TRIES and len(self._waiting) < WAITING_MAX:
                self._waiting.append((now + TRY_AGAIN_SECONDS, node, offset, parts, tries + 1))
            # else: unknown to the kernel, or unmounted: it will be read, or nobody can
        else:
            self.pages += -(-size // PAGE_SIZE)
