"""Users, groups, who is in which, and which group may run which package: statements only.

Every function takes the connection first and runs inside the caller's transaction.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from packageformat.errors import FormatError
from packageformat.names import check_label
from streamserver.errors import ConflictError, StoreError, UnknownNameError

_PRINTABLE = re.compile(
    r"[^\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff/\\][^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff/\\]*"
)
NAME_MAX = 128  # UTF-8 bytes of a user's or group's name


@dataclass(frozen=True, slots=True)
class Account:
    """A local user. `id` is random and never used again; `password_hash` is a PHC string."""

    id: bytes
    name: str
    password_hash: str
    tokens_from: int  # milliseconds: tokens issued before are void


@dataclass(frozen=True, slots=True)
class AccountLine:
    """A user as a list shows him."""

    name: str
    groups: tuple[str, ...]
    added: int


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A group as a list shows it."""

    name: str
    users: tuple[str, ...]
    packages: tuple[str, ...]
    added: int


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A group that may run a package; `imported` tells whether the package is there yet."""

    package: str
    group: str
    imported: bool


def check_name(what: str, name: str) -> str:
    """Return `name` if a user or group may have it.

    Raises:
        StoreError: empty, too long, or with control characters, slashes or a space in front.
    """
    if (
        len(name.encode("utf-8", "surrogatepass")) > NAME_MAX
        or not _PRINTABLE.fullmatch(name)
        or name.endswith(" ")
    ):
        raise StoreError(
            f"not a {what} name: {name[:40]!a}",
            hint=f"1 to {NAME_MAX} bytes of printable text, no slash, no space at either end",
        )
    return name


def add_account(
    db: sqlite3.Connection,
    *,
    id: bytes,
    name: str,
    password_hash: str,
    now: int,
) -> None:
    """Add a user who is in no group yet."""
    check_name("user", name)
    if find_account(db, name):
        raise ConflictError(
            f"user exists already: {name}", hint="'streamserver user password' changes the password"
        )
    db.execute(
        "INSERT INTO account (id, name, password_hash, tokens_from, added) VALUES (?, ?, ?, ?, ?)",
        (id, name, password_hash, now * 1000, now),
    )


def find_account(db: sqlite3.Connection, name: str) -> Account | None:
    """Return the user called `name`."""
    row = db.execute(
        "SELECT id, name, password_hash, tokens_from FROM account WHERE name = ?", (name,)
    ).fetchone()
    return Account(*row) if row else None


def account_by_id(db: sqlite3.Connection, id: bytes) -> Account | None:
    """Return the user whose random id is `id`."""
    row = db.execute(
        "SELECT id, name, password_hash, tokens_from FROM account WHERE id = ?", (id,)
    ).fetchone()
    return Account(*row) if row else None


def change_password(db: sqlite3.Connection, name: str, password_hash: str, *, now_ms: int) -> None:
    """Give `name` another password and void the tokens that the old one brought."""
    changed = db.execute(
        "UPDATE account SET password_hash = ?, tokens_from = ? WHERE name = ?", (password_hash, now_ms, name)
    )
    if not changed.rowcount:
        raise UnknownNameError(f"no such user: {name}")


def renew_hash(db: sqlite3.Connection, id: bytes, old: str, new: str) -> None:
    """Store the same password hashed with today's costs, unless it was changed meanwhile."""
    db.execute("UPDATE account SET password_hash = ? WHERE id = ? AND password_hash = ?", (new, id, old))


def remove_account(db: sqlite3.Connection, name: str) -> None:
    """Remove a user and his memberships."""
    account = find_account(db, name)
    if account is None:
        raise UnknownNameError(f"no such user: {name}")
    db.execute("DELETE FROM membership WHERE account_id = ?", (account.id,))  # cascades fire no triggers
    db.execute("DELETE FROM account WHERE id = ?", (account.id,))


