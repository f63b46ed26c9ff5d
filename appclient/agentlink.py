"""A command's connection to the agent: started if none runs, one question, its progress, its answer."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appclient import wire
from appclient.errors import AgentError, storage_error
from appclient.folders import Folders
from appclient.wire import Message

START_SECONDS = 20.0
"""How long a new agent may take to listen (a busy machine)."""

_CREDENTIALS = struct.Struct("3i")


def agent_command() -> tuple[str, ...]:
    """Return the command line that starts the agent; a view runs it too when its agent has died."""
    return (sys.executable, "-m", "appclient", "agent")


def ask(
    folders: Folders,
    question: Message,
    *,
    on_progress: Callable[[Message], None] | None = None,
    start: bool = True,
    timeout: float = 600.0,
) -> Message:
    """Ask the agent and return its answer.

    Args:
        folders: the user's.
        question: what to ask.
        on_progress: called with each progress message.
        start: start the agent if none runs.
        timeout: seconds of silence after which the agent counts as lost.

    Raises:
        AgentError: no agent, or it went away or silent in mid-answer.
        ReportedError: what the agent answered instead.
    """
    with open_link(folders, start=start, timeout=timeout) as link:
        try:
            link.sendall(wire.encode(question))
            while True:
                message = wire.decode(_exactly(link, wire.length_of(_exactly(link, wire.LENGTH_SIZE))))
                if message.kind == "progress":
                    if on_progress is not None:
                        on_progress(message)
                elif message.kind == "done":
                    return message
                else:
                    raise wire.failure_of(message)
        except TimeoutError as error:
            raise AgentError(f"the agent said nothing for {timeout:.0f} s") from error
        except OSError as error:
            raise AgentError(f"the agent went away ({error.strerror or error})") from error


def open_link(folders: Folders, *, start: bool, timeout: float) -> socket.socket:
    """Connect to the user's agent.

    Raises:
        AgentError: there is none, none could be started, or it is not the user's.
    """
    link = _connect(folders.agent_socket)
    if link is None and start:
        folders.prepare()
        agent = start_agent(folders)
        end = time.monotonic() + START_SECONDS
        while link is None:
            if agent.poll() not in (None, 0):  # 0: another agent was there first
                raise AgentError(
                    f"the agent ended at once with {agent.returncode}", hint=f"its log is {folders.log}"
                )
            if time.monotonic() > end:
                raise AgentError("the agent does not listen", hint=f"its log is {folders.log}")
            time.sleep(0.01)
            link = _connect(folders.agent_socket)
    if link is None:
        raise AgentError("no agent runs", hint="it starts by itself with 'appclient run'")
    link.settimeout(timeout)
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(credentials)[1] != os.geteuid():
        link.close()
        raise AgentError(
            f"{folders.agent_socket} is held by another user", hint="set XDG_RUNTIME_DIR to yours"
        )
    return link


def start_agent(folders: Folders) -> subprocess.Popen[bytes]:
    """Start an agent that outlives this process; if one runs already, the new one ends by itself.

    Raises:
        CacheError: its log cannot be opened.
    """
    try:
        log = folders.log.open("ab")
    except OSError as error:
        raise storage_error("opening the log", folders.log, error) from error
    environment = dict(os.environ)
    source = str(Path(__file__).resolve().parents[1])
    if (
        source in sys.path[:1] or "" in sys.path[:1]
    ):  # run from a source folder: -m must find it from anywhere
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{source}:{known}" if known else source
    with log:
        return subprocess.Popen(
            agent_command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )


def _connect(path: Path) -> socket.socket | None:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        link.connect(str(path))
    except OSError:
        link.close()
        return None
    return link


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = link.recv(min(size, 1 << 16))
        if not part:
            raise AgentError("the agent ended in the middle of its answer")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
