"""Deltas between versions, and which versions clients have: statements only.

Every function takes the connection first and runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

DAY_S = 24 * 3600
HELD_S = 30 * DAY_S
"""A version whose pointer nobody asked for in this time is held by no client that matters."""

OLD_VERSIONS_MAX = 3
"""Versions of a package that deltas to its current one are made from: those asked for last."""


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """A delta that is there. Its size is bytes, `built` Unix seconds."""

    old_version_id: bytes
    new_version_id: bytes
    object_digest: bytes
    object_size: int
    built: int


@dataclass(frozen=True, slots=True)
class VersionPair:
    """An older version of a package that clients have, and its current one."""

    name: str
    old_version_id: bytes
    old_version: str
    new_version_id: bytes
    new_version: str


_COLUMNS = "old_version_id, new_version_id, object_digest, object_size, built"
_CURRENT = "SELECT max(sequence) FROM package GROUP BY name"


def unnoted(db: sqlite3.Connection, version_ids: Collection[bytes], *, now: int) -> list[bytes]:
    """Return those of these versions that were not asked for within the last day, as far as is noted."""
    return [
        one
        for one in version_ids
        if not db.execute(
            "SELECT 1 FROM asked WHERE version_id = ? AND last > ?", (one, now - DAY_S)
        ).fetchone()
    ]


def note_asked(db: sqlite3.Connection, version_ids: Collection[bytes], *, now: int) -> None:
    """Note that clients asked for these versions; one that is gone by now is left out."""
    db.executemany(
        "INSERT INTO asked (version_id, last) SELECT version_id, ?2 FROM package WHERE version_id = ?1"
        " ON CONFLICT (version_id) DO UPDATE SET last = excluded.last",
        [(one, now) for one in version_ids],
    )


def held_pairs(db: sqlite3.Connection, *, now: int) -> list[VersionPair]:
    """Return the pairs that are worth a delta, by package: versions that clients hold, asked last first."""
    query = (
        "SELECT n.name, o.version_id, o.version, n.version_id, n.version FROM package n"
        " JOIN package o ON o.name = n.name AND o.sequence < n.sequence"
        " JOIN asked a ON a.version_id = o.version_id AND a.last > ?"
        " WHERE n.sequence IN (SELECT max(sequence) FROM package GROUP BY name)"
        " ORDER BY n.name, a.last DESC, o.sequence DESC"
    )
    found: dict[str, list[VersionPair]] = {}
    for row in db.execute(query, (now - HELD_S,)):
        pair = VersionPair(*row)
        of_package = found.setdefault(pair.name, [])
        if len(of_package) < OLD_VERSIONS_MAX:
            of_package.append(pair)
    return [pair for pairs in found.values() for pair in pairs]


def list_deltas(db: sqlite3.Connection) -> list[StoredDelta]:
    """Return all deltas."""
    query = f"SELECT {_COLUMNS} FROM delta ORDER BY new_version_id, old_version_id"  # noqa: S608
    return [StoredDelta(*row) for row in db.execute(query)]


def deltas_to(
    db: sqlite3.Connection, new_version_id: bytes, old_version_ids: Collection[bytes]
) -> list[StoredDelta]:
    """Return the deltas to a version from these, in the order of these."""
    found = []
    for old in old_version_ids:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM delta WHERE old_version_id = ? AND new_version_id = ?",  # noqa: S608
            (old, new_version_id),
        ).fetchone()
        if row is not None:
            found.append(StoredDelta(*row))
    return found


def put_delta(db: sqlite3.Connection, delta: StoredDelta, *, retired_until: int) -> bool:
    """Store a delta, or replace it; False if one of its versions is gone. A replaced object is retired."""
    there = db.execute(
        "SELECT count(*) FROM package WHERE version_id IN (?, ?)",
        (delta.old_version_id, delta.new_version_id),
    ).fetchone()
    if there != (2,):
        return False
    key = (delta.old_version_id, delta.new_version_id)
    _retire(
        db,
        "old_version_id = ? AND new_version_id = ? AND object_digest <> ?",
        (*key, delta.object_digest),
        retired_until,
    )
    db.execute("DELETE FROM retired_object WHERE object_digest = ?", (delta.object_digest,))
    db.execute(
        f"INSERT OR REPLACE INTO delta ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
        (*key, delta.object_digest, delta.object_size, delta.built),
    )
    return True


def drop_overtaken(db: sqlite3.Connection, *, retired_until: int) -> None:
    """Drop the deltas to versions that are no longer current: nobody updates to those."""
    _retire(
        db,
        f"new_version_id NOT IN (SELECT version_id FROM package WHERE sequence IN ({_CURRENT}))",  # noqa: S608
        (),
        retired_until,
    )


def _retire(db: sqlite3.Connection, where: str, values: tuple[bytes, ...], until: int) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO retired_object SELECT object_digest, {int(until)} FROM delta WHERE {where}",  # noqa: S608
        values,
    )
    db.execute(f"DELETE FROM delta WHERE {where}", values)  # noqa: S608
