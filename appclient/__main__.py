"""appclient: sign in to a stream server, see what it publishes, and run it without installing it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from packageformat.errors import MillstreamError

COMMANDS = ("login", "refresh", "list", "run", "status", "cache", "reset", "remove", "stop", "agent", "watch")

_DESCRIPTION = """\
Run applications that your organisation publishes, without installing them: each streams on its first
start, stays in a cache, and runs in a bubble of its own."""

_EXAMPLES = """\
examples:
  appclient login https://apps.example.org     sign in once
  appclient list                               what you may run
  appclient run gimp photo.png                 run it
  appclient status                             how things stand

exit codes: 0 done · 1 a bug · 2 wrong usage · 10-13 damaged or forged data · 40 not signed in
  41 wrong password · 42 not entitled · 43 unknown application · 44 server unreachable
  45 server not trusted · 46 disk full or read-only · 47 agent · 50-54 this machine cannot run bubbles
  'run' otherwise ends with the application's own exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, or the process's own; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(arguments)
        args, rest = parser.parse_known_args(arguments)
        if rest and (rest[0] != "--" or not hasattr(args, "files")):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:  # argparse gives up what follows "--" once an option has stood between
            args.files += rest[1:]
        code = args.run(args)
    except MillstreamError as error:
        print(f"appclient: {error.line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except Exception as bug:
        if os.environ.get("MILLSTREAM_DEBUG"):
            raise
        with tempfile.NamedTemporaryFile("w", prefix="appclient-bug-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        kind = type(bug).__name__
        print(f"appclient: a bug ({kind}): {' '.join(arguments[:1])}; report {log.name}", file=sys.stderr)
        return 1
    return int(code)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appclient",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    wanted = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name in (wanted,) if wanted else COMMANDS:  # importing all commands would slow down each start
        importlib.import_module(f"appclient.command_{name}").add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
