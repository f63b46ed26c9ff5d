"""Which objects the store holds beside package files, and for how long: statements only."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection


def known_objects(db: sqlite3.Connection) -> set[bytes]:
    """Return the digests of all objects that may lie in objects/; whatever else is there is left over."""
    return {
        row[0]
        for row in db.execute(
            "SELECT object_digest FROM package UNION SELECT object_digest FROM launch_pack"
            " UNION SELECT object_digest FROM language_pack"
            " UNION SELECT object_digest FROM delta UNION SELECT object_digest FROM retired_object"
        )
    }


def objects_beside(db: sqlite3.Connection, version_ids: Collection[bytes]) -> set[bytes]:
    """Return the digests of what goes with these versions when they are removed."""
    return {
        row[0]
        for version_id in version_ids
        for row in db.execute(
            "SELECT object_digest FROM launch_pack WHERE version_id = ?1 UNION"
            " SELECT object_digest FROM language_pack WHERE version_id = ?1 UNION"
            " SELECT object_digest FROM delta WHERE ?1 IN (old_version_id, new_version_id)",
            (version_id,),
        )
    }


def expired_objects(db: sqlite3.Connection, *, now: int) -> set[bytes]:
    """Return the digests of retired objects that nobody can have a URL for any more."""
    return {row[0] for row in db.execute("SELECT object_digest FROM retired_object WHERE until < ?", (now,))}


def forget_retired(db: sqlite3.Connection, digests: Collection[bytes]) -> None:
    """Forget retired objects, whose files are gone."""
    db.executemany("DELETE FROM retired_object WHERE object_digest = ?", [(one,) for one in digests])
