"""`streamserver`: the administrator's program."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence

from packageformat.errors import MillstreamError
from streamserver import (
    command_check,
    command_deltas,
    command_entitle,
    command_group,
    command_import,
    command_init,
    command_packages,
    command_packs,
    command_serve,
    command_trust,
    command_user,
)
from streamserver.errors import StoreError
from streamserver.textline import one_line

COMMANDS = (
    command_init,
    command_serve,
    command_import,
    command_packages,
    command_packs,
    command_deltas,
    command_trust,
    command_user,
    command_group,
    command_entitle,
    command_check,
)

OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EBADF)
DESCRIPTION = "Store packages, say who may run them, and stream them to clients."
EPILOG = """\
a server in one minute:
  streamserver init /srv/millstream --self-signed apps.example.org
  streamserver trust add /srv/millstream publisher.key.pub
  streamserver import /srv/millstream debian-12_1.ovp editor_2.1.ovp
  streamserver user add /srv/millstream anna
  streamserver group add /srv/millstream writers
  streamserver group join /srv/millstream writers anna
  streamserver entitle /srv/millstream editor writers
  streamserver serve /srv/millstream --listen 0.0.0.0:8470

Instead of DIR in front, every command takes --dir DIR or the variable MILLSTREAM_SERVER.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        "streamserver",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        code = _run(argv)
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
    except Exception as error:  # noqa: BLE001 - a bug: one line, and the trace for who asks
        if isinstance(error, OSError) and error.filename is None and error.errno in OUTPUT_FAILS:
            _discard_output()
            _say(f"cannot write the output: {error.strerror}; free space where it goes, then try again")
            return StoreError.exit_code
        if os.environ.get("MILLSTREAM_DEBUG"):
            traceback.print_exc()
        _say(f"bug: {type(error).__name__}: {error}; run again with MILLSTREAM_DEBUG=1")
        return 1
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as ending:  # --help, or usage
        return ending.code if isinstance(ending.code, int) else 0
    code: int = args.run(args)
    return code


def _discard_output() -> None:
    """Let what is still in the buffer go nowhere: the interpreter would try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # standard error may be closed or full too
        print(f"streamserver: {one_line(line)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
