"""The watched folder: packages and launch profiles dropped into incoming/ are imported, bad ones moved away.

inotify (watchdog) only says *look*; what to do is decided by looking, so a lost event costs nothing
but `LOOK_S`. A file is taken when it is *quiet*: its size, time and inode have not changed for
`quiet_s`, and nobody has it open for writing (asked with a lease, fcntl(2), where the system can tell).
A file shorter than its own header says is given `patience_s` without change before it counts as cut short.
Runtimes may arrive after what stands on them, and packages after their profiles: those wait as long as others
are being taken or copied.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from packageformat.errors import FormatError, MillstreamError
from streamserver.errors import MissingPackageError, MissingRuntimeError, ServerConfigurationError, StoreError
from streamserver.importing import Imported, import_descriptor
from streamserver.packagefile import declared_size
from streamserver.profileimport import (
    ImportedProfile,
    declared_profile_size,
    import_profile_descriptor,
    is_profile,
)
from streamserver.statefolder import explained
from streamserver.store import Store
from streamserver.textline import shown

REASON = ".reason.txt"
LOG = logging.getLogger("streamserver")
LOOK_S = 5.0
RETRY_MAX_S = 600.0  # between two tries of a file that can be neither taken nor moved away
NAME_MAX = 255  # bytes of a file's name
TEMPORARY = (".part", ".partial", ".tmp", ".filepart", ".crdownload", ".swp", "~")
_Stamp = tuple[int, int, int, int]  # device, inode, size, mtime in nanoseconds


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: for a file to be quiet, and for one that is cut short to grow. Seconds."""

    quiet_s: float = 1.0
    patience_s: float = 30.0


@dataclass(slots=True)
class Candidate:
    """A dropped file as last seen, and since when (monotonic) it looks so."""

    stamp: _Stamp
    since: float
    waits_for: str = ""  # the runtime or package that it misses
    not_before: float = 0.0  # monotonic: what failed is left alone until then
    failures: int = 0

    def back_off(self, now: float) -> None:
        """Leave it alone for a while, twice as long each time."""
        self.not_before = now + min(RETRY_MAX_S, LOOK_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)


