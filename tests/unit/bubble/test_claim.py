"""Claiming a bubble that does not run."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bubble.beginning import UPPER_LOCK
from bubble.claim import LOCK, claim


@contextmanager
def held(place: Path) -> Iterator[None]:
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def test_a_bubble_that_does_not_run_is_claimed_and_no_start_goes_on_meanwhile(tmp_path: Path) -> None:
    with claim(tmp_path) as mine:
        assert mine
        for name in (LOCK, UPPER_LOCK):
            with pytest.raises(BlockingIOError), held(tmp_path / name):
                pass
        with claim(tmp_path, patience=0) as another:
            assert not another
    with held(tmp_path / LOCK), held(tmp_path / UPPER_LOCK):
        pass


@pytest.mark.parametrize("name", [LOCK, UPPER_LOCK])
def test_a_bubble_that_starts_or_ends_is_not_claimed_and_not_waited_for_long(
    tmp_path: Path, name: str
) -> None:
    with held(tmp_path / name):
        began = time.monotonic()
        with claim(tmp_path, patience=0.2) as mine:
            assert not mine
        assert 0.2 <= time.monotonic() - began < 2
    with claim(tmp_path, patience=0) as mine:
        assert mine


def test_a_lock_that_was_replaced_by_another_file_does_not_count(tmp_path: Path) -> None:
    with held(tmp_path / LOCK):
        (tmp_path / LOCK).unlink()
        with claim(tmp_path, patience=0) as mine:
            assert mine
            with pytest.raises(BlockingIOError), held(tmp_path / LOCK):
                pass


def test_a_folder_that_does_not_exist_needs_no_claim(tmp_path: Path) -> None:
    with claim(tmp_path / "none") as mine:
        assert mine
    assert not (tmp_path / "none").exists()
