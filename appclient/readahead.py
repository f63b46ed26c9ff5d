"""Which blocks of a file will be asked for next, judged by the last ones. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

WINDOW_FIRST = 4
"""Blocks ahead once a file is seen to be read in order: 256 KiB."""

WINDOW_MOST = 32
"""Blocks ahead of a file that goes on being read in order: 2 MiB."""

FILES_MAX = 1024


class ReadAhead:
    """Watches the faults of each file. A view asks only for what is missing, so a fault just behind the
    last window means that all of it was read.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    def following(self, file: Hashable, block: int, count: int) -> range:
        """Return the blocks to bring after `block` of a file of `count` blocks; empty for random reads."""
        last, window = self._last.pop(file, (-2, 0))
        in_order = last < block <= last + window + 1
        window = min(max(2 * window, WINDOW_FIRST), WINDOW_MOST) if in_order else 0
        self._last[file] = (block, window)
        if len(self._last) > FILES_MAX:
            self._last.popitem(last=False)
        return range(block + 1, min(block + 1 + window, count))
