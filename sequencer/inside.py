"""Paths as a program inside a root folder sees them."""

# Raw file names in a mount namespace, where Path adds nothing:
# ruff: noqa: PTH115
from __future__ import annotations

import os
import posixpath
import stat


def resolve(root: str, path: str) -> str:
    """Return where `path` lies below `root`, links followed as from inside; empty if nowhere."""
    parts = [part for part in path.split("/") if part]
    done: list[str] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part in (".", ".."):
            if part == "..":
                del done[-1:]
            continue
        place = posixpath.join(root, *done, part)
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            return ""
        if stat.S_ISLNK(mode):
            links += 1
            if links > 40:
                return ""
            target = os.readlink(place)
            if target.startswith("/"):
                done = []
            parts = [piece for piece in target.split("/") if piece] + parts
        else:
            done.append(part)
    return posixpath.join(root, *done)
