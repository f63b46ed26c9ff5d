"""Packages, publishers and what an account may read: statements only.

Every function takes the connection first and runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from streamserver.errors import ConflictError, MissingRuntimeError, StoreError, UnknownNameError


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """One imported version. Digests are 32 raw bytes; sizes are bytes; times are Unix seconds."""

    version_id: bytes
    name: str
    version: str
    kind: str
    title: str
    manifest: bytes
    header: bytes
    object_digest: bytes
    object_size: int
    plain_bytes: int
    pointer_generation: int
    imported: int


@dataclass(frozen=True, slots=True)
class Publisher:
    """A trusted publisher's key (Ed25519, 32 bytes)."""

    public_key: bytes
    name: str
    added: int


@dataclass(frozen=True, slots=True)
class ServerRow:
    """The server's name and the generation of its state."""

    name: str
    generation: int


_COLUMNS = (
    "p.version_id, p.name, p.version, p.kind, p.title, p.manifest, p.header, p.object_digest, p.object_size,"
    " p.plain_bytes, p.pointer_generation, p.imported"
)


def create_server(db: sqlite3.Connection, name: str, *, now: int) -> None:
    """Write the server's one row."""
    db.execute("INSERT INTO server (one, name, generation, created) VALUES (1, ?, 1, ?)", (name, now))


def server_row(db: sqlite3.Connection) -> ServerRow:
    """Return the server's name and generation.

    Raises:
        StoreError: `init` never finished here.
    """
    row = db.execute("SELECT name, generation FROM server").fetchone()
    if row is None:
        raise StoreError("the server's folder was never finished", hint="run 'streamserver init' again")
    return ServerRow(*row)


def add_publisher(db: sqlite3.Connection, public_key: bytes, name: str, *, now: int) -> None:
    """Trust a publisher's key; trusted already, it takes the new name."""
    db.execute(
        "INSERT INTO publisher (public_key, name, added) VALUES (?, ?, ?)"
        " ON CONFLICT (public_key) DO UPDATE SET name = excluded.name",
        (public_key, name, now),
    )


def remove_publisher(db: sqlite3.Connection, public_key: bytes) -> None:
    """Trust a key no longer. What it published stays until it is removed."""
    if not db.execute("DELETE FROM publisher WHERE public_key = ?", (public_key,)).rowcount:
        raise UnknownNameError(
            f"not a trusted key: {public_key.hex()}", hint="'streamserver trust list' shows them"
        )


def list_publishers(db: sqlite3.Connection) -> list[Publisher]:
    """Return the trusted publishers by name."""
    return [
        Publisher(*row)
        for row in db.execute("SELECT public_key, name, added FROM publisher ORDER BY name, public_key")
    ]


def find_package(db: sqlite3.Connection, version_id: bytes) -> StoredPackage | None:
    """Return the package of this version id, whoever may read it."""
    row = db.execute(f"SELECT {_COLUMNS} FROM package p WHERE p.version_id = ?", (version_id,)).fetchone()  # noqa: S608
    return StoredPackage(*row) if row else None


def list_packages(db: sqlite3.Connection) -> list[StoredPackage]:
    """Return all packages by name, oldest import first."""
    return [
        StoredPackage(*row)
        for row in db.execute(f"SELECT {_COLUMNS} FROM package p ORDER BY p.name, p.sequence")  # noqa: S608
    ]


def check_addable(db: sqlite3.Connection, *, version_id: bytes, name: str, version: str, kind: str) -> None:
    """Refuse a package that contradicts what is there.

    Raises:
        ConflictError: the same name and version, or the same name of another kind, with another id.
    """
    row = db.execute(
        "SELECT version_id FROM package WHERE name = ? AND version = ?", (name, version)
    ).fetchone()
    if row is not None and row[0] != version_id:
        raise ConflictError(
            f"{name} {version} exists with another id"
            f" ({row[0].hex()[:16]}, the new one is {version_id.hex()[:16]})"
        )
    row = db.execute("SELECT kind FROM package WHERE name = ? AND kind <> ? LIMIT 1", (name, kind)).fetchone()
    if row is not None:
        raise ConflictError(
            f"{name} is {'an' if row[0] == 'application' else 'a'} {row[0]} here, the new package is not",
            hint="give the new package another name",
        )


