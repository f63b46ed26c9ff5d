"""appclient stop: end the agent."""

from __future__ import annotations

import argparse
import time

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import AgentError
from appclient.wire import Message

_SECONDS = 10.0


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "stop",
        help="end the agent",
        description="End the agent. Running applications go on; they start it again when they need it.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stop the agent; it is no error if none runs."""
    stop()
    return 0


def stop() -> None:
    """End the agent and wait for its end.

    Raises:
        AgentError: it does not end.
    """
    folders = own_folders()
    try:
        agent = ask(folders, Message("stop"), start=False, timeout=10).number("agent")
    except AgentError:
        return
    end = time.monotonic() + _SECONDS
    while folders.agent_lock.exists() and _lives(agent):
        if time.monotonic() > end:
            raise AgentError(f"the agent (process {agent}) does not end", hint=f"kill {agent}")
        time.sleep(0.02)


def _lives(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
