"""The only door to SQLite: opening, settings, migrations, and its errors turned into ours."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from streamserver.errors import StoreError

BUSY_TIMEOUT_S = 15.0  # the command line and a running server write the same file


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a `StoreError` that names the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "disk is full" in reason or "disk I/O" in reason:
            hint = "free some space on its disk, then try again"
        elif "readonly" in reason or "unable to open" in reason:
            hint = "give this user write permission on the folder and its files"
        elif "locked" in reason:
            hint = "another program holds it: try again"
        else:
            hint = "restore it from a backup, or look at its permissions"
        raise StoreError(f"database cannot be used ({reason}): {path}", hint=hint) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"database is damaged ({error}): {path}", hint="restore the file from a backup"
        ) from error


def open_database(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the state at `path`, migrated to this program's schema.

    The connection is in autocommit mode (transactions are said explicitly), in WAL mode with
    `synchronous=FULL` (a commit that returned survives a power cut), and may be used by any
    thread, one at a time.

    Raises:
        StoreError: missing, damaged, locked, read-only, or made by a newer program.
    """
    if not create and not path.is_file():
        raise StoreError(
            f"not a server's folder (no {path.name}): {path.parent}",
            hint=f"make one with 'streamserver init {path.parent}'",
        )
    with explained(path):
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA trusted_schema=OFF")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def is_unfinished(path: Path) -> bool:
    """Tell whether the database at `path` holds no server: its `init` was interrupted.

    Raises:
        StoreError: it cannot be read, or is no database: nobody can tell, so it is kept.
    """
    with explained(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'server'").fetchone()
        if tables == (0,):
            return True
        (rows,) = connection.execute("SELECT count(*) FROM server").fetchone()
        return bool(rows == 0)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    steps = _migrations()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreError(
            f"database is of a newer version ({version}, this program knows {len(steps)}): {path}",
            hint="update Millstream on this server",
        )
    if version == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute(
            "PRAGMA user_version"
        ).fetchone()  # another program may have been faster
        for number, script in enumerate(steps[version:], version + 1):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _migrations() -> list[str]:
    """Return the SQL of each migration; number n is at index n-1."""
    folder = files("streamserver.database")
    later = sorted(
        entry.name for entry in folder.iterdir() if re.fullmatch(r"migration_\d{4}\.sql", entry.name)
    )
    return [(folder / name).read_text() for name in ["schema.sql", *later]]


def _statements(script: str) -> Iterator[str]:
    """Cut a script into statements (`executescript` would commit the transaction around it)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
