"""`sequencer train`: what the applications of a package touch when they start, as launch profiles."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path

from packageformat.errors import FormatError
from packageformat.launchprofile import LaunchProfile, PackageProfiles
from packageformat.limits import PAGE_SIZE
from sequencer.errors import StorageError, UsageError
from sequencer.packagefile import open_package_file, open_stack
from sequencer.profilefile import joined, profile_path, read_profiles, write_profiles
from sequencer.progress import TrainingDisplay
from sequencer.training import Plan, Watch, train
from sequencer.workfolder import cache_folder

EXAMPLES = """\
examples:
  sequencer train packages/galculator_2.1.4-1.2.ovp
  sequencer train packages/libreoffice-writer_7.4.7.ovp libreoffice-writer --document letter.odt
  sequencer train packages/inkscape_1.2.2-2.ovp --runs 4 --json
  sequencer profile packages/galculator_2.1.4-1.2.ovp

Each application that shows a window is started several times on the streamed view, every page that it touches
is noted, and the union is written to NAME_VERSION.profile beside the package: a first launch (empty home), a
second one, one for each document type that it claims and we can make, one in another locale and on another
size of screen. Then first launches are rehearsed: on an empty cache, into which its pages come as a launch
pack would bring them. Those that it asks for before their turn come sooner. Displays are our own, never
yours. The package itself stays as it is.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "train",
        help="start it, and note which pages a launch touches",
        description="Start the applications of a package and note which pages a launch touches.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, metavar="PKG.ovp")
    parser.add_argument("application", nargs="?", default="", metavar="APP", help="one application (all)")
    parser.add_argument("--base", type=Path, metavar="FILE.ovp", help="the runtime right under it")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where its runtimes lie (beside it)")
    parser.add_argument("--output", type=Path, metavar="FILE.profile", help="where to write (beside it)")
    parser.add_argument("--runs", type=int, default=2, metavar="N", help="first launches (%(default)s)")
    parser.add_argument(
        "--document",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="open this one too (again and again)",
    )
    parser.add_argument(
        "--here-only", action="store_true", help="not in another locale, on another screen, without a network"
    )
    parser.add_argument(
        "--no-rehearsals", action="store_true", help="not over a line that is not there: order as touched"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress: only the file's name")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; return 0."""
    if not 1 <= args.runs <= 20:
        raise UsageError("--runs is 1 to 20")
    began = time.monotonic()
    file = open_package_file(args.package)
    folders = [args.package.parent, *([args.packages] if args.packages else [])]
    if args.base:
        folders.append(args.base.parent)
    stack = open_stack(file, folders)
    scratch = cache_folder()
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {scratch}: {error.strerror}") from error
    plan = Plan(
        args.runs, tuple(args.document), elsewhere=not args.here_only, rehearsals=not args.no_rehearsals
    )
    with TrainingDisplay(quiet=args.quiet or args.json) as display:
        profiles = train(stack, scratch, plan, Watch(display.say, display.tick), args.application)
    path = args.output or profile_path(args.package)
    before: PackageProfiles | None = None
    with suppress(FormatError, StorageError):  # what is there and cannot be read is replaced
        before = read_profiles(path)
    whole = joined(before, profiles)
    write_profiles(path, whole)
    seconds = time.monotonic() - began
    if args.json:
        record = {"profile": str(path), "seconds": round(seconds, 1)}
        print(json.dumps({**record, "applications": [figures(one) for one in profiles.profiles]}))
    elif args.quiet:
        print(path)
    else:
        for one in profiles.profiles:
            window = one.before_window().pages
            print(
                f"{one.application}: {one.pages:,} pages ({one.pages * PAGE_SIZE / 1e6:,.1f} MB) of "
                f"{len(one.contents):,} files; to the window {window:,} pages "
                f"({window * PAGE_SIZE / 1e6:,.1f} MB) in {one.window_ms / 1000:.1f} s"
            )
        print(f"{path} ({seconds:.0f} s)")
    for opened in stack:
        opened.close()
    return 0


def figures(profile: LaunchProfile) -> dict[str, object]:
    """Return what scripts want to know of a profile."""
    window = profile.before_window().pages
    return {
        "application": profile.application,
        "bubble_id": profile.bubble_id.hex(),
        "files": len(profile.contents),
        "pages": profile.pages,
        "bytes": profile.pages * PAGE_SIZE,
        "window_ms": profile.window_ms,
        "window_pages": window,
        "window_bytes": window * PAGE_SIZE,
        "touches": len(profile.touches),
        "runs": [{"name": run.name, "window_ms": run.window_ms} for run in profile.runs],
    }
