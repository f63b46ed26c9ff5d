"""appclient stop: end the agent."""

from __future__ import annotations

import argparse
import os
import signal
import time
from contextlib import suppress

from appclient.agentlink import QUICK_SECONDS, ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import AgentError, NoAgentError, SilentAgentError
from appclient.wire import Message

_SECONDS = 10.0


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "stop",
        help="end the agent",
        description="End the agent, by force if it does not answer. Running applications go on; they start "
        "it again when they need it.",
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
        agent = ask(folders, Message("stop"), start=False, timeout=QUICK_SECONDS).number("agent")
    except SilentAgentError as silent:
        agent = silent.process
        with suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)  # which it must survive anyway; of the cache nothing is lost
    except NoAgentError:
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
