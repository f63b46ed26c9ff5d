"""The lock that makes an agent the only one of its user. Light: who does not get it ends at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from appclient.errors import storage_error
from appclient.folders import Folders

LOG_BYTES_MAX = 4 << 20


@contextmanager
def only_agent(folders: Folders) -> Iterator[bool]:
    """Hold the agent's lock for the block, if nobody else does; give whether it is held.

    The kernel lets go of it when the process ends, however it ends.

    Raises:
        CacheError: a folder of the client cannot be used.
    """
    folders.prepare()
    try:
        lock = folders.agent_lock.open("a+")
    except OSError as error:
        raise storage_error("opening", folders.agent_lock, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        _write_log(folders)
        yield True


def _write_log(folders: Folders) -> None:
    """Send what the agent says to its log, whoever started it (unless to a terminal); keep one older log."""
    with suppress(OSError):
        if folders.log.stat().st_size > LOG_BYTES_MAX:
            folders.log.replace(folders.log.with_suffix(".log.1"))
    if os.isatty(2):
        return
    with suppress(OSError):
        descriptor = os.open(folders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for target in (1, 2):
            os.dup2(descriptor, target)
        os.close(descriptor)
