"""Keeps a bubble that does not run from starting, for whoever changes or removes what is its own."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bubble.errors import BubbleBusyError

LOCK = "lock"
"""In the bubble's folder: held by everybody who enters the bubble or ends it (launch.py, keeper.py)."""

PATIENCE = 2.0
"""Seconds for a bubble that is just ending, or a start that is just done."""


@contextmanager
def claim(state: Path, patience: float = PATIENCE) -> Iterator[bool]:
    """Claim the bubble whose folder is `state`; yield whether it is claimed.

    True: it does not run and has let go of the user's changes, and no start of it goes on before the block
    is left. False: it runs, or is starting or ending for longer than `patience` seconds; nothing is held.
    A folder that does not exist needs no claim.

    Within the block all in the folder may be removed but the lock files, or the folder with all in it.
    Waits without an event loop: call it in a thread.

    Raises:
        OSError: the folder cannot be read or written.
    """
    with ExitStack() as held:
        yield _claimed(state, time.monotonic() + patience, held)


def _claimed(state: Path, end: float, held: ExitStack) -> bool:
    if not state.is_dir():
        return True
    from bubble.beginning import RECORD, UPPER_LOCK, find, upper_lock  # much that the agent seldom needs

    lock = _lock(state / LOCK, end)
    if lock is None:
        return False
    held.callback(os.close, lock)
    found = find(state / RECORD)
    if found is None:
        try:
            changes = upper_lock(state / UPPER_LOCK, patience=max(0.0, end - time.monotonic()))
        except BubbleBusyError:
            pass
        else:
            held.callback(os.close, changes)
            return True
    else:
        os.close(found[1])
    held.close()
    return False


def _lock(place: Path, end: float) -> int | None:
    """Return the locked file at `place`, None if another holds it until `end` (monotonic seconds)."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), place.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or just removed by its holder
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)
