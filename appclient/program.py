"""The command line: one module a command, and what each error looks like to the user."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

from packageformat.errors import MillstreamError

COMMANDS = (
    "login", "refresh", "list", "run", "status", "fill", "settings", "cache", "rollback", "reset", "remove",
    "stop", "agent", "watch",
)  # fmt: skip

_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EBADF)
_DISK = 46  # appclient.errors.CacheError's; not imported for the sake of a fast start

_DESCRIPTION = """\
Run applications that your organisation publishes, without installing them: each streams on its first
start, stays in a cache, and runs in a bubble of its own."""

_EXAMPLES = """\
examples:
  appclient login https://apps.example.org     sign in once
  appclient list                               what you may run
  appclient run gimp photo.png                 run it
  appclient status                             how things stand
  appclient fill gimp --wait                   have all of it here, for the train

exit codes: 0 done · 1 a bug · 2 wrong usage · 10-13 damaged or forged data · 40 not signed in
  41 wrong password · 42 not entitled · 43 unknown application · 44 server unreachable
  45 server not trusted · 46 disk full or read-only · 47 agent · 50-54 this machine cannot run bubbles
  'run' otherwise ends with the application's own exit code."""


def main(arguments: Sequence[str], perform: Callable[[argparse.Namespace], int] | None = None) -> int:
    """Do what the command line says; return the exit code.

    `perform` does the command, if not its own module: the launcher's way of `run`.
    """
    try:
        parser = parser_of(arguments)
        args, rest = parser.parse_known_args(arguments)
        if rest and (rest[0] != "--" or not hasattr(args, "files")):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:  # argparse gives up what follows "--" once an option has stood between
            args.files += rest[1:]
        code = (perform or args.run)(args)
        if sys.stdout is not None:  # None: closed before we started
            sys.stdout.flush()
    except MillstreamError as error:
        _say(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 141
    except Exception as bug:
        if isinstance(bug, OSError) and bug.filename is None and bug.errno in _OUTPUT_FAILS:
            _discard_output()
            _say(f"cannot write the output: {bug.strerror}; free space where it goes, then try again")
            return _DISK
        if os.environ.get("MILLSTREAM_DEBUG"):
            raise
        with tempfile.NamedTemporaryFile("w", prefix="appclient-bug-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        kind = type(bug).__name__
        _say(f"a bug ({kind}): {' '.join(arguments[:1])}; report {log.name}")
        return 1
    return int(code)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # standard error may be closed or full too
        print(f"appclient: {' '.join(line.split())}", file=sys.stderr)


def _discard_output() -> None:
    """Let what is still in the buffer go nowhere: the interpreter would try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def parser_of(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return what reads `arguments`."""
    return _parser(arguments[0] if arguments and arguments[0] in COMMANDS else None)


@functools.cache
def _parser(wanted: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="appclient",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in (wanted,) if wanted else COMMANDS:  # importing all commands would slow down each start
        importlib.import_module(f"appclient.command_{name}").add_parser(subparsers)
    return parser
