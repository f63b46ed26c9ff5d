"""The pages of a launch in the order of their use, kept on disk for the launches to come.

When all that a launch needs is in the cache, no launch pack comes that would tell what is wanted next. This
says it: the pusher stores these pages before they are asked for, with no word from anybody.

    magic 8 · runs 4 · zero 4 · runs · SHA-256 of all before
    run = node 8 (as the bubble's view numbers files) · first page 4 · pages 4

It is a hint: pages are verified as always, and a file that is damaged is as good as none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from packageformat.errors import FormatError
from packageformat.hashing import digest
from packageformat.limits import DIGEST_SIZE

_HEAD = struct.Struct("<8sII")
_RUN = struct.Struct("<QII")
_MAGIC = b"MSORDER1"

RUNS_MAX = 1 << 18
"""4 MiB: LibreOffice's launch has some 8,000."""

Run = tuple[int, int, int]
"""A file's node, the first page, and how many."""


def encode_order(runs: Sequence[Run]) -> bytes:
    """Return what `read_order` reads. What is beyond RUNS_MAX is left out."""
    runs = runs[:RUNS_MAX]
    data = _HEAD.pack(_MAGIC, len(runs), 0) + b"".join(_RUN.pack(*run) for run in runs)
    return data + digest(data)


def decode_order(data: bytes) -> list[Run]:
    """Return the runs of an order.

    Raises:
        FormatError: it is damaged, or something else.
    """
    body = data[:-DIGEST_SIZE]
    if len(body) < _HEAD.size or digest(body) != data[-DIGEST_SIZE:]:
        raise FormatError("a launch's order that is damaged")
    magic, count, _ = _HEAD.unpack_from(body)
    if magic != _MAGIC or count > RUNS_MAX or len(body) != _HEAD.size + count * _RUN.size:
        raise FormatError("a launch's order that is not one")
    return list(_RUN.iter_unpack(body[_HEAD.size :]))


def read_order(place: Path) -> list[Run]:
    """Return the runs of the order that lies at `place`.

    Raises:
        FormatError: as `decode_order`.
        OSError: it cannot be read.
    """
    with place.open("rb") as file:
        return decode_order(file.read(_HEAD.size + RUNS_MAX * _RUN.size + DIGEST_SIZE + 1))


def runs_of(pages: Iterable[Run]) -> list[Run]:
    """Return runs for pages in the order of their use: what follows on what came right before joins it."""
    runs: list[Run] = []
    for node, first, count in pages:
        if runs and runs[-1][0] == node and sum(runs[-1][1:]) == first:
            runs[-1] = (node, runs[-1][1], runs[-1][2] + count)
        else:
            runs.append((node, first, count))
    return runs
