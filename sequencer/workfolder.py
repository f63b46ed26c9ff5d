"""The sequencer's own folder: captures under way, unpacked bases, logs. Everything in it can be made anew."""

# Raw file names in a mount namespace, where Path adds nothing:
# ruff: noqa: PTH101, PTH108, PTH112, PTH114
from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sequencer.enclosure import Channel, enclose
from sequencer.errors import HostError, StorageError
from sequencer.subids import SubordinateIds

CAPTURES = "captures"
BASES = "bases"
_LOCK = "lock"


def cache_folder() -> Path:
    """Return the sequencer's folder under the user's cache folder ($XDG_CACHE_HOME)."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    parent = Path(stated) if stated.startswith("/") else Path.home() / ".cache"
    return parent / "millstream-sequencer"


class WorkFolder:
    """The folder and what lies in it.

    Folders that the subordinate ids write to have names that nobody can guess, inside a folder that nobody
    else can list: they are open to all while their worker sets up, and closed right after.
    """

    def __init__(self, path: Path, ids: SubordinateIds) -> None:
        self.path = path
        self._ids = ids
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (path, path / CAPTURES, path / BASES):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o711)
        except OSError as error:
            raise StorageError(
                f"cannot write to {path}: {error.strerror}", hint="set XDG_CACHE_HOME to a folder of yours"
            ) from error

    def sweep(self) -> None:
        """Remove what killed sequencers left behind."""
        for folder in (self.path / CAPTURES).iterdir():
            with contextlib.suppress(OSError), (folder / _LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.remove(folder)

    @contextmanager
    def capture(self) -> Iterator[Path]:
        """Give a new folder for one capture, locked, and removed on the way out.

        Raises:
            StorageError: there is no room.
        """
        folder = self.path / CAPTURES / secrets.token_hex(16)
        try:
            folder.mkdir()
            lock = (folder / _LOCK).open("w+b")
        except OSError as error:
            raise StorageError(f"cannot write to {folder}: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder.chmod(0o777)
            try:
                yield folder
            finally:
                if folder.exists():
                    self.remove(folder)

    def close(self, folder: Path) -> None:
        """Close a capture's folder for all but its owner: its worker has made the folders that it needs."""
        folder.chmod(0o711)

    def base(self, key: str) -> Path | None:
        """Return the folder of an unpacked base, or None."""
        folder = self.path / BASES / key
        return folder if folder.is_dir() else None

    def keep_base(self, capture: Path, key: str) -> Path:
        """Turn a finished capture's folder into the unpacked base `key`, atomically."""
        folder = self.path / BASES / key
        capture.chmod(0o711)
        try:
            capture.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another sequencer was faster
                raise
        return folder

    def remove(self, folder: Path) -> None:
        """Remove a folder that holds files of the subordinate ids."""
        inside = [child for child in folder.iterdir() if child.is_dir()]
        if inside:
            names = [child.name for child in inside]
            with enclose(lambda channel: _empty(channel, names), self._ids, folder, network=False) as worker:
                while worker.hear() != {"done": True}:
                    pass
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise HostError(
                f"cannot remove {folder}: {error.strerror}", hint="remove it by hand, as root"
            ) from error


def _empty(channel: Channel, names: list[str]) -> None:
    """Worker: remove what is in these folders, whoever owns it."""
    for name in names:
        if not stat.S_ISDIR(os.lstat(name).st_mode):
            continue
        for child in os.scandir(name):
            if child.is_dir(follow_symlinks=False):
                shutil.rmtree(child.path, onerror=_open_and_retry)
            else:
                os.unlink(child.path)
    channel.say(done=True)


def _open_and_retry(function: object, path: str, _: object) -> None:
    """Make a folder that even root of a namespace could not list ours, then try again."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
