"""`streamserver check`: verify every byte of every stored package and launch pack."""

from __future__ import annotations

import argparse
import json
import os
import sys

from packageformat.errors import MillstreamError
from streamserver.database import catalogue, packs
from streamserver.database.catalogue import StoredPackage
from streamserver.database.packs import StoredPack
from streamserver.errors import DamagedObjectError
from streamserver.packagefile import verify_file
from streamserver.packbuilding import check_pack
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.statefolder import explained
from streamserver.store import Store, open_store


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check",
        help="verify every byte of the store",
        description="Verify every stored package and launch pack to its last byte."
        " The server may run meanwhile.",
    )
    add_state_arguments(parser, json=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 if all is well, 30 if a package or a launch pack is damaged."""
    path, _ = state_arguments(args, 0)
    damaged = 0
    with open_store(path) as store:
        packages = store.reader.ask(catalogue.list_packages)
        for package in packages:
            problem = _problem(store, package)
            damaged += problem is not None
            if args.json:
                told = {
                    "name": package.name,
                    "version": package.version,
                    "object": package.object_digest.hex(),
                    "ok": problem is None,
                    "problem": str(problem) if problem else None,
                }
                print(json.dumps(told), flush=True)
            elif problem is None:
                print(f"{package.name} {package.version}: good", flush=True)
            if problem is not None:
                error = DamagedObjectError(f"{package.name} {package.version} is damaged: {problem}")
                print(f"streamserver: {error.line()}", file=sys.stderr)
        for pack in store.reader.ask(packs.list_packs):
            damaged += _check_pack(store, pack, as_json=args.json)
    return DamagedObjectError.exit_code if damaged else 0


def _check_pack(store: Store, pack: StoredPack, *, as_json: bool) -> bool:
    """Tell of a launch pack; return whether it is damaged."""
    problem: MillstreamError | None = None
    try:
        check_pack(store, pack)
    except MillstreamError as error:
        problem = error
        print(f"streamserver: {error.line()}", file=sys.stderr)
    if as_json:
        told = {
            "application": pack.application,
            "object": pack.object_digest.hex(),
            "ok": problem is None,
            "problem": str(problem) if problem else None,
        }
        print(json.dumps(told), flush=True)
    elif problem is None:
        print(f"launch pack of {pack.application}: good", flush=True)
    return problem is not None


def _problem(store: Store, package: StoredPackage) -> MillstreamError | None:
    path = store.folder.object_path(package.object_digest)
    try:
        with explained(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            verified = verify_file(path, descriptor, expected_digest=package.object_digest)
        finally:
            os.close(descriptor)
    except MillstreamError as error:
        return error
    if verified.version_id != package.version_id:
        return DamagedObjectError(f"file is of another package: {path}")
    return None
