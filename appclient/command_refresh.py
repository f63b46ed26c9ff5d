"""appclient refresh: fetch the list of applications and update the start menu."""

from __future__ import annotations

import argparse
import json
import os

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.language import language
from appclient.wire import Message


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "refresh",
        help="fetch the list of applications",
        description="Ask the server what is published to you, and make the start menu agree: entries and "
        "icons of new applications appear, those of withdrawn ones go.",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Refresh."""
    answer = ask(own_folders(), Message("refresh", {"language": language(os.environ)}))
    added, removed = answer.texts("added"), answer.texts("removed")
    if args.json:
        print(
            json.dumps(
                {
                    "packages": answer.number("packages"),
                    "applications": answer.number("applications"),
                    "added": added,
                    "removed": removed,
                }
            )
        )
        return 0
    print(f"{answer.number('applications')} applications published to you")
    for name in added:
        print(f"  new: {name}")
    for name in removed:
        print(f"  withdrawn: {name}")
    return 0
