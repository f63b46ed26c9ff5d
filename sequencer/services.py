"""No service starts in a capture: policy-rc.d, there while its commands run.

The commands are root of the captured system and may do anything to its folders meanwhile. So the folder is
held open, and nothing is undone by a path that they could have bent.
"""

# Raw file names in a mount namespace, where Path adds nothing:
from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sequencer.inside import resolve

NAME = "policy-rc.d"
NO_SERVICES = b"#!/bin/sh\nexit 101\n"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def stopped_services(root: str) -> Iterator[None]:
    """Let no service start in the system at `root` meanwhile, and leave no trace of it."""
    folder = _open_folder(root)
    if folder is None:
        yield
        return
    try:
        before = os.fstat(folder).st_mtime_ns
        _write(folder)
        after = os.fstat(folder).st_mtime_ns
        yield
        untouched = os.fstat(folder).st_mtime_ns == after
        _remove(folder)
        if untouched:
            with contextlib.suppress(FileNotFoundError):
                os.utime(folder, ns=(before, before))
        _remove_copy(root, folder)
    finally:
        os.close(folder)  # else nobody could unmount the room


def _open_folder(root: str) -> int | None:
    place = resolve(root, "usr/sbin")
    if not place:
        return None
    try:
        return os.open(place, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(os.lstat(NAME, dir_fd=folder).st_mode):
            os.unlink(NAME, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(NAME, flags, 0o755, dir_fd=folder)
    try:
        os.write(descriptor, NO_SERVICES)
        os.fchmod(descriptor, 0o755)
    finally:
        os.close(descriptor)


def _remove(folder: int) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(NAME, dir_fd=folder)


def _remove_copy(root: str, folder: int) -> None:
    """Remove the file from a folder that the commands made of the first one and put in its place."""
    other = _open_folder(root)
    if other is None:
        return
    try:
        if os.path.sameopenfile(other, folder):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(NAME, flags, dir_fd=other)
        except OSError:
            return
        try:
            ours = os.read(descriptor, len(NO_SERVICES) + 1) == NO_SERVICES
        finally:
            os.close(descriptor)
        if ours:
            _remove(other)
    finally:
        os.close(other)
