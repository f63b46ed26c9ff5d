"""Kept descriptors: the objects that are read now stay open, the least recently used are closed.

An object is opened once and read by `os.preadv` at any place by any request. A descriptor in use is
never closed: `lease` counts its users, and eviction passes them by.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamserver.errors import DamagedObjectError
from streamserver.statefolder import explained

KEPT = 256  # open files
PIECE = 1 << 20


class OpenObject:
    """An open object of `size` bytes."""

    def __init__(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = status.st_size
        self.inode = status.st_ino
        self.users = 0
        self._nowait = True  # until the file system says that it cannot

    async def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset`.

        From the page cache at once; what has to come from the disk is read in a thread.

        Raises:
            DamagedObjectError: the file ends before, or the disk fails.
        """
        data = self._cached(offset, size)
        if len(data) < size:
            data += await asyncio.to_thread(self._stored, offset + len(data), size - len(data))
        return data

    def _cached(self, offset: int, size: int) -> bytes:
        if not self._nowait:
            return b""
        buffer = bytearray(size)
        try:
            count = os.preadv(self.descriptor, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                self._nowait = False
            return b""
        del buffer[count:]
        return bytes(buffer)

    def _stored(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.pread(self.descriptor, size, offset)
            except OSError as error:
                raise DamagedObjectError(f"disk cannot read it ({error.strerror}): {self.path}") from error
            if not part:
                raise DamagedObjectError(f"stored package is cut short: {self.path}")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)


class Descriptors:
    """Open objects, least recently used first. For one event loop: nothing here awaits."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._open: OrderedDict[Path, OpenObject] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def lease(self, path: Path) -> Iterator[OpenObject]:
        """Hold the object at `path` open; a file put in its place since is opened anew.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it cannot be opened.
        """
        found = self._get(path)
        found.users += 1
        try:
            yield found
        finally:
            found.users -= 1
            if self._open.get(path) is not found and not found.users:
                os.close(found.descriptor)
            self._shrink()

    def close(self) -> None:
        """Close what nobody uses; what is in use closes with its last user."""
        for found in self._open.values():
            if not found.users:
                os.close(found.descriptor)
        self._open.clear()

    def _get(self, path: Path) -> OpenObject:
        found = self._open.get(path)
        inode = path.stat().st_ino
        if found is not None and found.inode == inode:
            self._open.move_to_end(path)
            return found
        if found is not None:
            del self._open[path]
            if not found.users:
                os.close(found.descriptor)
        with explained(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        opened = OpenObject(path, descriptor, os.fstat(descriptor))
        self._open[path] = opened
        return opened

    def _shrink(self) -> None:
        if len(self._open) <= self._kept:
            return
        for path, found in list(self._open.items()):
            if not found.users:
                del self._open[path]
                os.close(found.descriptor)
                if len(self._open) <= self._kept:
                    return
