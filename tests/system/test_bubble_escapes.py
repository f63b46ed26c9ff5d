"""Ways out of a bubble that were found once: each test is the attack, and what it gets today."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.accounts import Account, demonstration_account
from tests.smallbubble import Bubble, Stand, small_system, stand
from tests.system.test_bubble_isolation import Open, allowing, ended, python, said


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with demonstration_account() as user:
        yield user


@pytest.fixture(scope="module")
def place(account: Account) -> Iterator[Stand]:
    with stand(account) as made:
        yield made


@pytest.fixture(scope="module")
def served(place: Stand) -> Iterator[Bubble]:
    made = place.bubble([small_system().build()])
    with made.supplied():
        yield made


@pytest.fixture
def bubble(served: Bubble, account: Account) -> Iterator[Bubble]:
    """A bubble that does not run; what a test changes in it and in the user's home goes."""
    before = set(account.home.iterdir())
    yield served
    assert ended(served)
    changed = [*(served.spec.state / "upper").iterdir(), *served.spec.home.iterdir()]
    subprocess.run(["rm", "-rf", *changed, *(set(account.home.iterdir()) - before)], check=True)


def put(account: Account, path: str, text: str | None = None) -> Path:
    """Make a folder, or a file with `text`, of the user's, below his home."""
    place = account.home / path
    (place if text is None else place.parent).mkdir(parents=True, exist_ok=True)
    if text is not None:
        place.write_text(text)
    while place != account.home:
        os.chown(place, account.uid, account.gid)
        place = place.parent
    return account.home / path


def linked(account: Account, path: str, target: str | Path) -> Path:
    """Make a symbolic link of the user's below his home."""
    place = account.home / path
    place.symlink_to(target)
    os.chown(place, account.uid, account.gid, follow_symlinks=False)
    return place


def changed(bubble: Bubble, **changes: Any) -> Bubble:
    return Bubble(bubble.stand, replace(bubble.spec, **changes), bubble.place)


def test_bubblewrap_has_none_of_the_packages_variables(bubble, account):
    granted = allowing(bubble, environment=(("OUT_OF_THE_PACKAGE", "x"),))
    window = Open(granted)
    assert window.ask("echo $OUT_OF_THE_PACKAGE") == "x"
    ours = [Path(f"/proc/{pid}") for pid in account.processes()]
    outer = [process for process in ours if (process / "comm").read_text() == "bwrap\n"]
    assert outer
    for process in outer:
        assert (process / "environ").read_bytes() == b"PATH=/usr/bin:/bin\0"
    assert window.end() == 0


def test_the_application_gets_its_own_variables_and_no_others(bubble):
    seen = said(bubble, "env", LD_LIBRARY_PATH="/nowhere", SECRET_TOKEN="x", LANG="C.UTF-8")
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert {"HOME", "USER", "PATH", "LANG", "XDG_RUNTIME_DIR", "container"} <= names
    assert not {"LD_LIBRARY_PATH", "SECRET_TOKEN", "PYTHONPATH"} & names


def test_a_descriptor_that_the_caller_had_open_is_not_the_applications(bubble, account):
    put(account, "secret", "secret\n")
    argv = bubble._driver(["sh", "-c", "ls /proc/self/fd; cat /proc/self/fd/6/secret <&6"], ())
    done = account.run(["sh", "-c", 'exec 6<"$HOME" 9<"$HOME/secret"; exec "$@"', "sh", *argv])
    assert done.stdout.split() == ["0", "1", "2", "3"]
    assert "secret" not in done.stdout
