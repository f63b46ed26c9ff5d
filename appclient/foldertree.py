"""Folders that go with all in them, whatever overlayfs left there."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from appclient.errors import storage_error


def remove_folder(folder: Path) -> None:
    """Remove a folder with all in it; at its place it is gone at once.

    overlayfs leaves folders of mode 0 in its work folder, and an application may have made its own so.

    Raises:
        CacheError: something in it stays.
    """
    gone = folder.with_name(f".{folder.name[:32]}.{secrets.token_hex(4)}.gone")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error("removing", folder, error) from error
    try:
        for place, folders, _ in os.walk(gone):
            for name in folders:
                inner = Path(place, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(gone)
    except OSError as error:
        raise storage_error("removing", gone, error) from error
