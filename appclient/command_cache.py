"""appclient cache: what is kept on this machine, whether it is sound, and what may go."""

from __future__ import annotations

import argparse
import json

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.wire import Message
from packageformat.errors import CorruptBlockError


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "cache",
        help="list, verify or clean the cache",
        description="What is in the cache can be fetched again at any time: nothing in it is yours alone.",
        epilog="examples:\n  appclient cache list\n  appclient cache clean --keep gimp",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="how much of each package is here")
    listing.set_defaults(run=_list)
    verifying = actions.add_parser(
        "verify",
        help="check every block and drop damaged ones",
        description="Check every block in the cache. A damaged one is named and dropped; it is fetched again "
        "when it is next needed. Ends with 11 if there was one.",
    )
    verifying.set_defaults(run=_verify)
    cleaning = actions.add_parser(
        "clean",
        help="drop what nothing needs any more",
        description="Drop versions that are no longer published, and what belongs to them alone.",
    )
    cleaning.add_argument("--all", action="store_true", help="drop everything that is not running now")
    cleaning.add_argument(
        "--keep", metavar="NAME", nargs="*", default=[], help='also keep these: "gimp" or "gimp 2.10"'
    )
    cleaning.set_defaults(run=_clean)
    for action in (listing, verifying, cleaning):
        action.add_argument("--json", action="store_true", help="print the result as JSON")


def _list(args: argparse.Namespace) -> int:
    answer = ask(own_folders(), Message("cache list"))
    packages = answer.records("packages")
    if args.json:
        print(json.dumps({"disk_bytes": answer.number("disk_bytes"), "packages": packages}))
        return 0
    for package in packages:
        here, whole = package["bytes_here"], package["bytes"]
        assert isinstance(here, int)
        assert isinstance(whole, int)
        state = "" if package["published"] else "  (no longer published)"
        print(f"{package['package']}: {here / 1e6:.1f} of {whole / 1e6:.1f} MB{state}")
    print(f"{answer.number('disk_bytes') / 1e6:.1f} MB on disk in {answer.text('folder')}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    answer = ask(own_folders(), Message("cache verify"))
    damaged = answer.texts("damaged")
    count = answer.number("damaged_count")
    if args.json:
        blocks, unknown = answer.number("blocks"), answer.number("unknown")
        print(json.dumps({"blocks": blocks, "damaged": damaged, "damaged_count": count, "unknown": unknown}))
    else:
        for told in damaged:
            print(f"damaged, dropped: {told}")
        print(f"{answer.number('blocks')} blocks checked, {count} damaged")
    return CorruptBlockError.exit_code if count else 0


def _clean(args: argparse.Namespace) -> int:
    answer = ask(own_folders(), Message("cache clean", {"all": args.all, "keep": args.keep}))
    contents, size, packages = answer.number("contents"), answer.number("bytes"), answer.number("packages")
    if args.json:
        print(json.dumps({"contents": contents, "bytes": size, "packages": packages}))
    else:
        print(f"{packages} package versions and {contents} files dropped, {size / 1e6:.1f} MB freed")
    return 0
