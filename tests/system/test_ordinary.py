"""Work that root has done by somebody who may nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packageformat.errors import FormatError
from samples.demonstration import open_fuse_device
from sequencer import ordinary
from sequencer.errors import TrainingError
from sequencer.ordinary import Ordinary, Tell, as_ordinary, given_to, ordinary_user


@pytest.fixture
def user() -> Iterator[Ordinary]:
    said: list[str] = []
    with open_fuse_device(), ordinary_user(said.append) as found:
        assert found is not None, said
        yield found
    assert not said
    assert not found.folder.exists()


def nobody_listens(kind: str, text: str) -> None:
    raise AssertionError(kind, text)


def test_the_worker_has_nothing_of_roots(
    user: Ordinary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setenv("XAUTHORITY", "/root/.Xauthority")
    told: list[tuple[str, str]] = []

    def work(tell: Tell) -> bytes:
        tell("say", "first\nline")
        seen = {
            "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
            "secret": os.access(secret, os.R_OK),
            "back": _becomes_root(),
            "home": os.environ["HOME"],
            "left": [name for name in os.environ if name.startswith("XDG_") or name == "XAUTHORITY"],
            "writes": os.access(user.folder, os.W_OK),
        }
        return json.dumps(seen).encode()

    seen = json.loads(as_ordinary(user, work, lambda kind, text: told.append((kind, text))))
    assert seen == {
        "ids": [user.uid] * 3 + [user.gid] * 3,
        "secret": False,
        "back": False,
        "home": f"/home/user{user.uid}",
        "left": [],
        "writes": True,
    }
    assert told == [("say", "first\nline")]
    assert os.getuid() == 0
    assert user.uid >= 1000


def _becomes_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True


def test_what_goes_wrong_there_is_said_here(user: Ordinary) -> None:
    def fail(tell: Tell) -> bytes:
        raise FormatError("a broken thing", hint="mend it")

    def die(tell: Tell) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(TrainingError, match="a broken thing") as failed:
        as_ordinary(user, fail, nobody_listens)
    assert failed.value.hint == "mend it"
    with pytest.raises(TrainingError, match="ended early"):
        as_ordinary(user, die, nobody_listens)


def test_the_worker_ends_when_nobody_listens_any_more(user: Ordinary) -> None:
    def stop(kind: str, text: str) -> None:
        raise KeyboardInterrupt

    def work(tell: Tell) -> bytes:
        tell("say", "x")
        while True:  # until it is interrupted
            time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        as_ordinary(user, work, stop)


def test_documents_are_his_to_read(user: Ordinary, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    files = (tmp_path / "a/letter.odt", tmp_path / "b/letter.odt")
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(b"%d" % number)
        file.chmod(0o600)
    copies = given_to(user, files)
    assert [copy.name for copy in copies] == ["letter.odt"] * 2
    assert as_ordinary(user, lambda tell: b"".join(c.read_bytes() for c in copies), nobody_listens) == b"01"


def test_where_nobody_else_can_train_root_does_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, why in (
        ("ROOM", Path("/nowhere"), "No such file"),
        ("_obstacle", lambda: "/dev/fuse is closed", "/dev/fuse is closed"),
    ):
        said: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(ordinary, name, value)
            with ordinary_user(said.append) as found:
                assert found is None
        (line,) = said
        assert why in line and line.startswith("trained as root")
