"""`streamserver entitle`, `revoke` and `entitlements`: which group may run which package."""

from __future__ import annotations

import argparse
import json

from streamserver.database import accounts
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import open_store

EPILOG = """\
example:
  streamserver entitle /srv/millstream editor writers

It holds for every version of the package, and may be said before the package is there. The runtimes that
it requires come with it.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands."""
    entitling = subparsers.add_parser(
        "entitle",
        help="let a group run a package",
        description="Let a group run a package.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(entitling, "PACKAGE", "GROUP")
    entitling.set_defaults(run=run_entitle)
    revoking = subparsers.add_parser(
        "revoke",
        help="let a group no longer run a package",
        description="Let a group no longer run a package.",
    )
    add_state_arguments(revoking, "PACKAGE", "GROUP")
    revoking.set_defaults(run=run_revoke)
    listing = subparsers.add_parser(
        "entitlements", help="list who may run what", description="List which group may run which package."
    )
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)


def run_entitle(args: argparse.Namespace) -> int:
    """Entitle a group."""
    path, (package, group) = state_arguments(args, 2)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.entitle(db, package, group))
        here = any(
            one.imported
            for one in store.reader.ask(accounts.list_entitlements)
            if (one.package, one.group) == (package, group)
        )
    print(f"{group} may run {package}{'' if here else ' (not imported yet)'}")
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    """Revoke an entitlement."""
    path, (package, group) = state_arguments(args, 2)
    with open_store(path) as store:
        store.writer.run(lambda db: accounts.revoke(db, package, group))
    print(f"{group} may no longer run {package}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """List the entitlements."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        for one in store.reader.ask(accounts.list_entitlements):
            if args.json:
                print(json.dumps({"package": one.package, "group": one.group, "imported": one.imported}))
            else:
                print(f"{one.package:<32} {one.group}{'' if one.imported else '  (not imported yet)'}")
    return 0
