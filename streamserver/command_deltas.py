"""`streamserver deltas`: deltas between versions, and building them now."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time

from streamserver.backgroundprocess import BACKGROUND_NICE, end_with_standard_input
from streamserver.database import catalogue, deltas
from streamserver.database.catalogue import StoredPackage
from streamserver.database.deltas import StoredDelta
from streamserver.deltabuilding import BuiltDelta, bring_deltas_up_to_date, missing_deltas
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import Store, is_delta_whole, open_store
from streamserver.textline import one_line

BUILD_EPILOG = """\
A delta is built from each version of a package that clients asked for in the last 30 days (the latest three)
to the current one. A running server does the same by itself, slowly and behind its clients. Only one builder
runs at a time: this waits for the other one.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "deltas",
        help="list or build deltas between versions",
        description="Deltas: what a client that has an older version needs for the current one.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list all", description="List the deltas between versions.")
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)
    building = actions.add_parser(
        "build",
        help="build what is missing",
        description="Build the deltas that are missing, and drop those to versions that are not current.",
        epilog=BUILD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(building, json=True)
    building.add_argument("--again", action="store_true", help="build all of them anew")
    building.add_argument(
        "--background",
        action="store_true",
        help="with low priority, until standard input is closed: how 'serve' calls it",
    )
    building.set_defaults(run=run_build)


def run_list(args: argparse.Namespace) -> int:
    """List the deltas."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:

        def question(db: sqlite3.Connection) -> tuple[dict[bytes, StoredPackage], list[StoredDelta]]:
            return {one.version_id: one for one in catalogue.list_packages(db)}, deltas.list_deltas(db)

        packages, there = store.reader.ask(question)
        for delta in there:
            old, new = packages[delta.old_version_id], packages[delta.new_version_id]
            if args.json:
                print(json.dumps(_told(new.name, old.version, new.version, delta, store)))
                continue
            state = (
                f"{delta.object_size / 1e6:>8,.2f} MB of {new.object_size / 1e6:,.2f}"
                if is_delta_whole(store, delta)
                else "DAMAGED: 'deltas build' builds it anew"
            )
            print(f"{f'{new.name} {old.version} to {new.version}':<56} {state}")
        for pair in missing_deltas(store, now=time.time()):
            if not args.json:
                what = f"{pair.name} {pair.old_version} to {pair.new_version}"
                print(f"{what:<56} missing: not built yet")
    return 0


def run_build(args: argparse.Namespace) -> int:
    """Build: 0 if every delta is there afterwards, else the exit code of the first failure."""
    path, _ = state_arguments(args, 0)
    if args.background:
        os.nice(BACKGROUND_NICE)
        end_with_standard_input()
    code = 0
    with open_store(path) as store:
        for built in bring_deltas_up_to_date(store, again=args.again):
            if built.error is not None:
                code = code or built.error.exit_code
            _tell_built(store, built, as_json=args.json)
    return code


def _told(name: str, old: str, new: str, delta: StoredDelta | None, store: Store) -> dict[str, object]:
    return {
        "package": name,
        "from": old,
        "to": new,
        "object": delta.object_digest.hex() if delta else None,
        "stored_bytes": delta.object_size if delta else None,
        "built": delta.built if delta else None,
        "whole": delta is not None and is_delta_whole(store, delta),
    }


def _tell_built(store: Store, built: BuiltDelta, *, as_json: bool) -> None:
    pair, delta, error = built.pair, built.delta, built.error
    what = f"{pair.name} {pair.old_version} to {pair.new_version}"
    if as_json:
        told = _told(pair.name, pair.old_version, pair.new_version, delta, store)
        seconds = {"seconds": round(built.seconds, 2), "error": error.line() if error else None}
        print(json.dumps(told | seconds), flush=True)
    elif delta is not None:
        print(f"built {what}: {delta.object_size:,} bytes, {built.seconds:.1f} s", flush=True)
    if error is not None:
        print(f"streamserver: {one_line(f'{what}: {error.line()}')}", file=sys.stderr)
