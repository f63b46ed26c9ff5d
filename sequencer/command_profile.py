"""`sequencer profile`: what a launch touches, for people: by file, by second, by layer, as a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packageformat.launchprofile import LaunchProfile
from packageformat.limits import PAGE_SIZE
from sequencer.canvas import Canvas, PngCanvas, SvgCanvas
from sequencer.command_train import figures
from sequencer.errors import TrainingError, UsageError
from sequencer.pack import write_bytes
from sequencer.packagefile import PackageFile, open_package_file, open_stack
from sequencer.profilefile import profile_path, read_profiles
from sequencer.profilepicture import GROUND, HEIGHT, WIDTH, Caption, draw
from sequencer.stackmap import StackMap

EXAMPLES = """\
examples:
  sequencer profile packages/galculator_2.1.4-1.2.ovp
  sequencer profile packages/libreoffice-writer_7.4.7.ovp libreoffice-writer --picture launch.png
  sequencer profile packages/inkscape_1.2.2-2.ovp --top 40 --json

`sequencer train` makes the profile. The picture (PNG or SVG, by its name) is a map of every page of the
package and what it runs on, coloured by when a launch touches it.
"""
BAR = 40


@dataclass(frozen=True, slots=True)
class FileShare:
    """What of a file is touched."""

    path: str
    touched: int  # pages
    pages: int
    first_ms: int  # in the run that touched it first


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "profile",
        help="show what a launch touches",
        description="Show a launch profile: by file, by second, by layer, as a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, metavar="PKG.ovp")
    parser.add_argument("application", nargs="?", default="", metavar="APP", help="one application (all)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="the profile (beside the package)")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where its runtimes lie (beside it)")
    parser.add_argument("--top", type=int, default=15, metavar="N", help="files to show (%(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it: FILE.png or FILE.svg")
    parser.add_argument("--json", action="store_true", help="one JSON object an application")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show; return 0."""
    if args.picture and args.picture.suffix not in (".png", ".svg"):
        raise UsageError(f"a picture is a .png or an .svg, not {args.picture.name}")
    found = read_profiles(args.profile or profile_path(args.package)).profiles
    chosen = [one for one in found if args.application in ("", one.application)]
    if not chosen:
        raise TrainingError(
            f"no profile of {args.application or 'any application'} there",
            hint=f"it has: {', '.join(one.application for one in found) or 'none'}",
        )
    if args.picture and len(chosen) > 1:
        raise UsageError(
            "a picture is of one application", hint=f"name it: {', '.join(one.application for one in chosen)}"
        )
    folders = (args.package.parent, *([args.packages] if args.packages else []))
    stack = open_stack(open_package_file(args.package), folders)
    for profile in chosen:
        pages = StackMap([file.package for file in stack], profile)
        if args.json:
            print(json.dumps(_record(profile, pages, args.top)), flush=True)
        else:
            print("\n".join(_lines(profile, pages, args.top)), flush=True)
        if args.picture:
            write_bytes(args.picture, picture(stack, profile, pages, svg=args.picture.suffix == ".svg"))
            if not args.json:
                print(f"\n{args.picture}")
    for file in stack:
        file.close()
    return 0


def picture(stack: Sequence[PackageFile], profile: LaunchProfile, pages: StackMap, *, svg: bool) -> bytes:
    """Return the picture of a profile as a file."""
    manifest = stack[-1].package.manifest
    application = next((one for one in manifest.applications if one.id == profile.application), None)
    name = application.name if application else profile.application
    window = profile.before_window().pages
    title = f"What {name} touches when it starts"
    mine, whole = (count * PAGE_SIZE / 1e6 for count in (window, pages.pages))
    below = (
        f"{mine:,.0f} MB to its first window, of {whole:,.0f} MB: {mine / max(1, whole):.0%}. "
        f"Every page of {' and '.join(one.name for one in pages.layers)}, in the order on disk."
    )
    canvas: Canvas = (SvgCanvas if svg else PngCanvas)(WIDTH, HEIGHT, GROUND)
    draw(canvas, pages, profile, Caption(title, below))
    return canvas.file()


