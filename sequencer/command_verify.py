"""`sequencer verify`: every block, every signature, then a run in a bubble."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bubble.errors import LaunchError
from packageformat.layout import unpack_frame
from packageformat.signature import fingerprint
from sequencer.errors import StorageError
from sequencer.keys import read_public_key
from sequencer.packagefile import SUFFIX, PackageFile, open_package_file, open_stack
from sequencer.progress import PackDisplay
from sequencer.trial import Outcome, try_package
from sequencer.workfolder import cache_folder

EXAMPLES = """\
examples:
  sequencer verify packages/galculator_2.1.4-1.1.ovp
  sequencer verify --publisher publisher.key.pub --no-run packages/*.ovp
  sequencer verify --pictures shots packages/inkscape_1.2.2-2.ovp
  sequencer verify --check 'figlet -v' packages/figlet_2.2.5.ovp

A desktop application holds when its first window is there (on a display of its own, never yours); a console
application when its check ends with 0: the command of --check, else the one that its recipe names (from the
report beside the package), else its own with --version.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "verify",
        help="read every block, check the signature, run it",
        description="Read and check every block and the signature of packages, then start their "
        "applications in a bubble.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, nargs="+", metavar="PKG.ovp")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where its runtimes lie (beside it)")
    parser.add_argument("--publisher", type=Path, metavar="KEY.pub", help="it must be signed by this key")
    parser.add_argument("--no-run", action="store_true", help="do not start anything")
    parser.add_argument("--check", default="", metavar="COMMAND", help="for its console applications")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write a PNG of each first window there")
    parser.add_argument("--json", action="store_true", help="one JSON object a package")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify; return 0, or raise at the first package that does not hold."""
    trusted = [read_public_key(args.publisher)] if args.publisher else None
    for path in args.package:
        _verify(path, trusted, args)
    return 0


def _verify(path: Path, trusted: list[bytes] | None, args: argparse.Namespace) -> None:
    began = time.monotonic()
    file = open_package_file(path, trusted)
    manifest = file.package.manifest
    _check_blocks(file, quiet=args.json)
    checked = time.monotonic() - began
    if not args.json:
        print(
            f"{path}: {manifest.name} {manifest.version}, {manifest.block_count:,} blocks, "
            f"signed by {fingerprint(manifest.publisher)}: whole ({checked:.1f} s)",
            flush=True,
        )
    outcomes: list[Outcome] = []
    if not args.no_run and manifest.applications:
        folders = (path.parent, args.packages) if args.packages else (path.parent,)
        outcomes = _try(open_stack(file, folders), args)
    else:
        file.close()
    if args.json:
        record = {
            "package": str(path),
            "version_id": file.package.version_id.hex(),
            "blocks": manifest.block_count,
            "publisher": manifest.publisher.hex(),
            "seconds": round(checked, 2),
            "applications": [asdict(outcome) for outcome in outcomes],
        }
        print(json.dumps(record, default=str), flush=True)
    failed = [outcome for outcome in outcomes if not outcome.holds]
    if failed:
        raise LaunchError(
            f"{failed[0].application} of {path} does not run: {failed[0].told}",
            hint="see what it lacks in the report, correct the recipe, then build again",
        )


def _try(stack: list[PackageFile], args: argparse.Namespace) -> list[Outcome]:
    scratch = cache_folder()
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {scratch}: {error.strerror}") from error
    applications = stack[-1].package.manifest.applications
    checks = _stated_checks(stack[-1].path)
    if args.check:
        checks = {application.id: args.check for application in applications}
    outcomes = try_package(stack, scratch, checks, args.pictures)
    for outcome in outcomes if not args.json else ():
        word = "runs" if outcome.holds else "DOES NOT RUN"
        print(f"  {outcome.application} {word} ({outcome.seconds:.1f} s): {outcome.told}", flush=True)
        if outcome.picture is not None:
            print(f"    {outcome.picture}")
    for file in stack:
        file.close()
    return outcomes


def _stated_checks(package: Path) -> dict[str, str]:
    """Return the commands that the recipe named for checks, from the report beside the package."""
    report = package.with_name(f"{package.name.removesuffix(SUFFIX)}.report.json")
    try:
        record = json.loads(report.read_text("utf-8"))
        return {str(key): str(command) for key, command in record["checks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _check_blocks(file: PackageFile, *, quiet: bool) -> None:
    package = file.package
    total = package.layout.stored_bytes
    done = 0
    with PackDisplay(quiet=quiet or not sys.stderr.isatty()) as bar:
        for frame, blocks in enumerate(package.layout.frames):
            stored = file.frame(frame)
            unpack_frame(package.tree, package.block_ids, blocks, stored)
            done += len(stored)
            bar.show("verify", done, total)
