"""Launch profiles and launch packs: statements only.

Every function takes the connection first and runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from packageformat.limits import DIGEST_SIZE

OTHERS_MAX = 16
"""Other profiles by which the classes of a pack are made: the ones imported last."""


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A launch profile as the builder wants to know of it; its document is read by `profile_document`."""

    version_id: bytes
    application: str
    name: str  # of the package
    version: str
    sequence: int  # of the package's import
    current: int  # 1: the package's newest version
    digest: bytes  # of the document that holds
    relearned: int  # 1: it holds pages that clients reported
    unmerged: int  # reports that wait to be merged
    stored: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A launch pack that is there. Sizes are bytes, `built` Unix seconds."""

    version_id: bytes
    application: str
    bubble_id: bytes
    object_digest: bytes
    object_size: int
    pages: int
    unresolved: int  # pages of its profile that are not in the stack
    profile_digest: bytes
    rules: int
    considered: bytes  # digests of other profiles, one after the other
    built: int
    window_size: int = 0  # bytes from its start that lead to the first window; 0: not known

    def has_considered(self, digest: bytes) -> bool:
        """Tell whether its classes were made with this other profile in mind."""
        places = range(0, len(self.considered), DIGEST_SIZE)
        return any(self.considered[place : place + DIGEST_SIZE] == digest for place in places)


@dataclass(frozen=True, slots=True)
class LanguagePack:
    """A pack with the files that a launch in one language reads."""

    version_id: bytes
    application: str
    language: str
    bubble_id: bytes
    object_digest: bytes
    object_size: int  # bytes


def put_profile(
    db: sqlite3.Connection, version_id: bytes, application: str, document: bytes, *, now: int
) -> bool:
    """Store a trained profile; False if the very same is here. What was relearned is learned anew."""
    row = db.execute(
        "SELECT trained FROM launch_profile WHERE version_id = ? AND application = ?",
        (version_id, application),
    ).fetchone()
    if row is not None and row[0] == document:
        return False
    db.execute(
        "INSERT INTO launch_profile (version_id, application, trained, digest, stored) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (version_id, application) DO UPDATE SET trained = excluded.trained, relearned = NULL,"
        " digest = excluded.digest, stored = excluded.stored, merged = 0",
        (version_id, application, document, sha256(document).digest(), now),
    )
    return True


def put_relearned(
    db: sqlite3.Connection, profile: StoredProfile, document: bytes | None, *, merged: int, now: int
) -> bool:
    """Store what merging gave (None: nothing new) and how many reports it saw; False if overtaken."""
    key = (profile.version_id, profile.application, profile.digest)
    if document is None:
        changed = db.execute(
            "UPDATE launch_profile SET merged = ? WHERE version_id = ? AND application = ? AND digest = ?",
            (merged, *key),
        )
    else:
        changed = db.execute(
            "UPDATE launch_profile SET merged = ?, relearned = ?, digest = ?, stored = ?"
            " WHERE version_id = ? AND application = ? AND digest = ?",
            (merged, document, sha256(document).digest(), now, *key),
        )
    return changed.rowcount > 0


def list_profiles(db: sqlite3.Connection) -> list[StoredProfile]:
    """Return all profiles, by package and version as imported, then application."""
    return [
        StoredProfile(*row)
        for row in db.execute(
            "SELECT l.version_id, l.application, p.name, p.version, p.sequence,"
            " p.sequence = (SELECT max(q.sequence) FROM package q WHERE q.name = p.name),"
            " l.digest, l.relearned IS NOT NULL, l.reports - l.merged, l.stored"
            " FROM launch_profile l JOIN package p ON p.version_id = l.version_id"
            " ORDER BY p.name, p.sequence, l.application"
        )
    ]


def profile_document(
    db: sqlite3.Connection, version_id: bytes, application: str
) -> tuple[bytes, bytes] | None:
    """Return the trained document and the one that holds (the same, if nothing was relearned)."""
    row = db.execute(
        "SELECT trained, coalesce(relearned, trained) FROM launch_profile"
        " WHERE version_id = ? AND application = ?",
        (version_id, application),
    ).fetchone()
    return (row[0], row[1]) if row else None


def stack_of(db: sqlite3.Connection, version_id: bytes) -> tuple[bytes, ...]:
    """Return the version ids of a version's bubble, bottom first."""
    under = db.execute(
        "SELECT required FROM requirement WHERE version_id = ? ORDER BY position", (version_id,)
    ).fetchall()
    return (*(row[0] for row in under), version_id)


def stacks_of(db: sqlite3.Connection, profiles: Sequence[StoredProfile]) -> dict[bytes, tuple[bytes, ...]]:
    """Return the stacks of the versions that have profiles, by version id."""
    return {version_id: stack_of(db, version_id) for version_id in {one.version_id for one in profiles}}


