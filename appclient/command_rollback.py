"""appclient rollback: run the version before of an application, or the published one again."""

from __future__ import annotations

import argparse
import json

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.wire import Message


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "rollback",
        help="go back to the version before",
        description="Run the version of an application that was published to you before the current one, "
        "until the server publishes yet another one. What runs now goes on as it is; its settings are shared "
        "by both versions.",
    )
    parser.add_argument("application", metavar="APP")
    parser.add_argument("--undo", action="store_true", help="run the published version again")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Go back, or undo that."""
    folders = own_folders()
    answer = ask(folders, Message("rollback", {"application": args.application, "undo": args.undo}))
    fields = {name: answer.text(name) for name in ("package", "version", "published")}
    if args.json:
        print(json.dumps(fields))
    elif args.undo:
        print(f"{fields['package']} is {fields['version']} again, as published")
    else:
        print(
            f"{fields['package']} is {fields['version']} from the next start on (published: "
            f"{fields['published']}); 'appclient rollback --undo {args.application}' takes that back"
        )
    return 0
