"""appclient refresh: fetch the list of applications and update the start menu."""

from __future__ import annotations

import argparse
import json

from appclient.agentlink import refresh
from appclient.commandfolders import Subparsers, own_folders


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
    answer = refresh(own_folders())
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