class Watcher:
    """Takes files from incoming/. `run` it as a task; `on_import` is told what was published."""

    def __init__(
        self,
        store: Store,
        patience: Patience | None = None,
        on_import: Callable[[Imported | ImportedProfile], object] | None = None,
    ) -> None:
        self._store = store
        self._patience = patience or Patience()
        self._told = on_import
        self._seen: dict[Path, Candidate] = {}

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            ServerConfigurationError: the folder cannot be watched.
        """
        look = asyncio.Event()
        loop = asyncio.get_running_loop()
        observer = Observer()
        try:
            observer.schedule(
                _Bell(lambda: loop.call_soon_threadsafe(look.set)), str(self._store.folder.incoming)
            )
            observer.start()
        except OSError as error:
            raise ServerConfigurationError(
                f"folder cannot be watched ({error.strerror}): {self._store.folder.incoming}",
                hint="make it again, or raise fs.inotify.max_user_watches",
            ) from error
        try:
            while True:
                look.clear()
                try:
                    soon = await asyncio.to_thread(self.look)
                except MillstreamError as error:
                    LOG.error("incoming: %s", error.line())  # noqa: TRY400
                    soon = False
                try:
                    async with asyncio.timeout(min(0.2, self._patience.quiet_s) if soon else LOOK_S):
                        await look.wait()
                except TimeoutError:
                    pass
                else:
                    await asyncio.sleep(0.05)  # events come in swarms
        finally:
            observer.stop()
            await asyncio.to_thread(observer.join, 5.0)

    def look(self) -> bool:
        """Take every file that is ready; return whether some file should be looked at again soon."""
        now = time.monotonic()
        ready = self._ready(now)
        progress = True
        while ready and progress:  # what lacked a runtime has another turn after each success
            progress = False
            for path in list(ready):
                if self._try(path, last_chance=False):
                    progress = True
                found = self._seen.get(path)
                if found is None or not found.waits_for or found.not_before > now:
                    ready.remove(path)
        busy = [one for one in self._seen.values() if not one.waits_for and one.not_before <= now]
        if not busy:
            for path in ready:  # nothing else is coming: these miss what nobody brings
                if now - self._seen[path].since >= min(self._patience.patience_s, 5 * self._patience.quiet_s):
                    self._try(path, last_chance=True)
        return any(candidate.not_before <= now for candidate in self._seen.values())

    def _try(self, path: Path, *, last_chance: bool) -> bool:
        """Take one file; what goes wrong with it is its own matter, not that of the others."""
        candidate = self._seen[path]
        try:
            return self._take(path, last_chance=last_chance)
        except MillstreamError as error:
            LOG.error("incoming: %s stays: %s", shown(path.name), error.line())  # noqa: TRY400
        except OSError as error:
            LOG.error("incoming: %s stays: %s", shown(path.name), error)  # noqa: TRY400
        except Exception:
            LOG.exception("incoming: bug while taking %s", shown(path.name))
        candidate.back_off(time.monotonic())
        self._seen[path] = candidate
        return False

    def _ready(self, now: float) -> list[Path]:
        present: dict[Path, Candidate] = {}
        ready = []
        with explained(self._store.folder.incoming):
            entries = sorted(self._store.folder.incoming.iterdir())
        for path in entries:
            if path.name.startswith(".") or path.name.endswith(TEMPORARY):
                continue
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                continue
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            before = self._seen.get(path)
            candidate = before if before is not None and before.stamp == stamp else Candidate(stamp, now)
            present[path] = candidate
            if now - candidate.since >= self._patience.quiet_s and now >= candidate.not_before:
                ready.append(path)
        self._seen = present
        return ready

    def _take(self, path: Path, *, last_chance: bool) -> bool:
        """Import or reject one quiet file; True if something was published."""
        candidate = self._seen[path]
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            del self._seen[path]
            return False
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "a symbolic link, not a file" if link else (error.strerror or "cannot be opened")
            self._reject(path, StoreError(f"{reason}: {path.name}", hint="drop the package file itself"))
            return False
        try:
            if self._still_arriving(descriptor, candidate):
                return False
            imported = self._import(path, descriptor)
        except (MissingRuntimeError, MissingPackageError) as error:
            candidate.waits_for = str(error)
            if last_chance:
                self._reject(path, error)
            return False
        except MillstreamError as error:
            if not self._unchanged(path, candidate):
                LOG.info("incoming: %s changed while it was read, waiting", shown(path.name))
            elif (
                isinstance(error, StoreError) and not isinstance(error, FormatError) and _is_ours(descriptor)
            ):
                LOG.error("incoming: %s stays: %s", shown(path.name), error.line())  # noqa: TRY400
                candidate.back_off(time.monotonic())  # the store's fault: try again later
            else:
                self._reject(path, error)
            return False
        finally:
            os.close(descriptor)
        LOG.info(
            "incoming: %s: %s %s %s", shown(path.name), imported.name, imported.version, imported.outcome
        )
        if self._unchanged(path, candidate):
            with explained(path):
                path.unlink(missing_ok=True)
        self._seen.pop(path, None)
        if self._told is not None:
            self._told(imported)
        return True

    def _import(self, path: Path, descriptor: int) -> Imported | ImportedProfile:
        if is_profile(descriptor):
            return import_profile_descriptor(self._store, path, descriptor)
        return import_descriptor(self._store, path, descriptor)

    def _still_arriving(self, descriptor: int, candidate: Candidate) -> bool:
        if _open_for_writing(descriptor):
            candidate.since = time.monotonic()
            return True
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        size = candidate.stamp[2]
        declared = declared_size(descriptor) or declared_profile_size(descriptor)
        short = size < (declared if declared is not None else 512)
        return short and time.monotonic() - candidate.since < self._patience.patience_s

    def _unchanged(self, path: Path, candidate: Candidate) -> bool:
        try:
            status = path.lstat()
        except FileNotFoundError:
            return False
        return candidate.stamp == (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _reject(self, path: Path, error: MillstreamError) -> None:
        """Move a file to rejected/ under a free name, the reason beside it."""
        with explained(self._store.folder.rejected):
            target, reason = _free_name(self._store.folder.rejected, path.name)
            try:
                with reason.open("x", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{error.line()}\n")
                try:
                    path.rename(target)
                except OSError as problem:
                    if problem.errno != errno.EXDEV:
                        raise
                    shutil.move(path, target)
            except BaseException as problem:
                reason.unlink(missing_ok=True)
                if not isinstance(problem, FileNotFoundError):
                    raise
        LOG.warning("incoming: %s rejected: %s", shown(path.name), error.line())
        self._seen.pop(path, None)


class _Bell(FileSystemEventHandler):
    """Rings for every event that may mean a new or finished file."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self._ring()


def _free_name(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where a rejected file and its reason go: `NAME`, or `NAME.2` and so on if that is taken."""
    number = 1
    while True:
        suffix = "" if number == 1 else f".{number}"
        target = folder / (_cut(name, NAME_MAX - len(suffix)) + suffix)
        reason = folder / (_cut(name, NAME_MAX - len(suffix) - len(REASON)) + suffix + REASON)
        if not os.path.lexists(target) and not os.path.lexists(reason):
            return target, reason
        number += 1


def _cut(name: str, size: int) -> str:
    """Return the first `size` bytes of a file's name."""
    return os.fsdecode(os.fsencode(name)[:size])


def _open_for_writing(descriptor: int) -> bool:
    """Tell whether somebody has this file open for writing; False if the system cannot tell.

    The kernel grants a read lease only while nobody has (fcntl(2), F_SETLEASE).
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _is_ours(descriptor: int) -> bool:
    """Tell whether a store error was the store's and not the file's: the file can be read to its end."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return False
    try:
        os.pread(descriptor, 1, max(0, status.st_size - 1))
    except OSError:
        return False
    return True
