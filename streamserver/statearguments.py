"""The server's folder on the command line: `[DIR]` in front, `--dir DIR`, or MILLSTREAM_SERVER."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from packageformat.errors import MillstreamError

VARIABLE = "MILLSTREAM_SERVER"


class UsageError(MillstreamError):
    """A command line that does not say what is needed."""

    exit_code = 2


def add_state_arguments(parser: argparse.ArgumentParser, *names: str, json: bool = False) -> None:
    """Give a command the server's folder and the arguments `names`."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=" ".join(["[DIR]", *names]),
        help=f"the server's folder (or --dir, or ${VARIABLE}){', then ' if names else ''}{' '.join(names)}",
    )
    parser.add_argument("--dir", type=Path, metavar="DIR", help="the server's folder")
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def state_arguments(args: argparse.Namespace, count: int, *, more: bool = False) -> tuple[Path, list[str]]:
    """Return the server's folder and the `count` other arguments (`more`: at least as many).

    One word too many is the folder in front. With `more`, a first word that is a folder is the folder.

    Raises:
        UsageError: too few or too many words, or no folder.
    """
    words: list[str] = args.words
    folder: Path | None = args.dir
    in_front = len(words) == count + 1 if not more else len(words) > count and Path(words[0]).is_dir()
    if folder is None and in_front:
        folder, words = Path(words[0]), words[1:]
    if folder is None and os.environ.get(VARIABLE):
        folder = Path(os.environ[VARIABLE])
    if len(words) != count and not (more and len(words) > count):
        raise UsageError("wrong number of arguments", hint="--help shows what the command takes")
    if folder is None and more and len(words) > count and not Path(words[0]).exists():
        raise UsageError(f"{words[0]} is no server's folder", hint="'streamserver init' makes one")
    if folder is None:
        raise UsageError("no server's folder given", hint=f"give DIR, --dir DIR or set {VARIABLE}")
    return folder, words
