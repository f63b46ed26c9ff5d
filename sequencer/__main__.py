"""`sequencer`: the packager's program."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from packageformat.errors import MillstreamError
from sequencer import command_build, command_inspect, command_keygen, command_tree, command_verify

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
    for command in (command_build, command_inspect, command_tree, command_verify, command_keygen):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except MillstreamError as error:
        print(f"sequencer: {' '.join(error.line().split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sequencer: interrupted; nothing is left behind", file=sys.stderr)
        return 130
    except Exception:  # noqa: BLE001 - a bug: one line for the user, the rest for us
        return _bug()


def _bug() -> int:
    if os.environ.get("MILLSTREAM_DEBUG"):
        traceback.print_exc()
        return 1
    with tempfile.NamedTemporaryFile("w", prefix="sequencer-bug-", suffix=".log", delete=False) as log:
        log.write(traceback.format_exc())
    print(f"sequencer: a bug; please report it with {Path(log.name)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
