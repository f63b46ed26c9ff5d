"""Putting an object that was built here into objects/: whole and named by the database, or not at all."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from streamserver.database import objects
from streamserver.statefolder import ARRIVING, explained, sync_folder
from streamserver.store import Store


def put_object(store: Store, data: bytes, record: Callable[[sqlite3.Connection], bool]) -> bool:
    """Write `data` under its digest, then let `record` name it; False, and no file, if `record` says so.

    Raises:
        StoreError: the folder or the database cannot be written.
    """
    folder = store.folder
    digest = sha256(data).digest()
    path = folder.object_path(digest)
    with folder.import_lock():
        arriving = folder.objects / f"{ARRIVING}{secrets.token_hex(8)}"
        try:
            with explained(arriving):
                descriptor = os.open(arriving, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                arriving.rename(path)
                sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                arriving.unlink(missing_ok=True)
            raise
        taken = False
        try:
            taken = store.writer.run(record)
        finally:
            if not taken:
                known: set[bytes] = store.reader.ask(objects.known_objects)
                if digest not in known:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
    return taken
