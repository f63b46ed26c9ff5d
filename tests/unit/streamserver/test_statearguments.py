"""The server's folder on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from streamserver.statearguments import VARIABLE, UsageError, add_state_arguments, state_arguments


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_state_arguments(parser, "PACKAGE.ovp...")
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_folder_in_front_of_any_number_of_packages_is_the_servers(tmp_path: Path) -> None:
    args = parsed(str(tmp_path), "one.ovp", "two.ovp")
    assert state_arguments(args, 1, more=True) == (tmp_path, ["one.ovp", "two.ovp"])


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no server's folder"):
        state_arguments(parsed(str(tmp_path / "nowhere"), "one.ovp"), 1, more=True)


def test_packages_without_a_folder_are_told_that_it_lacks(tmp_path: Path) -> None:
    packages = [tmp_path / "one.ovp", tmp_path / "two.ovp"]
    for package in packages:
        package.touch()
    with pytest.raises(UsageError, match="no server's folder given"):
        state_arguments(parsed(*map(str, packages)), 1, more=True)
