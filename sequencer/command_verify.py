"""`sequencer verify`: every block, every signature, then a run in a bubble."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser("verify", help="read every block, then run it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify."""
    return 0