def shares(profile: LaunchProfile) -> list[FileShare]:
    """Return what of each file is touched, most pages first."""
    touched = [0] * len(profile.contents)
    first = [-1] * len(profile.contents)
    for touch in profile.touches:
        touched[touch.content] += touch.pages
        if first[touch.content] < 0:
            first[touch.content] = touch.after_ms
    found = [
        FileShare(content.path.decode("utf-8", "replace"), touched[number], content.pages, first[number])
        for number, content in enumerate(profile.contents)
    ]
    return sorted(found, key=lambda share: (-share.touched, share.path))


def seconds(profile: LaunchProfile) -> list[int]:
    """Return how many pages the first launch touches in each second."""
    found: list[int] = []
    for touch in profile.touches:
        if not touch.run:
            second = touch.after_ms // 1000
            found.extend([0] * (second + 1 - len(found)))
            found[second] += touch.pages
    return found


def added(profile: LaunchProfile) -> list[int]:
    """Return how many pages each run touched that none before it in the profile did."""
    found = [0] * len(profile.runs)
    for touch in profile.touches:
        found[touch.run] += touch.pages
    return found


def _record(profile: LaunchProfile, pages: StackMap, top: int) -> dict[str, object]:
    return {
        **figures(profile),
        "missing_pages": pages.missing,
        "layers": [
            {"name": layer.name, "pages": layer.pages, "touched": pages.touched(layer)}
            for layer in pages.layers
        ],
        "added_by_run": added(profile),
        "pages_by_second": seconds(profile),
        "by_file": [
            {"path": one.path, "touched": one.touched, "pages": one.pages, "first_ms": one.first_ms}
            for one in shares(profile)[:top]
        ],
    }


def _lines(profile: LaunchProfile, pages: StackMap, top: int) -> list[str]:
    window = profile.before_window().pages
    lines = [
        f"{profile.application}",
        f"  first window {_size(window)} in {profile.window_ms / 1000:.1f} s; "
        f"with all runs {_size(profile.pages)} of {len(profile.contents):,} files",
        "",
        f"  {'layer':44}{'touched':>12}{'of':>12}{'share':>8}",
    ]
    for layer in pages.layers:
        touched = pages.touched(layer)
        lines.append(
            f"  {layer.name[:43]:44}{_size(touched):>12}{_size(layer.pages):>12}"
            f"{touched / max(1, layer.pages):>8.1%}"
        )
    if pages.missing:
        lines.append(f"  no longer there: {_size(pages.missing)}")
    lines += ["", f"  {'run':44}{'window':>12}{'added':>12}"]
    for run, more in zip(profile.runs, added(profile), strict=True):
        lines.append(f"  {run.name[:43]:44}{run.window_ms / 1000:>10.1f} s{_size(more):>12}")
    lines += ["", "  second of the first launch"]
    counts = seconds(profile)
    for second, count in enumerate(counts):
        mark = "  first window" if second == profile.window_ms // 1000 else ""
        bar = "#" * round(BAR * count / max(counts))
        lines.append(f"  {second:4} {_size(count):>10}  {bar}{mark}")
    found = shares(profile)
    lines += ["", f"  {'file':60}{'touched':>12}{'share':>8}{'from':>9}"]
    for one in found[:top]:
        path = one.path if len(one.path) <= 58 else f"...{one.path[-55:]}"
        lines.append(
            f"  {path:60}{_size(one.touched):>12}{one.touched / one.pages:>8.0%}{one.first_ms / 1000:>7.2f} s"
        )
    if len(found) > top:
        rest = sum(one.touched for one in found[top:])
        lines.append(f"  {f'{len(found) - top:,} other files':60}{_size(rest):>12}")
    return [*lines, ""]


def _size(pages: int) -> str:
    return f"{pages * PAGE_SIZE / 1e6:,.1f} MB"
