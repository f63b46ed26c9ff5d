"""appclient remove: sign out and take everything away that can be had again."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from appclient import signin
from appclient.command_stop import stop
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import storage_error
from appclient.folders import Folders
from appclient.foldertree import remove_folder


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "remove",
        help="sign out; remove the cache and the start menu entries",
        description="Sign out: forget the server, remove start menu entries, icons and the cache. The "
        "applications' settings and changes are kept for the next sign-in unless --purge is given.",
    )
    parser.add_argument(
        "--purge", action="store_true", help="remove the applications' settings and changes too"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove."""
    folders = own_folders()
    with ExitStack() as claims:
        _claim_all(folders, claims)
    if not args.yes:
        what = "with all settings and changes of your applications" if args.purge else "and empty the cache"
        print(f"Sign out {what}? Type yes: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() != "yes":
            print("nothing was changed", file=sys.stderr)
            return 2
    with ExitStack() as claims:  # nothing starts meanwhile
        _claim_all(folders, claims)
        stop()
        entries = _remove(folders, purge=args.purge)
    print(f"signed out; {entries} start menu files and the cache removed")
    return 0


def _claim_all(folders: Folders, claims: ExitStack) -> None:
    from appclient.changes import all_bubbles, claim_idle
    from bubble.errors import BubbleBusyError

    running = claim_idle(all_bubbles(folders), claims)
    if running:
        raise BubbleBusyError(
            f"{len(running)} of your applications are running", hint="close them first, then try again"
        )


def _remove(folders: Folders, *, purge: bool) -> int:
    from appclient.integration import withdraw

    entries = withdraw(folders)
    for name in ("publishing", "statistics.json", "desktop.json"):
        (folders.state / name).unlink(missing_ok=True)
    try:
        signin.path_of(folders.config).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error("removing", signin.path_of(folders.config), error) from error
    remove_folder(folders.cache)
    remove_folder(folders.state / "reports")
    if purge:
        remove_folder(folders.state)
        remove_folder(folders.config)
    return entries
