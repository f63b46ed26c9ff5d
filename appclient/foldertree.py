"""Folders that go with all in them, whatever overlayfs left there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from appclient.errors import storage_error


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it; overlayfs leaves folders in it that even their owner cannot enter.

    Raises:
        CacheError: something in it stays.
    """
    if not folder.exists():
        return
    failures: list[OSError] = []

    def opened(function: Callable[..., object], path: str, problem: tuple[object, ...]) -> None:
        try:
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)
            if Path(path).is_dir():
                shutil.rmtree(path, onerror=opened)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                failures.append(error)

    shutil.rmtree(folder, onerror=opened)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        reason = failures[0] if failures else OSError("it stays")
        raise storage_error("removing", folder, reason)
