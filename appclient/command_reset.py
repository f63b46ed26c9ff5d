"""appclient reset: drop what an application changed in its own system."""

from __future__ import annotations

import argparse
import json
import sys

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.wire import Message


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "reset",
        help="undo an application's changes to its own system",
        description="Drop the copy-on-write layer of an application: whatever it changed in its /usr, /etc "
        "and so on. Your documents stay, and so do its settings unless --home is given. Close it first.",
    )
    parser.add_argument("application", metavar="APP")
    parser.add_argument("--home", action="store_true", help="drop its settings (its private home) as well")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reset."""
    folders = own_folders()
    fields: dict[str, object] = {"application": args.application, "home": args.home}
    if not args.yes:
        found = ask(folders, Message("reset", {**fields, "only_look": True}))
        what = "changes and settings" if args.home else "changes"
        print(f"Drop all {what} of {found.text('package')}? Type yes: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() != "yes":
            print("nothing was changed", file=sys.stderr)
            return 2
    answer = ask(folders, Message("reset", fields))
    if args.json:
        print(json.dumps({"package": answer.text("package"), "folders": answer.texts("folders")}))
    else:
        print(f"{answer.text('package')} is as it was published")
    return 0
