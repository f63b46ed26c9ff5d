"""`sequencer build`: a recipe captured, packed and signed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sequencer.build import Request, build
from sequencer.recipe import KEYS

EXAMPLES = """\
examples:
  sequencer keygen publisher.key
  sequencer build samples/debian-12.toml --key publisher.key --output packages
  sequencer build samples/galculator.toml --key publisher.key --output packages

The installation runs in a disposable overlay over the base, in namespaces of its own, as root of subordinate
ids: never as this machine's root. Beside NAME_VERSION.ovp lie NAME_VERSION.report.json (what was captured,
left out and noticed) and NAME.log (what the commands printed). An application that shows a window is then
started a few times to learn what a launch touches (sequencer train --help tells more), which becomes
NAME_VERSION.profile; without training, the profile of an earlier version is taken over as far as it holds.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "build",
        help="capture what a recipe installs; pack and sign it",
        description="Capture what a recipe installs, pack and sign it. Recipes have the tables "
        + ", ".join(f"[{table}]" for table in KEYS)
        + " (sequencer/README.md tells every key).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml")
    parser.add_argument("--key", type=Path, required=True, help="the publisher's key (sequencer keygen)")
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to write (here)")
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="where the base lies (the newest of its name; --output)"
    )
    parser.add_argument("--base", type=Path, metavar="FILE.ovp", help="the base, instead of the newest")
    parser.add_argument("--package-version", default="", metavar="VERSION", help="instead of the recipe's")
    parser.add_argument("--no-train", action="store_true", help="do not start its applications to learn")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="of an earlier version, if not trained (the newest there)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary: only the file's name")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build; return 0."""
    built = build(
        Request(
            recipe=args.recipe,
            output=args.output,
            key=args.key,
            packages=args.packages or args.output,
            base=args.base,
            version=args.package_version,
            train=not args.no_train,
            profile=args.profile,
            quiet=args.quiet or args.json,
        )
    )
    if args.json:
        profile = {"path": built.profiled.path, "how": built.profiled.how, "told": built.profiled.told}
        record = {**json.loads(built.report.as_json()), "profile": profile}
        print(json.dumps(record, indent=1, default=str))
    elif args.quiet:
        print(built.package)
    else:
        print("\n".join(built.report.lines()))
        print(f"  package     {built.package}\n  report      {built.report_path}")
        if built.profiled.path is not None:
            print(f"  profile     {built.profiled.path} ({built.profiled.how})")
    if built.profiled.told and not args.json:
        print(f"sequencer: {built.profiled.told}", file=sys.stderr)
    return 0
