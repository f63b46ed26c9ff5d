"""appclient settings: what is done in the background, and what is told to the server."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from appclient.commandfolders import Subparsers, own_folders
from appclient.settings import Fill, Metered, Settings, load, path_of, rate_of, save


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "settings",
        help="show or change what is done in the background",
        description="Show the settings, or change those that are named. The agent follows within seconds.",
        epilog="examples:\n  appclient settings --fill all --limit 20Mbit/s\n"
        "  appclient settings --metered yes --reports off",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fill",
        type=Fill,
        choices=tuple(Fill),
        metavar="off|launched|all",
        help="bring nothing, the rest of what was started here (as it comes), or all that is published",
    )
    parser.add_argument(
        "--limit",
        dest="limit_mbit",
        type=_rate,
        metavar="RATE",
        help="for the background: 8Mbit/s, 1MB/s, none",
    )
    parser.add_argument(
        "--metered",
        type=Metered,
        choices=tuple(Metered),
        metavar="auto|yes|no",
        help="whether the network link is metered: then nothing is filled; auto: as NetworkManager says",
    )
    parser.add_argument(
        "--reports",
        type=_switch,
        metavar="on|off",
        help="tell the server which pages a launch waited for, by content id, so that its launch packs learn",
    )
    parser.add_argument(
        "--keep-free-percent", dest="free_percent", type=_number(100), metavar="N", help="of the cache's disk"
    )
    parser.add_argument(
        "--keep-free-gib", dest="free_gib", type=_number(1e6), metavar="N", help="of the cache's disk"
    )
    parser.add_argument("--reset", action="store_true", help="first set all as they come")
    parser.add_argument("--json", action="store_true", help="print the settings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or set."""
    folders = own_folders()
    given: dict[str, Any] = {
        name: getattr(args, name) for name in asdict(Settings()) if getattr(args, name) is not None
    }
    settings = Settings() if args.reset else load(folders.config)
    if given or args.reset:
        folders.prepare()
        settings = replace(settings, **given)
        save(folders.config, settings)
    if args.json:
        print(json.dumps(asdict(settings)))
        return 0
    print(f"fill:     {settings.fill}")
    print(f"limit:    {f'{settings.limit_mbit:g} Mbit/s' if settings.limit_mbit else 'none'}")
    print(f"metered:  {settings.metered}")
    print(f"reports:  {'on' if settings.reports else 'off'}")
    print(f"the fill leaves {settings.free_percent:g}% and {settings.free_gib:g} GiB of the disk free")
    print(f"kept in   {path_of(folders.config)}")
    return 0


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"'on' or 'off', not {text!r}")
    return text == "on"


def _rate(text: str) -> float:
    try:
        return rate_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"not a number: {text!r}") from error
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not in 0 to {most:g}")
        return value

    return number
