"""appclient fill: bring all of an application into the cache now."""

from __future__ import annotations

import argparse
import json
import sys
import time

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import CacheError, NoAgentError
from appclient.folders import Folders
from appclient.settings import rate_of
from appclient.wire import Message

_PAUSE = 0.3
_BAR = 30


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "fill",
        help="bring all of an application here, for use without the server",
        description="Bring the rest of an application's packages into the cache, behind whatever runs: also "
        "where the settings say no, or the link is metered. Without APP: of those started here, or of all if "
        "the settings say so. It goes on in the background.",
    )
    parser.add_argument("application", metavar="APP", nargs="?", default="", help="see 'appclient list'")
    parser.add_argument(
        "--limit-mbit", metavar="N", type=_rate, default=0.0, help="take no more than N Mbit/s"
    )
    parser.add_argument("--wait", action="store_true", help="until all of it is here")
    parser.add_argument("--json", action="store_true", help="print how far it is as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fill; wait if asked to or if somebody watches."""
    folders = own_folders()
    question = Message("fill", {"application": args.application, "limit_mbit": str(args.limit_mbit)})
    tops = ask(folders, question).texts("tops")
    shown = sys.stderr.isatty() and not args.json
    answer = _progress(folders, tops)
    if not tops:
        print("nothing was started here yet: name an application", file=sys.stderr)
    told = ""
    while tops and args.wait and not answer.flag("whole"):
        reason = answer.text("reason")
        if reason.startswith("the disk"):
            _end_line(shown=shown)
            raise CacheError(reason, hint="then try again: what is here is kept")
        if shown:
            print(f"\r\033[K{_line(answer)}", end="", file=sys.stderr, flush=True)
        elif reason and reason != told and not args.json:
            print(reason, file=sys.stderr)
        told = reason
        time.sleep(_PAUSE)
        try:
            answer = _progress(folders, tops)
            if not answer.flag("asked") and not answer.flag("whole"):
                ask(folders, question)  # the agent is another one, or began anew
        except NoAgentError:
            continue
    _end_line(shown=shown)
    if args.json:
        print(json.dumps(dict(answer.fields)))
    elif tops:
        print(_line(answer))
    return 0


def _progress(folders: Folders, tops: tuple[str, ...]) -> Message:
    return ask(folders, Message("fill progress", {"tops": list(tops)}))


def _line(answer: Message) -> str:
    here = size = 0
    for version in answer.records("versions"):
        done, all_of_it = version.get("bytes_here"), version.get("bytes")
        if isinstance(done, int) and isinstance(all_of_it, int):
            here, size = here + done, size + all_of_it
    if answer.flag("whole"):
        return "all of it is here"
    part = here / size if size else 0.0
    bar = "#" * int(_BAR * part)
    line = f"[{bar:<{_BAR}}] {here / 1e6:.0f} of {size / 1e6:.0f} MB"
    if answer.text("reason"):
        return f"{line}; waits: {answer.text('reason')}"
    return f"{line}, {answer.number('rate') / 1e6:.1f} MB/s"


def _end_line(*, shown: bool) -> None:
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _rate(text: str) -> float:
    try:
        return rate_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
