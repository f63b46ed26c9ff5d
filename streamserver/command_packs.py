"""`streamserver packs`: the launch packs, and building them now."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys

from packageformat.errors import MillstreamError
from streamserver.backgroundprocess import BACKGROUND_NICE, end_with_standard_input
from streamserver.database import packs, reports
from streamserver.database.packs import StoredPack, StoredProfile
from streamserver.database.reports import StoredReport
from streamserver.errors import UnknownNameError
from streamserver.packbuilding import Built, bring_up_to_date, read_directory
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import Store, is_pack_whole, open_store
from streamserver.textline import one_line

THREADS_MAX = 8

LIST_EPILOG = """\
A pack is 'missing' until a running server, or 'packs build', has built it from the launch profile.
"""
BUILD_EPILOG = """\
examples:
  streamserver packs build /srv/millstream           what is missing, on all cores
  streamserver packs build /srv/millstream --again   everything anew

A running server does the same by itself, slowly and behind its clients. Only one builder runs at a time:
this waits for the other one.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "packs",
        help="list or build launch packs",
        description="Launch packs: what an application needs before its first window, in one piece.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="list all",
        description="List the launch pack of each application that has a launch profile.",
        epilog=LIST_EPILOG,
    )
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)
    building = actions.add_parser(
        "build",
        help="build what is missing",
        description="Merge what clients reported, and build the launch packs that are missing or overtaken.",
        epilog=BUILD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(building, json=True)
    building.add_argument("--again", action="store_true", help="build all of them anew")
    building.add_argument(
        "--background",
        action="store_true",
        help="with low priority, on one core, until standard input is closed: how 'serve' calls it",
    )
    building.set_defaults(run=run_build)
    showing = actions.add_parser(
        "show",
        help="show one in detail",
        description="Show an application's pack: its frames, and what launches said of it.",
    )
    add_state_arguments(showing, "APPLICATION", json=True)
    showing.set_defaults(run=run_show)


def run_list(args: argparse.Namespace) -> int:
    """List the packs."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        for profile, pack in _pairs(store):
            if args.json:
                print(json.dumps(_told(store, profile, pack)))
                continue
            what = f"{profile.application} ({profile.name} {profile.version})"
            print(f"{what:<56} {_state(store, profile, pack)}{'' if profile.current else '  (older)'}")
    return 0


def run_build(args: argparse.Namespace) -> int:
    """Build: 0 if every pack is there afterwards, else the exit code of the first failure."""
    path, _ = state_arguments(args, 0)
    threads = min(THREADS_MAX, os.cpu_count() or 1)
    if args.background:
        threads = 1
        os.nice(BACKGROUND_NICE)
        end_with_standard_input()
    code = 0
    shows = not args.json and sys.stdout.isatty()

    def progress(profile: StoredProfile, done: int, pages: int) -> None:
        print(f"\r{profile.application}: {100 * done // pages:3d}%", end="", flush=True)

    with open_store(path) as store:
        for built in bring_up_to_date(
            store, again=args.again, threads=threads, progress=progress if shows else None
        ):
            if shows:
                print("\r", end="")
            if built.error is not None:
                code = code or built.error.exit_code
            _tell_built(built, as_json=args.json)
    return code


def run_show(args: argparse.Namespace) -> int:
    """Show the packs of one application: of its package's current version, or of all that have it."""
    path, (application,) = state_arguments(args, 1)
    with open_store(path) as store:
        found = [(profile, pack) for profile, pack in _pairs(store) if profile.application == application]
        if not found:
            raise UnknownNameError(
                f"no launch profile of {application}", hint="'streamserver packs list' shows them"
            )
        for profile, pack in found:
            _show(store, profile, pack, as_json=args.json)
    return 0


def _show(store: Store, profile: StoredProfile, pack: StoredPack | None, *, as_json: bool) -> None:
    def question(db: sqlite3.Connection) -> list[StoredReport]:
        return reports.list_reports(db, profile.version_id, profile.application, now=0)

    heard = store.reader.ask(question)
    told = _told(store, profile, pack)
    frames: list[dict[str, object]] = []
    if pack is not None and is_pack_whole(store, pack):
        for frame in read_directory(store, pack).frames:
            frames.append(
                {
                    "pages": sum(extent.pages for extent in frame.extents),
                    "blocks": len({(extent.layer, extent.block) for extent in frame.extents}),
                    "layers": sorted({extent.layer for extent in frame.extents}),
                    "stored_bytes": frame.stored_size,
                }
            )
    launches = [
        {
            "launches": report.launches,
            "reported": report.reported,
            "window_ms": report.figures.window_ms,
            "seconds": report.figures.seconds,
            "bytes": report.figures.bytes,
            "pages_needed": report.figures.pages_needed,
            "pages_missed": report.figures.pages_missed,
        }
        for report in heard
    ]
    if as_json:
        print(json.dumps({**told, "frames": frames, "accounts": launches}))
        return
    print(f"{profile.application} ({profile.name} {profile.version}): {_state(store, profile, pack)}")
    if pack is not None:
        print(f"  bubble {pack.bubble_id.hex()}\n  object {pack.object_digest.hex()}")
        if pack.unresolved:
            print(f"  {pack.unresolved:,} pages of the profile are not in this version: train it again")
    for number, one in enumerate(frames):
        print(f"  frame {number:3d}: {one['pages']:>5} pages {one['stored_bytes']:>10,} bytes")
    for account in launches:
        print(
            f"  an account's latest of {account['launches']} launches: {account['window_ms']} ms,"
            f" {account['pages_missed']} of {account['pages_needed']} pages missed"
        )


def _pairs(store: Store) -> list[tuple[StoredProfile, StoredPack | None]]:
    def question(db: sqlite3.Connection) -> list[tuple[StoredProfile, StoredPack | None]]:
        there = {(pack.version_id, pack.application): pack for pack in packs.list_packs(db)}
        return [
            (profile, there.get((profile.version_id, profile.application)))
            for profile in packs.list_profiles(db)
        ]

    return store.reader.ask(question)


def _state(store: Store, profile: StoredProfile, pack: StoredPack | None) -> str:
    if pack is None:
        return "missing: not built yet"
    if not is_pack_whole(store, pack):
        return "DAMAGED: 'packs build' builds it anew"
    learned = ", relearned" if profile.relearned else ""
    waits = "" if pack.profile_digest == profile.digest else ", a newer profile waits"
    return f"{pack.pages:>7,} pages {pack.object_size / 1e6:>8,.2f} MB{learned}{waits}"


def _told(store: Store, profile: StoredProfile, pack: StoredPack | None) -> dict[str, object]:
    return {
        "application": profile.application,
        "package": profile.name,
        "version": profile.version,
        "version_id": profile.version_id.hex(),
        "current": bool(profile.current),
        "relearned": bool(profile.relearned),
        "unmerged_reports": max(0, profile.unmerged),
        "bubble_id": pack.bubble_id.hex() if pack else None,
        "object": pack.object_digest.hex() if pack else None,
        "stored_bytes": pack.object_size if pack else None,
        "pages": pack.pages if pack else None,
        "unresolved_pages": pack.unresolved if pack else None,
        "built": pack.built if pack else None,
        "up_to_date": pack is not None and pack.profile_digest == profile.digest,
        "whole": pack is not None and is_pack_whole(store, pack),
    }


def _tell_built(built: Built, *, as_json: bool) -> None:
    profile, pack, error = built.profile, built.pack, built.error
    if as_json:
        told = {
            "application": profile.application,
            "package": profile.name,
            "version": profile.version,
            "outcome": built.outcome,
            "pages": pack.pages if pack else None,
            "stored_bytes": pack.object_size if pack else None,
            "object": pack.object_digest.hex() if pack else None,
            "seconds": round(built.seconds, 2),
            "error": error.line() if error else None,
        }
        print(json.dumps(told), flush=True)
    elif error is None and pack is not None:
        size = f"{pack.pages:,} pages, {pack.object_size:,} bytes, {built.seconds:.1f} s"
        print(f"{built.outcome} {profile.application} ({profile.name} {profile.version}): {size}", flush=True)
    if isinstance(error, MillstreamError):
        line = f"{profile.application} ({profile.name} {profile.version}): {error.line()}"
        print(f"streamserver: {one_line(line)}", file=sys.stderr)
