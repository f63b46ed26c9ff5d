"""Consistent reads: one connection, one reader at a time, each question inside one snapshot."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from streamserver.database.connection import explained

T = TypeVar("T")


class Reader:
    """Answers questions from the database; safe to use from any thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return `question`'s answer; all its statements see the same state."""
        with self._lock, explained(self._path):
            self._connection.execute("BEGIN")
            try:
                return question(self._connection)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def data_version(self) -> int:
        """Return a number that changes when anybody has changed the database (SQLite's `data_version`)."""
        with self._lock, explained(self._path):
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(number)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
