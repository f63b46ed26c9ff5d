"""`sequencer tree`: the entries of a package."""

from __future__ import annotations

import argparse
import json
import os
import stat
import time
from pathlib import Path

from packageformat.errors import FormatError
from packageformat.names import check_path
from packageformat.tree import Kind, Tree
from sequencer.errors import RecipeError, UsageError
from sequencer.packagefile import open_package

LETTERS = {Kind.FOLDER: "d", Kind.FILE: "-", Kind.SYMLINK: "l", Kind.HARDLINK: "-", Kind.WHITEOUT: "w"}
EXAMPLES = """\
examples:
  sequencer tree packages/galculator_2.1.4-1.1.ovp usr/bin
  sequencer tree --json packages/galculator_2.1.4-1.1.ovp | jq -r .path

Columns: kind and mode (w: hides what the base has there; o: an opaque folder), owner, bytes, time, path.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "tree",
        help="list a package's entries",
        description="List the entries of a package, or of one folder in it and below.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, metavar="PKG.ovp")
    parser.add_argument(
        "path", nargs="?", default="", metavar="PATH", help="only this entry and what is below"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List; return 0."""
    package = open_package(args.package)
    tree = package.tree
    wanted = os.fsencode(args.path.strip("/"))
    try:
        check_path(wanted)
    except FormatError as error:
        raise UsageError(
            f"not a path in a package: {args.path!r} ({error})",
            hint="give one as 'sequencer tree' lists them",
        ) from error
    start = tree.find(wanted)
    if start is None:
        raise RecipeError(f"{args.package} has no {args.path!r}", hint="list all: sequencer tree PKG.ovp")
    paths = tree.paths()
    index = start
    while index < len(tree) and (index == start or tree.depths[index] > tree.depths[start]):
        print(_json(tree, index, paths[index]) if args.json else _line(tree, index, paths[index]))
        index += 1
    return 0


def _line(tree: Tree, index: int, path: bytes) -> str:
    entry = tree[index]
    holder = tree[entry.link] if entry.link >= 0 else entry
    mode = stat.filemode(holder.mode)[1:]
    mark = "o" if entry.opaque else LETTERS[entry.kind]
    owner = f"{holder.uid}:{holder.gid}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder.mtime_ns // 10**9))
    shown = path.decode("utf-8", "backslashreplace") or "."
    target = entry.target.decode("utf-8", "backslashreplace")
    if entry.kind == Kind.SYMLINK:
        shown += f" -> {target}"
    elif entry.kind == Kind.HARDLINK:
        shown += f" = {target}"
    return f"{mark}{mode} {owner:>9} {tree.file_size(index):>12,} {when} {shown}"


def _json(tree: Tree, index: int, path: bytes) -> str:
    entry = tree[index]
    return json.dumps(
        {
            "path": path.decode("utf-8", "backslashreplace"),
            "kind": entry.kind.name.lower(),
            "mode": f"{entry.mode:04o}",
            "uid": entry.uid,
            "gid": entry.gid,
            "mtime_ns": entry.mtime_ns,
            "size": tree.file_size(index),
            "target": entry.target.decode("utf-8", "backslashreplace"),
            "opaque": entry.opaque,
            "xattrs": {name.decode("utf-8", "backslashreplace"): value.hex() for name, value in entry.xattrs},
        }
    )
