"""appclient watch: the progress line that `run` shows in a terminal while an application streams."""

from __future__ import annotations

import argparse
import os
import sys
import time

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import AgentError
from appclient.wire import Message

_PAUSE = 0.25
_QUIET_MS = 3000


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command; it is for `run` alone."""
    parser = subparsers.add_parser("watch", description="Show how a bubble streams, for 'appclient run'.")
    parser.add_argument("bubble")
    parser.add_argument("name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show bytes and blocks while they come; say once what keeps them from coming."""
    folders = own_folders()
    parent = os.getppid()
    question = Message("bubble", {"bubble": args.bubble})
    first: int | None = None
    shown = False
    told = ""
    while os.getppid() == parent:
        try:
            answer = ask(folders, question, start=False, timeout=5)
        except AgentError:
            time.sleep(1)  # killed: a view starts it again when it needs it
            continue
        received = answer.number("bytes_received")
        first = received if first is None else first
        trouble = answer.text("trouble")
        if trouble and trouble != told:
            _show(f"{args.name}: {trouble}\n")
            shown = False
        elif received > first and answer.number("idle_ms") < _QUIET_MS:
            megabytes = (received - first) / 1e6
            _show(f"{args.name}: {megabytes:.1f} MB, {answer.number('blocks_fetched')} blocks")
            shown = True
        elif shown:
            _show("")
            shown = False
        told = trouble
        time.sleep(_PAUSE)
    return 0


def _show(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