def list_accounts(db: sqlite3.Connection) -> list[AccountLine]:
    """Return all users by name."""
    groups: dict[bytes, list[str]] = {}
    for id_, name in db.execute(
        "SELECT m.account_id, g.name FROM membership m JOIN user_group g ON g.id = m.group_id ORDER BY g.name"
    ):
        groups.setdefault(id_, []).append(name)
    return [
        AccountLine(name, tuple(groups.get(id_, ())), added)
        for id_, name, added in db.execute("SELECT id, name, added FROM account ORDER BY name")
    ]


def add_group(db: sqlite3.Connection, name: str, *, now: int) -> None:
    """Add an empty group."""
    check_name("group", name)
    if db.execute("SELECT 1 FROM user_group WHERE name = ?", (name,)).fetchone():
        raise ConflictError(
            f"group exists already: {name}", hint="'streamserver group join' adds users to it"
        )
    db.execute("INSERT INTO user_group (name, added) VALUES (?, ?)", (name, now))


def remove_group(db: sqlite3.Connection, name: str) -> None:
    """Remove a group with its memberships and entitlements."""
    group = _group(db, name)
    db.execute("DELETE FROM membership WHERE group_id = ?", (group,))
    db.execute("DELETE FROM entitlement WHERE group_id = ?", (group,))
    db.execute("DELETE FROM user_group WHERE id = ?", (group,))


def list_groups(db: sqlite3.Connection) -> list[GroupLine]:
    """Return all groups by name, with who is in them and what they may run."""
    users: dict[int, list[str]] = {}
    packages: dict[int, list[str]] = {}
    for group, name in db.execute(
        "SELECT m.group_id, a.name FROM membership m JOIN account a ON a.id = m.account_id ORDER BY a.name"
    ):
        users.setdefault(group, []).append(name)
    for group, name in db.execute("SELECT group_id, package_name FROM entitlement ORDER BY package_name"):
        packages.setdefault(group, []).append(name)
    return [
        GroupLine(name, tuple(users.get(id_, ())), tuple(packages.get(id_, ())), added)
        for id_, name, added in db.execute("SELECT id, name, added FROM user_group ORDER BY name")
    ]


def join(db: sqlite3.Connection, group: str, user: str) -> None:
    """Put a user into a group; harmless if he is in it."""
    db.execute(
        "INSERT INTO membership (account_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (_account(db, user), _group(db, group)),
    )


def leave(db: sqlite3.Connection, group: str, user: str) -> None:
    """Take a user out of a group; harmless if he is not in it."""
    db.execute(
        "DELETE FROM membership WHERE account_id = ? AND group_id = ?",
        (_account(db, user), _group(db, group)),
    )


def entitle(db: sqlite3.Connection, package: str, group: str) -> None:
    """Let a group run a package, by its name; harmless if it may already."""
    try:
        check_label(package)
    except FormatError as error:
        raise StoreError(
            f"not a package name: {package[:40]!a}", hint="'streamserver packages list' shows the names"
        ) from error
    db.execute(
        "INSERT INTO entitlement (package_name, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (package, _group(db, group)),
    )


def revoke(db: sqlite3.Connection, package: str, group: str) -> None:
    """Let a group no longer run a package."""
    gone = db.execute(
        "DELETE FROM entitlement WHERE package_name = ? AND group_id = ?", (package, _group(db, group))
    )
    if not gone.rowcount:
        raise UnknownNameError(f"no such entitlement: package {package[:80]}, group {group}")


def list_entitlements(db: sqlite3.Connection) -> list[Entitlement]:
    """Return all entitlements by package and group."""
    return [
        Entitlement(package, group, bool(imported))
        for package, group, imported in db.execute(
            "SELECT e.package_name, g.name, EXISTS (SELECT 1 FROM package p WHERE p.name = e.package_name)"
            " FROM entitlement e JOIN user_group g ON g.id = e.group_id ORDER BY 1, 2"
        )
    ]


def _account(db: sqlite3.Connection, name: str) -> bytes:
    account = find_account(db, name)
    if account is None:
        raise UnknownNameError(f"no such user: {name}", hint="'streamserver user list' shows the users")
    return account.id


def _group(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT id FROM user_group WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise UnknownNameError(f"no such group: {name}", hint="'streamserver group list' shows the groups")
    id_: int = row[0]
    return id_
