"""The generations seen of servers are not forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appclient.errors import CacheError
from appclient.remembered import SEEN_BYTES_MAX, recall_seen, remember_seen
from appclient.signin import SignIn
from appclient.workflow import Seen

ONE = SignIn("https://one.example.org", "ann", "one", b"1" * 32, b"", "t", 9)
TWO = replace(ONE, url="https://two.example.org", server_key=b"2" * 32)


def test_generations_survive_a_sign_in_to_another_server_and_as_another_user(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    remember_seen(path, ONE, Seen(7, {b"v" * 32: 3}))
    assert recall_seen(path, TWO) == Seen()
    remember_seen(path, TWO, Seen(2))
    bob = replace(ONE, user="bob")
    assert recall_seen(path, bob) == Seen(0, {b"v" * 32: 3})
    remember_seen(path, bob, Seen(5, {b"v" * 32: 4}))
    assert recall_seen(path, ONE) == Seen(7, {b"v" * 32: 4})
    assert recall_seen(path, TWO) == Seen(2)


def test_many_generations_are_kept(tmp_path: Path) -> None:
    seen = Seen(7, {number.to_bytes(32): number for number in range(20_000)})  # above 1 MiB
    remember_seen(tmp_path / "seen.json", ONE, seen)
    assert (tmp_path / "seen.json").stat().st_size > 1 << 20
    assert recall_seen(tmp_path / "seen.json", ONE) == seen


def test_a_file_that_is_too_long_is_an_error_and_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    path.write_bytes(b" " * (SEEN_BYTES_MAX + 1))
    for use in (lambda: recall_seen(path, ONE), lambda: remember_seen(path, ONE, Seen(1))):
        with pytest.raises(CacheError, match="longer than 16 MiB"):
            use()
    assert path.stat().st_size > SEEN_BYTES_MAX


@pytest.mark.parametrize("content", ["", "[]", '{"servers": 1}', '{"servers": {"' + "31" * 32 + '": [1]}}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seen.json"
    path.write_text(content)
    assert recall_seen(path, ONE) == Seen()
    remember_seen(path, ONE, Seen(1))
    assert recall_seen(path, ONE) == Seen(1)
