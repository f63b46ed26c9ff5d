"""`streamserver import`: verify packages and publish them, with the launch profiles beside them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from packageformat.errors import MillstreamError
from streamserver.errors import MissingPackageError, MissingRuntimeError
from streamserver.importing import Imported, import_package
from streamserver.profileimport import SUFFIX, ImportedProfile, import_profile, profile_beside
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import Store, open_store
from streamserver.textline import one_line

EPILOG = """\
example:
  streamserver import /srv/millstream debian-12_1.ovp editor_2.1.ovp
  streamserver import /srv/millstream editor_2.1.profile     # trained again

Every byte is verified before anything is published. Runtimes go in front of what stands on them, or
with it in one command, in any order. Nobody sees a package until a group is entitled to it. A launch profile
beside a package (editor_2.1.profile) is taken with it; its launch pack is built by the running server, or by
'streamserver packs build'.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "import",
        help="verify packages and publish them",
        description="Verify package files and publish them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(parser, "FILE...", json=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. All packages are tried; the exit code is of the first that failed."""
    path, names = state_arguments(args, 1, more=True)
    code = 0
    with open_store(path) as store:
        for source, outcome in _import_all(store, [Path(name) for name in names]):
            if isinstance(outcome, MillstreamError):
                code = code or outcome.exit_code
            _tell(source, outcome, as_json=args.json)
    return code


Outcome = Imported | ImportedProfile | MillstreamError


def _import_all(store: Store, sources: list[Path]) -> list[tuple[Path, Outcome]]:
    """Import; what lacks a runtime or its package is tried again after the others."""
    done: list[tuple[Path, Outcome]] = []
    beside = [profile for source in sources if (profile := profile_beside(source)) is not None]
    waiting = list(dict.fromkeys([*sources, *beside]))
    while waiting:
        later: list[tuple[Path, MillstreamError]] = []
        for source in waiting:
            try:
                done.append((source, _import(store, source)))
            except (MissingRuntimeError, MissingPackageError) as error:
                later.append((source, error))
            except MillstreamError as error:
                done.append((source, error))
        if len(later) == len(waiting):
            return [*done, *later]
        waiting = [source for source, _ in later]
    return done


def _import(store: Store, source: Path) -> Imported | ImportedProfile:
    if source.suffix == SUFFIX:
        return import_profile(store, source)
    return import_package(store, source)


def _tell(source: Path, outcome: Outcome, *, as_json: bool) -> None:
    if isinstance(outcome, MillstreamError):
        line = outcome.line() if str(source) in str(outcome) else f"{source}: {outcome.line()}"
        print(f"streamserver: {one_line(line)}", file=sys.stderr)
        if as_json:
            told: dict[str, object] = {
                "file": str(source),
                "outcome": "failed",
                "error": str(outcome),
                "exit_code": outcome.exit_code,
            }
            print(json.dumps(told))
        return
    if isinstance(outcome, ImportedProfile):
        _tell_profile(source, outcome, as_json=as_json)
        return
    if as_json:
        told = {
            "file": str(source),
            "outcome": outcome.outcome,
            "name": outcome.name,
            "version": outcome.version,
            "kind": outcome.kind,
            "version_id": outcome.version_id.hex(),
            "size": outcome.size,
        }
        print(json.dumps(told))
        return
    words = {"imported": "imported", "present": "was here already:", "healed": "replaced the damaged copy of"}
    print(
        f"{words[outcome.outcome]} {outcome.name} {outcome.version} ({outcome.kind}, {outcome.size:,} bytes)"
    )


def _tell_profile(source: Path, outcome: ImportedProfile, *, as_json: bool) -> None:
    if as_json:
        told = {
            "file": str(source),
            "outcome": outcome.outcome,
            "name": outcome.name,
            "version": outcome.version,
            "kind": "profile",
            "version_id": outcome.version_id.hex(),
            "applications": list(outcome.applications),
        }
        print(json.dumps(told))
        return
    words = "imported" if outcome.outcome == "imported" else "was here already:"
    print(f"{words} launch profile of {outcome.name} {outcome.version} ({', '.join(outcome.applications)})")
