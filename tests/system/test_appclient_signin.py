"""Signing in: who the server is, and what happens when something about it is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import PUBLISHER
from tests.system.appclient_stage import PASSWORD, ClientStage, client_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientStage]:
    folder = tmp_path_factory.mktemp("signin")
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    with client_stage(folder, tls=True) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(stage: ClientStage) -> None:
    stage.forget()


def fingerprint(stage: ClientStage) -> str:
    pem = (stage.server.folder / "certificate.pem").read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_a_certificate_that_nobody_vouches_for_is_shown_and_accepted_by_its_fingerprint(
    stage: ClientStage,
) -> None:
    refused = stage.login(code=45)
    assert fingerprint(stage) in refused.stderr
    assert "--accept-fingerprint" in refused.stderr
    stage.login("ann", "--accept-fingerprint", fingerprint(stage))
    told = json.loads(stage.client("list", "--json").stdout)
    assert [item["id"] for item in told] == ["org.example.Probe"]
    assert stage.status()["signed_in"]["user"] == "ann"


def test_another_certificate_than_the_accepted_one_is_refused(stage: ClientStage) -> None:
    refused = stage.login("ann", "--accept-fingerprint", "00" * 32, code=45)
    assert "another certificate" in refused.stderr


def test_a_wrong_password_is_told_and_nothing_is_kept(stage: ClientStage) -> None:
    accept = ("--accept-fingerprint", fingerprint(stage))
    arguments = ("login", stage.server.url, "--user", "ann", "--password-stdin", *accept)
    stage.client(*arguments, stdin="wrong\n", code=41)
    stage.client(*arguments, stdin="\n", code=41)
    stage.client("refresh", code=40)
    stage.client("run", "probe", code=40)


def test_a_password_is_not_sent_over_plain_http(stage: ClientStage) -> None:
    arguments = ("--user", "ann", "--password-stdin")
    refused = stage.client("login", "http://198.51.100.1", *arguments, stdin=PASSWORD + "\n", code=45)
    assert "plain HTTP" in refused.stderr


def test_a_server_that_is_down_is_told(stage: ClientStage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("login", url, "--user", "ann", "--password-stdin")
        assert "cannot be reached" in stage.client(*arguments, stdin=PASSWORD + "\n", code=44).stderr


def test_something_else_than_a_server_is_told(stage: ClientStage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(4096)
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stage.client("login", url, "--user", "ann", "--password-stdin", stdin=PASSWORD + "\n", code=45)
        thread.join(10)


def test_the_servers_key_is_pinned(stage: ClientStage) -> None:
    accept = ("--accept-fingerprint", fingerprint(stage))
    stage.login("ann", *accept)
    place = stage.user.home / ".config/millstream/signin.json"
    kept = json.loads(place.read_text())
    place.write_text(json.dumps({**kept, "server_key": "11" * 32}))
    assert "signing key" in stage.login("ann", *accept, code=45).stderr
    stage.client("refresh", code=12)  # a publishing list that the pinned key did not sign


def test_a_pin_is_held_when_the_certificate_changes(stage: ClientStage) -> None:
    stage.login("ann", "--accept-fingerprint", fingerprint(stage))
    place = stage.user.home / ".config/millstream/signin.json"
    kept = json.loads(place.read_text())
    place.write_text(json.dumps({**kept, "certificate": "11" * 32}))
    assert "another certificate" in stage.client("refresh", code=45).stderr


def test_pinned_publishers_are_held_to_whatever_is_in_the_cache(stage: ClientStage) -> None:
    accept = ("--accept-fingerprint", fingerprint(stage))
    stage.login("ann", *accept, "--publisher", "xyz", code=45)
    stage.login("ann", *accept)
    assert stage.client("run", "probe").stdout == "probe:0\n"
    stage.login("ann", *accept, "--publisher", "11" * 32)
    assert stage.status()["signed_in"]["publishers"] == ["11" * 32]
    assert "not pinned" in stage.client("run", "probe", code=12).stderr  # its view is in the cache
    shutil.rmtree(stage.cache / "views")
    stage.client("run", "probe", code=12)
    stage.login("ann", *accept, "--publisher", "11" * 32, "--publisher", PUBLISHER.hex())
    assert stage.client("run", "probe").stdout == "probe:0\n"
    stage.login("ann", *accept)
    assert stage.status()["signed_in"]["publishers"] == ["11" * 32, PUBLISHER.hex()]
    stage.login("ann", *accept, "--any-publisher")
    assert stage.status()["signed_in"]["publishers"] == []


def test_who_is_entitled_to_nothing_sees_nothing_and_runs_nothing(stage: ClientStage) -> None:
    stage.login("bob", "--accept-fingerprint", fingerprint(stage))
    assert json.loads(stage.client("list", "--json").stdout) == []
    stage.client("run", "probe", code=43)


def test_without_a_sign_in_every_command_says_what_to_do(stage: ClientStage) -> None:
    for command in (("list",), ("refresh",), ("run", "probe"), ("cache", "list"), ("reset", "x", "--yes")):
        assert "appclient login" in stage.client(*command, code=40).stderr
    assert "not signed in" in stage.client("status").stdout
    assert stage.agents() == []  # none is started to say so
    assert stage.agent_log() == ""


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("run",), ("cache",), ("run", "probe", "--frob")])
def test_wrong_usage_is_told(stage: ClientStage, words: tuple[str, ...]) -> None:
    done = stage.user.run(stage.user.program("appclient", *words))
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.parametrize("command", ["", "login", "run", "cache", "status", "remove"])
def test_every_command_has_help(stage: ClientStage, command: str) -> None:
    words = [command] if command else []
    done = stage.user.run(stage.user.program("appclient", *words, "--help"))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5


def test_remove_signs_out_and_takes_the_entries_along(stage: ClientStage) -> None:
    stage.login("ann", "--accept-fingerprint", fingerprint(stage))
    entry = stage.user.home / ".local/share/applications/millstream-org.example.Probe.desktop"
    icon = stage.user.home / ".local/share/icons/hicolor/48x48/apps/millstream-org.example.Probe.png"
    assert entry.exists()
    assert icon.read_bytes().startswith(b"\x89PNG")
    stage.client("remove", "--yes")
    assert not entry.exists()
    assert not icon.exists()
    assert not Path(stage.cache).exists()
    assert stage.agents() == []
    stage.client("list", code=40)
