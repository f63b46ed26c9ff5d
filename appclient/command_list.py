"""appclient list: what the user may run."""

from __future__ import annotations

import argparse
import json
import time

from appclient.agentlink import refresh
from appclient.catalogue import choices
from appclient.commandfolders import Subparsers, own_folders
from appclient.remembered import kept_publishing
from appclient.signin import recall


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "list",
        help="list the applications that you may run",
        description="List the applications published to you, as of the last refresh.",
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List."""
    folders = own_folders()
    recall(folders.config)
    publishing = kept_publishing(folders, int(time.time()))
    if publishing is None:
        refresh(folders)
        publishing = kept_publishing(folders, int(time.time()))
    found = [] if publishing is None else choices(publishing)
    if args.json:
        print(
            json.dumps(
                [
                    {
                        "id": choice.application.id,
                        "name": choice.application.name,
                        "comment": choice.application.comment,
                        "package": choice.package.name,
                        "version": choice.package.version,
                        "version_id": choice.package.version_id.hex(),
                        "bytes": choice.package.size,
                        "terminal": choice.application.terminal,
                        "whole": all(folders.whole_mark(one).exists() for one in choice.package.stack),
                    }
                    for choice in found
                ]
            )
        )
        return 0
    if not found:
        print("nothing is published to you")
    width = max((len(choice.application.id) for choice in found), default=0)
    for choice in found:
        application = choice.application
        print(
            f"{application.id:{width}}  {application.name}  ({choice.package.name} {choice.package.version})"
        )
    return 0
