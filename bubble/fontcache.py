"""Whether the host's cache of its fonts is of use to a bubble.

Fontconfig names a folder's cache after its path. In a bubble the host's fonts lie elsewhere, and are declared
to have their path of the host (identity.py), so that the host's cache is theirs. But the package's own
/usr/share/fonts has that path, too: if the host's cache does not fit the host's folder, each of the two
writes its own over the other's, and all fonts are scanned again at each start.

    <MD5 of the path>-<architecture>.cache-<version>
    magic u32 · version u32 · five numbers of 8 bytes · modification time of the folder: s i32, pad, ns i64
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from hashlib import md5
from pathlib import Path

_HEAD = struct.Struct("<II40xi4xq")
_MAGIC = 0xFC02FC04


def fits(folders: Iterable[Path], cache: Path) -> bool:
    """Return whether there is a cache of each of these folders as it is now, as far as they exist."""
    try:
        names = os.listdir(cache)  # noqa: PTH208 - names are enough
    except OSError:
        return False
    return all(_is_cached(folder, cache, names) for folder in folders)


def _is_cached(folder: Path, cache: Path, names: Iterable[str]) -> bool:
    try:
        changed_ns = folder.stat().st_mtime_ns
    except OSError:
        return True
    begin = md5(os.fsencode(folder), usedforsecurity=False).hexdigest() + "-"
    for name in names:
        if name.startswith(begin):
            with suppress(OSError, struct.error), (cache / name).open("rb") as file:
                magic, _, seconds, nanoseconds = _HEAD.unpack(file.read(_HEAD.size))
                if magic == _MAGIC and seconds * 1_000_000_000 + nanoseconds == changed_ns:
                    return True
    return False
