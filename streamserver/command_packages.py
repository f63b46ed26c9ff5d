"""`streamserver packages`: what is here, and removing it."""

from __future__ import annotations

import argparse
import json

from streamserver.database import catalogue
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import is_whole, open_store, remove_packages


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "packages", help="list or remove packages", description="List or remove packages."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="list all versions", description="List all packages and versions."
    )
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)
    removing = actions.add_parser(
        "remove",
        help="remove a package",
        description="Remove one version of a package, or all. Clients keep what they have cached.",
        epilog="example:\n  streamserver packages remove /srv/millstream editor --version 2.1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(removing, "NAME", json=True)
    removing.add_argument("--version", metavar="VERSION", help="only this version")
    removing.set_defaults(run=run_remove)


def run_list(args: argparse.Namespace) -> int:
    """List the packages."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        packages = store.reader.ask(catalogue.list_packages)
        newest = {package.name: package.version_id for package in packages}
        for package in packages:
            current = newest[package.name] == package.version_id
            whole = is_whole(store, package)
            if args.json:
                told = {
                    "name": package.name,
                    "version": package.version,
                    "kind": package.kind,
                    "title": package.title,
                    "current": current,
                    "version_id": package.version_id.hex(),
                    "object": package.object_digest.hex(),
                    "stored_bytes": package.object_size,
                    "plain_bytes": package.plain_bytes,
                    "imported": package.imported,
                    "whole": whole,
                }
                print(json.dumps(told))
            else:
                mark = ("" if current else "  (older)") + ("" if whole else "  DAMAGED: import it again")
                name = f"{package.name} {package.version}"
                size = f"{package.object_size / 1e6:,.1f} MB"
                print(f"{name:<40} {package.kind:<12} {size:>12}  {package.version_id.hex()[:16]}{mark}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove a package."""
    path, (name,) = state_arguments(args, 1)
    with open_store(path) as store:
        for package in remove_packages(store, name, args.version):
            if args.json:
                told = {
                    "name": package.name,
                    "version": package.version,
                    "version_id": package.version_id.hex(),
                }
                print(json.dumps(told))
            else:
                print(f"removed {package.name} {package.version}")
    return 0
