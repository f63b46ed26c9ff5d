"""`streamserver`: the administrator's program."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from packageformat.errors import MillstreamError
from streamserver import (
    command_check,
    command_entitle,
    command_group,
    command_import,
    command_init,
    command_packages,
    command_serve,
    command_trust,
    command_user,
)

COMMANDS = (
    command_init,
    command_serve,
    command_import,
    command_packages,
    command_trust,
    command_user,
    command_group,
    command_entitle,
    command_check,
)

DESCRIPTION = "Store packages, say who may run them, and stream them to clients."
EPILOG = """\
a server in one minute:
  streamserver init /srv/millstream --self-signed apps.example.org
  streamserver trust add /srv/millstream publisher.pub
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
    args = make_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except MillstreamError as error:
        print(f"streamserver: {error.line()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - a bug: one line, and the trace for who asks
        if os.environ.get("MILLSTREAM_DEBUG"):
            traceback.print_exc()
        print(
            f"streamserver: bug: {type(error).__name__}: {error}; run again with MILLSTREAM_DEBUG=1",
            file=sys.stderr,
        )
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
