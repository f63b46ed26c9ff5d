"""A listing of the host's files, and what changed between two."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

Listing = dict[str, tuple[int, ...]]
_PSEUDO = ("/proc", "/sys", "/dev")


def list_host(ignored: Collection[Path]) -> Listing:
    """Return every file of the host but those under `ignored`: mode, owner, links, size, both times, inode.

    The change time betrays any write, however it is disguised. Folders are told without size and times:
    what changes in them is listed itself. MILLSTREAM_SHOW_IGNORE names further folders, separated by colons,
    on a machine where others work at the same time.
    """
    told = os.environ.get("MILLSTREAM_SHOW_IGNORE", "")
    left_out = {*_PSEUDO, *(str(path) for path in ignored), *(path for path in told.split(":") if path)}
    found: Listing = {}
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.path in left_out:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            told_of = (status.st_mode, status.st_uid, status.st_gid, status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                found[entry.path] = told_of
                waiting.append(entry.path)
            else:
                found[entry.path] = (
                    *(*told_of, status.st_nlink, status.st_size),
                    *(status.st_mtime_ns, status.st_ctime_ns),
                )
    return found


def changes(before: Listing, after: Listing) -> list[str]:
    """Return what is new, gone or different, as `+ path`, `- path`, `! path`."""
    marks = [f"+ {path}" for path in after.keys() - before.keys()]
    marks += [f"- {path}" for path in before.keys() - after.keys()]
    marks += [f"! {path}" for path in before.keys() & after.keys() if before[path] != after[path]]
    return sorted(marks, key=lambda mark: mark[2:])
