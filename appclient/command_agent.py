"""appclient agent: the resident part; commands start it by themselves."""

from __future__ import annotations

import argparse
import os

from appclient.agentlock import only_agent
from appclient.commandfolders import Subparsers, own_folders

_IDLE, _PATIENCE = 600.0, 30.0


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "agent",
        help="be the agent (commands start it by themselves)",
        description="Be the agent of this user, in the foreground: hold the connection and the cache, and "
        "supply running applications. Ends by itself when idle, and at once if there is an agent already.",
        epilog="environment: MILLSTREAM_IDLE and MILLSTREAM_PATIENCE set the defaults of the options.",
    )
    parser.add_argument(
        "--idle", type=float, metavar="SECONDS", default=_seconds("MILLSTREAM_IDLE", _IDLE), help="(600)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        default=_seconds("MILLSTREAM_PATIENCE", _PATIENCE),
        help="how long the server may be gone before an application's read fails (30)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Be the agent, unless there is one."""
    folders = own_folders()
    with only_agent(folders) as alone:
        if alone:
            from appclient.agent import run_agent  # brings in asyncio and the HTTP client

            run_agent(folders, idle=args.idle, patience=args.patience)
    return 0


def _seconds(variable: str, fallback: float) -> float:
    try:
        return float(os.environ.get(variable, fallback))
    except ValueError:
        return fallback