def others_of(
    profile: StoredProfile, profiles: Sequence[StoredProfile], stacks: Mapping[bytes, Sequence[bytes]]
) -> list[StoredProfile]:
    """Return the profiles whose launches may have brought pages of this one's before, oldest import first.

    They are those of current versions that share a layer with it, and those of the version of its own
    package that came before it.
    """
    own = set(stacks[profile.version_id])
    before = max(
        (one.sequence for one in profiles if one.name == profile.name and one.sequence < profile.sequence),
        default=-1,
    )
    found = [
        one
        for one in profiles
        if (one.version_id, one.application) != (profile.version_id, profile.application)
        and (
            one.version_id == profile.version_id
            or one.sequence == before
            or (one.current and one.name != profile.name)
        )
        and not own.isdisjoint(stacks[one.version_id])
    ]
    return sorted(found, key=lambda one: (one.sequence, one.application))[-OTHERS_MAX:]


def list_packs(db: sqlite3.Connection, version_id: bytes | None = None) -> list[StoredPack]:
    """Return all packs, or those of one version, by application."""
    return [
        StoredPack(*row)
        for row in db.execute(
            "SELECT version_id, application, bubble_id, object_digest, object_size, pages, unresolved,"
            " profile_digest, rules, considered, built, window_size FROM launch_pack"
            " WHERE ?1 IS NULL OR version_id = ?1 ORDER BY version_id, application",
            (version_id,),
        )
    ]


def put_pack(db: sqlite3.Connection, pack: StoredPack, *, retired_until: int) -> bool:
    """Let a version's pointer name this pack; False if its profile is no longer the one that holds.

    The object of the pack that it replaces is retired.
    """
    row = db.execute(
        "SELECT digest FROM launch_profile WHERE version_id = ? AND application = ?",
        (pack.version_id, pack.application),
    ).fetchone()
    if row is None or row[0] != pack.profile_digest:
        return False
    drop_pack(db, pack.version_id, pack.application, retired_until=retired_until, but=pack.object_digest)
    db.execute("DELETE FROM retired_object WHERE object_digest = ?", (pack.object_digest,))
    db.execute(
        "INSERT INTO launch_pack (version_id, application, bubble_id, object_digest, object_size, pages,"
        " unresolved, profile_digest, rules, considered, built, window_size)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (version_id, application) DO UPDATE SET profile_digest = excluded.profile_digest,"
        " rules = excluded.rules, considered = excluded.considered, built = excluded.built,"
        " window_size = excluded.window_size",
        (
            pack.version_id,
            pack.application,
            pack.bubble_id,
            pack.object_digest,
            pack.object_size,
            pack.pages,
            pack.unresolved,
            pack.profile_digest,
            pack.rules,
            pack.considered,
            pack.built,
            pack.window_size,
        ),
    )
    return True


def list_language_packs(
    db: sqlite3.Connection, version_id: bytes | None = None, language: str = ""
) -> list[LanguagePack]:
    """Return the packs of a language, or of all; of one version, or of all."""
    return [
        LanguagePack(*row)
        for row in db.execute(
            "SELECT version_id, application, language, bubble_id, object_digest, object_size"
            " FROM language_pack WHERE (?1 IS NULL OR version_id = ?1) AND (?2 = '' OR language = ?2)"
            " ORDER BY version_id, application, language",
            (version_id, language),
        )
    ]


def put_language_pack(db: sqlite3.Connection, pack: LanguagePack, *, retired_until: int) -> bool:
    """Let this be the pack of its application and language; the object of the one before is retired."""
    key = (pack.version_id, pack.application, pack.language, pack.object_digest)
    db.execute(
        "INSERT INTO retired_object (object_digest, until) SELECT object_digest, ? FROM language_pack"
        " WHERE version_id = ? AND application = ? AND language = ? AND object_digest <> ?"
        " ON CONFLICT (object_digest) DO UPDATE SET until = excluded.until",
        (retired_until, *key),
    )
    db.execute("DELETE FROM retired_object WHERE object_digest = ?", (pack.object_digest,))
    db.execute(
        "INSERT INTO language_pack (version_id, application, language, bubble_id, object_digest, object_size)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (version_id, application, language) DO UPDATE SET"
        " bubble_id = excluded.bubble_id, object_digest = excluded.object_digest,"
        " object_size = excluded.object_size",
        (
            pack.version_id,
            pack.application,
            pack.language,
            pack.bubble_id,
            pack.object_digest,
            pack.object_size,
        ),
    )
    return True


def consider(db: sqlite3.Connection, pack: StoredPack, considered: bytes) -> None:
    """Note that a pack would not gain by making its classes anew for these other profiles."""
    db.execute(
        "UPDATE launch_pack SET considered = ? WHERE object_digest = ?",
        (considered, pack.object_digest),
    )


def drop_pack(
    db: sqlite3.Connection, version_id: bytes, application: str, *, retired_until: int, but: bytes = b""
) -> None:
    """Name a pack no longer, and retire its object (unless it is `but`)."""
    key = (version_id, application, but)
    db.execute(
        "INSERT INTO retired_object (object_digest, until) SELECT object_digest, ? FROM launch_pack"
        " WHERE version_id = ? AND application = ? AND object_digest <> ?"
        " ON CONFLICT (object_digest) DO UPDATE SET until = excluded.until",
        (retired_until, *key),
    )
    db.execute("DELETE FROM launch_pack WHERE version_id = ? AND application = ? AND object_digest <> ?", key)
