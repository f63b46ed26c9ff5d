"""The folder of one running bubble, on the host: empty folders to mount on, and a few files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MOUNT_POINTS = ("view", "root", "shared", "home")
ETC = "etc"
FILES = ("Xauthority", "bus")


def make(folder: Path) -> None:
    """Make the folder.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700)
    for name in (*MOUNT_POINTS, ETC):
        (folder / name).mkdir(mode=0o700)


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
