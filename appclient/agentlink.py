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
from appclient.errors import AgentError, NoAgentError, SilentAgentError, storage_error
from appclient.folders import Folders
from appclient.language import language
from appclient.signin import recall
from appclient.wire import Message

START_SECONDS = 20.0
"""How long a new agent may take to listen (a busy machine)."""

SILENCE_SECONDS = 30.0
"""An agent that says nothing for so long is lost: it sends a sign of life every few seconds (agent.py)."""

QUICK_SECONDS = 5.0
"""The same for what an agent answers at once."""

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
    timeout: float = SILENCE_SECONDS,
) -> Message:
    """Ask the agent and return its answer.

    Args:
        folders: the user's.
        question: what to ask.
        on_progress: called with each progress message.
        start: start the agent if none runs.
        timeout: seconds of silence after which the agent counts as lost.

    Raises:
        NotSignedInError: nobody is signed in, and an agent would have to be started to say so.
        NoAgentError: none runs, and none was to be started.
        SilentAgentError: it says nothing.
        AgentError: it cannot be started, or went away in mid-answer.
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
                elif message.kind == "working":
                    continue
                elif message.kind == "done":
                    return message
                else:
                    raise wire.failure_of(message)
        except TimeoutError as error:
            raise SilentAgentError(_peer(link)[0], timeout) from error
        except OSError as error:
            raise NoAgentError(f"the agent went away ({error.strerror or error})") from error


def open_link(folders: Folders, *, start: bool, timeout: float) -> socket.socket:
    """Connect to the user's agent.

    Raises:
        NotSignedInError: nobody is signed in: no agent is started to say so.
        NoAgentError: there is none, and none was to be started.
        AgentError: none could be started, or it is not the user's.
    """
    link = _connect(folders.agent_socket)
    if link is None and start:
        recall(folders.config)
        folders.prepare()
        agent = start_agent(folders)
        end = time.monotonic() + START_SECONDS
        while link is None:
            ended = agent.poll()
            if ended is not None and ended > 0:  # 0: another agent was there first
                raise AgentError(f"the agent ended at once with {ended}", hint=f"its log is {folders.log}")
            if time.monotonic() > end:
                raise AgentError("the agent does not listen", hint=f"its log is {folders.log}")
            if ended is not None:  # killed, or another came first and may have been killed since
                agent = start_agent(folders)
            time.sleep(0.01)
            link = _connect(folders.agent_socket)
    if link is None:
        raise NoAgentError("no agent runs", hint="it starts by itself with 'appclient run'")
    link.settimeout(timeout)
    if _peer(link)[1] != os.geteuid():
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


def _peer(link: socket.socket) -> tuple[int, int]:
    """Return the process and the user that listen at the other end."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(credentials)
    return process, user


def _connect(path: Path) -> socket.socket | None:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    link.settimeout(QUICK_SECONDS)
    try:
        link.connect(str(path))
    except TimeoutError as error:
        link.close()
        raise AgentError("the agent takes no more connections", hint="run 'appclient stop'") from error
    except OSError:
        link.close()
        return None
    return link


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = link.recv(min(size, 1 << 16))
        if not part:
            raise NoAgentError("the agent ended in the middle of its answer")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def refresh(folders: Folders) -> Message:
    """Have the agent ask for the list of applications, in the user's language. Raises as `ask`."""
    return ask(folders, Message("refresh", {"language": language(os.environ)}))
