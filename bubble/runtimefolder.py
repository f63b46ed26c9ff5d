"""The folder of one running bubble, on the host: empty folders to mount on, and a few files."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

MOUNT_POINTS = ("view", "root", "shared", "home")
ETC = "etc"
LOCK = "lock"
FILES = ("Xauthority", "bus", LOCK)

_NAME = re.compile(r"[0-9a-f]{8}", re.ASCII)
_NEW = 60.0
"""Seconds for which a folder without a locked lock may be one that is just being made."""


def make(folder: Path) -> int:
    """Make the folder and return its locked lock, for view and keeper to hold as long as they live.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700)
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in (*MOUNT_POINTS, ETC):
            (folder / name).mkdir(mode=0o700)
    except OSError:
        remove(folder)
        raise
    return lock


def sweep(runtime: Path, now: float) -> None:
    """Remove the folders of bubbles whose view and keeper are gone, whichever bubbles they were.

    Args:
        runtime: where the folders lie.
        now: seconds since the epoch.
    """
    for folder in runtime.iterdir():
        with suppress(OSError):
            if not _NAME.fullmatch(folder.name) or now - folder.lstat().st_mtime < _NEW:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(lock)


def remove(folder: Path) -> None:
    """Remove the folder, and nothing that is not ours.

    Never recursive: should something be mounted here against all expectation (a home!), it is left alone.
    """
    for name in MOUNT_POINTS:
        with suppress(OSError):
            (folder / name).rmdir()
    with suppress(OSError):
        for path in (folder / ETC).iterdir():
            path.unlink()
        (folder / ETC).rmdir()
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
