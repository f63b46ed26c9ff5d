"""`streamserver user`: local users and their passwords."""

from __future__ import annotations

import argparse
import getpass
import json
import secrets
import sys
import time

from streamserver.database import accounts
from streamserver.errors import StoreError
from streamserver.passwords import PASSWORD_MAX, hash_password
from streamserver.statearguments import UsageError, add_state_arguments, state_arguments
from streamserver.store import open_store

EPILOG = """\
examples:
  streamserver user add /srv/millstream anna
  pass show anna | streamserver user add /srv/millstream anna --password-stdin
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("user", help="local users", description="Local users and their passwords.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    adding = actions.add_parser(
        "add",
        help="add a user",
        description="Add a user; asks for the password twice.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    changing = actions.add_parser(
        "password",
        help="change a password",
        description="Change a user's password. Ends the sign-ins made with the old one.",
    )
    removing = actions.add_parser(
        "remove", help="remove a user", description="Remove a user and his sign-ins."
    )
    for action, function in ((adding, run_add), (changing, run_password), (removing, run_remove)):
        add_state_arguments(action, "NAME")
        action.set_defaults(run=function)
    for action in (adding, changing):
        action.add_argument(
            "--password-stdin", action="store_true", help="read the password's line from stdin"
        )
    listing = actions.add_parser(
        "list", help="list the users", description="List the users and their groups."
    )
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)


def run_add(args: argparse.Namespace) -> int:
    """Add a user."""
    path, (name,) = state_arguments(args, 1)
    accounts.check_name("user", name)
    with open_store(path) as store:
        hashed = hash_password(_read_password(args, name))
        now = int(time.time())
        id_ = secrets.token_bytes(16)
        store.writer.run(
            lambda db: accounts.add_account(db, id=id_, name=name, password_hash=hashed, now=now)
        )
    print(f"added user {name}")
    return 0


def run_password(args: argparse.Namespace) -> int:
    """Change a password."""
    path, (name,) = state_arguments(args, 1)
    with open_store(path) as store:
        hashed = hash_password(_read_password(args, name))
        now_ms = int(time.time() * 1000)
        store.writer.run(lambda db: accounts.change_password(db, name, hashed, now_ms=now_ms))
    print(f"changed the password of {name}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove a user."""
    path, (name,) = state_arguments(args, 1)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.remove_account(db, name))
    print(f"removed user {name}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """List the users."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        for account in store.reader.ask(accounts.list_accounts):
            if args.json:
                print(json.dumps({"name": account.name, "groups": account.groups, "added": account.added}))
            else:
                print(f"{account.name:<32} {', '.join(account.groups)}".rstrip())
    return 0


def _read_password(args: argparse.Namespace, name: str) -> str:
    if args.password_stdin:
        line = sys.stdin.readline(4 * PASSWORD_MAX)
        return line.rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the password", hint="use --password-stdin")
    try:
        first = getpass.getpass(f"Password for {name}: ")
        second = getpass.getpass("Again: ")
    except EOFError as error:
        raise UsageError("no password given", hint="try again, or use --password-stdin") from error
    if first != second:
        raise StoreError("passwords are not the same", hint="try again")
    return first
