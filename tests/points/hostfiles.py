"""A listing of the host's files, and what changed between two."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

Listing = dict[str, tuple[int, ...]]
_PSEUDO = ("/proc", "/sys", "/dev")


def list_host(ignored: Collection[Path]) -> Listing:
    """Return every file of the host but those under `ignored`: mode, owner, links, size, both times, inode.

    The change time betrays any write, however it is disguised. Folders are told without size and times:
    what changes in them is listed itself.
    """
    left_out = {*_PSEUDO, *(str(path) for path in ignored)}
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


def within_reach(marks: Iterable[str], before: Listing, after: Listing, uid: int, gid: int) -> list[str]:
    """Return the changes that this user's processes can have made, by the permissions of the files.

    The client has no privileged part. What the user has no right to make, change or remove was done by
    somebody else who works on this machine.
    """
    found = []
    for mark in marks:
        kind, path = mark[0], mark[2:]
        mode, owner, group = (after if kind == "+" else before)[path][:3]
        if kind == "!":
            owner = uid if after[path][1] == uid else owner
            reach = owner == uid or _writable(mode, group, gid)
        elif kind == "-":
            above = before.get(str(Path(path).parent))
            sticky = above is not None and bool(above[0] & stat.S_ISVTX)
            reach = owner == uid or (above is not None and not sticky and _writable(above[0], above[2], gid))
        else:
            reach = owner == uid
        if reach:
            found.append(mark)
    return found


def _writable(mode: int, group: int, gid: int) -> bool:
    if stat.S_ISLNK(mode):
        return False
    return bool(mode & stat.S_IWOTH or (group == gid and mode & stat.S_IWGRP))
