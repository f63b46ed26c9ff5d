"""`sequencer keygen`: a publisher's key."""

from __future__ import annotations

import argparse
from pathlib import Path

from sequencer.keys import PUBLIC_SUFFIX, write_key

EXAMPLES = """\
examples:
  sequencer keygen publisher.key
  streamserver trust add publisher.key.pub --dir /srv/millstream

The key signs packages: keep it to yourself, and a copy in a safe place. Servers and clients know you by its
public half (FILE.pub).
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "keygen",
        help="make a publisher's key",
        description="Make a publisher's key (Ed25519) and its public half; print the fingerprint.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="for the key; FILE.pub gets the public half")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the key; return 0."""
    shown = write_key(args.file)
    print(f"{args.file}: the key, for you alone\n{args.file}{PUBLIC_SUFFIX}: its public half\n{shown}")
    return 0
