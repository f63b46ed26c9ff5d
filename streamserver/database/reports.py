"""What clients report of their launches: statements only.

Every function takes the connection first and runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

RETENTION_S = 30 * 24 * 3600
"""Seconds that a report counts."""

ACCOUNTS_MAX = 256
"""Accounts whose reports are kept for one application of a version: those that reported last."""


@dataclass(frozen=True, slots=True)
class LaunchFigures:
    """One launch as the client saw it, in numbers."""

    window_ms: int  # from the start to the first window
    seconds: float  # that the client watched
    bytes: int  # received from the server meanwhile
    pages_needed: int
    pages_missed: int


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What is kept of one account."""

    account_id: bytes
    since: int  # Unix seconds: when collecting began
    reported: int
    launches: int
    figures: LaunchFigures  # of the latest launch
    missed: bytes  # collected runs
    late: bytes  # likewise, with what had come


def find_report(
    db: sqlite3.Connection, version_id: bytes, application: str, account_id: bytes
) -> StoredReport | None:
    """Return what is kept of an account's launches of an application."""
    row = db.execute(
        "SELECT account_id, since, reported, launches, window_ms, seconds, bytes, pages_needed, pages_missed,"
        " missed, late FROM launch_report WHERE version_id = ? AND application = ? AND account_id = ?",
        (version_id, application, account_id),
    ).fetchone()
    return _report(row) if row else None


def list_reports(
    db: sqlite3.Connection, version_id: bytes, application: str, *, now: int
) -> list[StoredReport]:
    """Return the reports that count, one an account, the latest first."""
    return [
        _report(row)
        for row in db.execute(
            "SELECT account_id, since, reported, launches, window_ms, seconds, bytes, pages_needed,"
            " pages_missed, missed, late FROM launch_report"
            " WHERE version_id = ? AND application = ? AND reported > ? ORDER BY reported DESC, account_id",
            (version_id, application, now - RETENTION_S),
        )
    ]


def put_report(db: sqlite3.Connection, version_id: bytes, application: str, report: StoredReport) -> None:
    """Keep an account's report, drop what is too old or too much, and let the profile wait for merging."""
    figures = report.figures
    db.execute(
        "INSERT INTO launch_report (version_id, application, account_id, since, reported, launches,"
        " window_ms, seconds, bytes, pages_needed, pages_missed, missed, late)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (version_id, application, account_id) DO UPDATE SET since = excluded.since,"
        " reported = excluded.reported, launches = excluded.launches, window_ms = excluded.window_ms,"
        " seconds = excluded.seconds, bytes = excluded.bytes, pages_needed = excluded.pages_needed,"
        " pages_missed = excluded.pages_missed, missed = excluded.missed, late = excluded.late",
        (
            version_id,
            application,
            report.account_id,
            report.since,
            report.reported,
            report.launches,
            figures.window_ms,
            figures.seconds,
            figures.bytes,
            figures.pages_needed,
            figures.pages_missed,
            report.missed,
            report.late,
        ),
    )
    db.execute("DELETE FROM launch_report WHERE reported <= ?", (report.reported - RETENTION_S,))
    db.execute(
        "DELETE FROM launch_report WHERE version_id = ?1 AND application = ?2 AND account_id NOT IN"
        " (SELECT account_id FROM launch_report WHERE version_id = ?1 AND application = ?2"
        " ORDER BY reported DESC, account_id LIMIT ?3)",
        (version_id, application, ACCOUNTS_MAX),
    )
    db.execute(
        "UPDATE launch_profile SET reports = reports + 1 WHERE version_id = ? AND application = ?",
        (version_id, application),
    )


def _report(row: tuple[bytes, int, int, int, int, float, int, int, int, bytes, bytes]) -> StoredReport:
    return StoredReport(row[0], row[1], row[2], row[3], LaunchFigures(*row[4:9]), row[9], row[10])
