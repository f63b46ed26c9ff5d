"""A command's end of the talk with the agent, against agents that are not well."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appclient import wire
from appclient.agentlink import ask
from appclient.errors import NoAgentError, NotSignedInError, SilentAgentError
from appclient.folders import Folders, folders_of
from appclient.wire import Message


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = folders_of({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}, os.geteuid())
    made.prepare()
    return made


@pytest.fixture
def agent(folders: Folders) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folders.agent_socket))
        listener.listen()
        yield listener


def test_an_agent_that_says_nothing_is_given_up_and_named(folders: Folders, agent: socket.socket) -> None:
    with pytest.raises(SilentAgentError, match="said nothing") as caught:
        ask(folders, Message("status"), start=False, timeout=0.2)
    assert caught.value.process == os.getpid()
    assert "appclient stop" in caught.value.hint


def test_an_agent_that_works_long_is_waited_for(folders: Folders, agent: socket.socket) -> None:
    def work() -> None:
        link, _ = agent.accept()
        with link:
            for _ in range(6):
                time.sleep(0.1)
                link.sendall(wire.encode(Message("working")))
            link.sendall(wire.encode(Message("done", {"agent": 7})))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ask(folders, Message("status"), start=False, timeout=0.4).number("agent") == 7
    thread.join(10)


def test_no_agent_is_started_to_say_that_nobody_is_signed_in(folders: Folders) -> None:
    with pytest.raises(NotSignedInError):
        ask(folders, Message("refresh"))
    assert not folders.log.exists()
    with pytest.raises(NoAgentError):
        ask(folders, Message("status"), start=False)