def missing_runtimes(db: sqlite3.Connection, requires: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return those of `requires` (bottom first) that are not here as runtimes."""
    return tuple(
        required
        for required in requires
        if not db.execute(
            "SELECT 1 FROM package WHERE version_id = ? AND kind = 'runtime'", (required,)
        ).fetchone()
    )


def add_package(db: sqlite3.Connection, package: StoredPackage, requires: tuple[bytes, ...]) -> bool:
    """Add an imported package; False if this very version is here already (nothing changes then).

    `package.pointer_generation` is ignored: it is taken from the server's generation.

    Raises:
        ConflictError: it contradicts a package that is there.
        MissingRuntimeError: a runtime that it requires is not there.
    """
    check_addable(
        db, version_id=package.version_id, name=package.name, version=package.version, kind=package.kind
    )
    if find_package(db, package.version_id):
        return False
    missing = missing_runtimes(db, requires)
    if missing:
        raise MissingRuntimeError(
            f"{package.name} {package.version} requires a runtime that is not here:"
            f" {', '.join(one.hex() for one in missing)}"
        )
    for position, required in enumerate(requires):
        under = [
            row[0] for row in db.execute("SELECT required FROM requirement WHERE version_id = ?", (required,))
        ]
        if not set(under) <= set(requires[:position]):
            raise ConflictError(
                f"{package.name} {package.version} does not name the complete stack under it",
                hint="build it again with this sequencer",
            )
    db.execute(
        "INSERT INTO package (version_id, name, version, kind, title, manifest, header, object_digest,"
        " object_size, plain_bytes, imported, sequence, pointer_generation)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " (SELECT coalesce(max(sequence), 0) + 1 FROM package), (SELECT generation + 1 FROM server))",
        (
            package.version_id,
            package.name,
            package.version,
            package.kind,
            package.title,
            package.manifest,
            package.header,
            package.object_digest,
            package.object_size,
            package.plain_bytes,
            package.imported,
        ),
    )
    db.executemany(
        "INSERT INTO requirement (version_id, position, required) VALUES (?, ?, ?)",
        [(package.version_id, position, required) for position, required in enumerate(requires)],
    )
    return True


def replace_object(
    db: sqlite3.Connection, version_id: bytes, *, header: bytes, digest: bytes, size: int
) -> None:
    """Let a version's pointer name another object, with a higher generation."""
    db.execute(
        "UPDATE package SET header = ?, object_digest = ?, object_size = ?,"
        " pointer_generation = (SELECT generation + 1 FROM server) WHERE version_id = ?",
        (header, digest, size, version_id),
    )


def version_ids(db: sqlite3.Connection, name: str, version: str | None) -> list[bytes]:
    """Return the ids of a package's versions, or of the one `version`."""
    return [
        row[0]
        for row in db.execute(
            "SELECT version_id FROM package WHERE name = ?1 AND (?2 IS NULL OR version = ?2)", (name, version)
        )
    ]


def remove_package(db: sqlite3.Connection, name: str, version: str | None) -> list[StoredPackage]:
    """Remove one version of a package, or all; return what was removed.

    Raises:
        UnknownNameError: there is none.
        ConflictError: an application that stays stands on it.
    """
    gone = [
        package
        for package in list_packages(db)
        if package.name == name and version in (None, package.version)
    ]
    if not gone:
        raise UnknownNameError(
            f"no such package: {name}{f' {version}' if version else ''}",
            hint="'streamserver packages list' shows what there is",
        )
    for package in gone:
        row = db.execute(
            "SELECT p.name, p.version FROM requirement r JOIN package p ON p.version_id = r.version_id"
            " WHERE r.required = ? AND p.name <> ? LIMIT 1",
            (package.version_id, name),
        ).fetchone()
        if row is not None:
            raise ConflictError(
                f"{row[0]} {row[1]} requires {package.name} {package.version}", hint=f"remove {row[0]} first"
            )
    for package in gone:
        db.execute("DELETE FROM requirement WHERE version_id = ?", (package.version_id,))
    for package in gone:
        db.execute("DELETE FROM package WHERE version_id = ?", (package.version_id,))
    return gone


def readable_packages(
    db: sqlite3.Connection, account_id: bytes, version_ids: tuple[bytes, ...]
) -> dict[bytes, StoredPackage]:
    """Return those of `version_ids` that the account may read now."""
    found = {}
    for version_id in version_ids:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM package p JOIN readable r ON r.version_id = p.version_id"  # noqa: S608
            " WHERE r.account_id = ? AND p.version_id = ?",
            (account_id, version_id),
        ).fetchone()
        if row is not None:
            found[version_id] = StoredPackage(*row)
    return found


def published_packages(db: sqlite3.Connection, account_id: bytes) -> list[StoredPackage]:
    """Return the current versions of the applications that the account may run, by name."""
    return [
        StoredPackage(*row)
        for row in db.execute(
            f"SELECT {_COLUMNS} FROM package p JOIN published u ON u.version_id = p.version_id"  # noqa: S608
            " WHERE u.account_id = ? ORDER BY p.name",
            (account_id,),
        )
    ]
