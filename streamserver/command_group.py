"""`streamserver group`: groups of users. Groups hold users, never groups."""

from __future__ import annotations

import argparse
import json
import time

from streamserver.database import accounts
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import open_store


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("group", help="groups of users", description="Groups of users.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, function, text, names in (
        ("add", run_add, "add an empty group", ("GROUP",)),
        ("remove", run_remove, "remove a group and its entitlements", ("GROUP",)),
        ("join", run_join, "put a user into a group", ("GROUP", "USER")),
        ("leave", run_leave, "take a user out of a group", ("GROUP", "USER")),
    ):
        action = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        add_state_arguments(action, *names)
        action.set_defaults(run=function)
    listing = actions.add_parser(
        "list", help="list the groups", description="List groups, users and packages."
    )
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)


def run_add(args: argparse.Namespace) -> int:
    """Add a group."""
    path, (group,) = state_arguments(args, 1)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.add_group(db, group, now=int(time.time())))
    print(f"added group {group}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove a group."""
    path, (group,) = state_arguments(args, 1)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.remove_group(db, group))
    print(f"removed group {group}")
    return 0


def run_join(args: argparse.Namespace) -> int:
    """Put a user into a group."""
    path, (group, user) = state_arguments(args, 2)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.join(db, group, user))
    print(f"{user} is in {group}")
    return 0


def run_leave(args: argparse.Namespace) -> int:
    """Take a user out of a group."""
    path, (group, user) = state_arguments(args, 2)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.leave(db, group, user))
    print(f"{user} is not in {group}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """List the groups."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        for group in store.reader.ask(accounts.list_groups):
            if args.json:
                told = {
                    "name": group.name,
                    "users": group.users,
                    "packages": group.packages,
                    "added": group.added,
                }
                print(json.dumps(told))
            else:
                users, packages = ", ".join(group.users) or "-", ", ".join(group.packages) or "-"
                print(f"{group.name}: users {users}; may run {packages}")
    return 0
