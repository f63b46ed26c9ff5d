"""`sequencer`: the packager's program."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from packageformat.errors import MillstreamError
from sequencer import (
    command_build,
    command_inspect,
    command_keygen,
    command_profile,
    command_train,
    command_tree,
    command_verify,
)
from sequencer.errors import StorageError

OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EBADF)
DESCRIPTION = """\
Millstream's sequencer makes packages of applications: it runs their installer in a disposable overlay, and
what the installer leaves becomes a signed layer that can be streamed.
"""
EXAMPLES = """\
examples:
  sequencer keygen publisher.key
  sequencer build samples/debian-12.toml  --key publisher.key --output packages
  sequencer build samples/galculator.toml --key publisher.key --output packages
  sequencer verify packages/galculator_*.ovp

Every command has its own --help. Set MILLSTREAM_DEBUG=1 to see where an unexpected error comes from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="sequencer",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (
        *(command_build, command_train, command_profile, command_inspect),
        *(command_tree, command_verify, command_keygen),
    ):
        command.add_parser(commands)
    try:
        code = _run(parser, argv)
        if sys.stdout is not None:  # None: closed before we started
            sys.stdout.flush()
    except MillstreamError as error:
        _say(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; nothing is left behind")
        return 130
    except BrokenPipeError:
        _discard_output()
        return 141
    except Exception as error:  # noqa: BLE001 - a bug: one line for the user, the rest for us
        if isinstance(error, OSError) and error.filename is None and error.errno in OUTPUT_FAILS:
            _discard_output()
            _say(f"cannot write the output: {error.strerror}; free space where it goes, then try again")
            return StorageError.exit_code
        return _bug()
    return code


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        args = parser.parse_args(argv)
    except SystemExit as ending:  # --help, or usage
        return ending.code if isinstance(ending.code, int) else 0
    return int(args.run(args))


def _discard_output() -> None:
    """Let what is still in the buffer go nowhere: the interpreter would try again at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # standard error may be closed or full too
        print(f"sequencer: {' '.join(line.split())}", file=sys.stderr)


def _bug() -> int:
    if os.environ.get("MILLSTREAM_DEBUG"):
        traceback.print_exc()
        return 1
    try:
        with tempfile.NamedTemporaryFile("w", prefix="sequencer-bug-", suffix=".log", delete=False) as log:
            log.write(traceback.format_exc())
    except OSError:
        _say("a bug, and no room for its log; run it again with MILLSTREAM_DEBUG=1")
        return 1
    _say(f"a bug; please report it with {Path(log.name)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
