"""Dropping what applications changed."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from appclient.changes import claim_idle, drop_changes
from bubble.claim import LOCK, claim
from bubble.errors import BubbleBusyError


def changed(folder: Path) -> Path:
    (folder / "upper/usr").mkdir(parents=True)
    (folder / "upper/usr/mine").write_text("mine")
    (folder / "work/work").mkdir(parents=True)
    (folder / "work/work").chmod(0)
    (folder / LOCK).touch()
    (folder / "package").write_text("probe\n1\n")
    return folder


def test_the_changes_go_and_the_lock_that_a_start_may_wait_for_stays(tmp_path: Path) -> None:
    bubble, home = changed(tmp_path / "a"), tmp_path / "home"
    home.mkdir()
    lock = (bubble / LOCK).stat().st_ino
    drop_changes([bubble], [home], "Probe", only_look=True)
    assert (bubble / "upper/usr/mine").exists()
    drop_changes([bubble], [home], "Probe", only_look=False)
    assert {place.name for place in bubble.iterdir()} == {LOCK, "package", "upper.lock"}
    assert (bubble / LOCK).stat().st_ino == lock
    assert not home.exists()


def test_nothing_is_dropped_while_one_of_the_bubbles_is_being_started(tmp_path: Path) -> None:
    first, second, home = changed(tmp_path / "a"), changed(tmp_path / "b"), tmp_path / "home"
    home.mkdir()
    with claim(second), pytest.raises(BubbleBusyError, match="Probe is running"):
        drop_changes([first, second], [home], "Probe", only_look=False)
    assert (first / "upper/usr/mine").exists()
    assert (second / "upper/usr/mine").exists()
    assert home.exists()


def test_a_start_waits_until_the_changes_are_gone(tmp_path: Path) -> None:
    bubble = changed(tmp_path / "a")
    seen: list[bool] = []

    def start() -> None:
        with claim(bubble, patience=10) as mine:
            seen.append(mine and not (bubble / "upper").exists())

    with ExitStack() as claims:
        assert claim_idle([bubble], claims) == []
        thread = threading.Thread(target=start, daemon=True)
        thread.start()
        thread.join(0.2)
        assert seen == []
        (bubble / "upper").rename(bubble / "gone")
    thread.join(10)
    assert seen == [True]
