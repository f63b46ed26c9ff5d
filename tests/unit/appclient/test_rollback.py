"""Going back: only to what the server once signed for this user, until it publishes yet another version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appclient.errors import UnknownPackageError
from appclient.rollback import Rollbacks
from appclient.signin import SignIn
from packageformat.hashing import digest
from packageformat.publishing import Published, Publishing, encode_publishing
from packageformat.signature import public_key
from packageformat.signed import seal
from tests.vectors.sample import NOW, SEED, SERVER_SEED, make_publishing

SAMPLE = make_publishing().items[0]
SIGNIN = SignIn("https://apps.example.org", "ada", "Example", public_key(SERVER_SEED), b"", "token", NOW)


def listing(*versions: str, user: str = "ada", name: str = "calculator") -> Publishing:
    items: tuple[Published, ...] = tuple(
        replace(
            SAMPLE,
            name=f"{name}{number or ''}",
            version=version,
            version_id=digest(f"{number} {version}".encode()),
            stack=(digest(f"{number} {version}".encode()),),
        )
        for number, version in enumerate(versions)
    )
    return replace(make_publishing(), user=user, items=items)


def signed(publishing: Publishing, seed: bytes = SERVER_SEED) -> bytes:
    return seal("publishing", encode_publishing(publishing), seed)


def versions(publishing: Publishing) -> list[str]:
    return [item.version for item in publishing.items]


def test_the_version_before_runs_until_it_is_undone(tmp_path: Path) -> None:
    one, two = listing("1", "a"), listing("2", "a")
    rollbacks = Rollbacks(tmp_path, SIGNIN)
    rollbacks.replaced(signed(one), two)
    assert versions(rollbacks.applied(two)) == ["2", "a"]
    assert rollbacks.before(two, "calculator").version == "1"
    rollbacks.go_back(two, "calculator")
    for known in (rollbacks, Rollbacks(tmp_path, SIGNIN)):  # and after a restart
        assert versions(known.applied(two)) == ["1", "a"]
    assert rollbacks.undo("calculator")
    assert not rollbacks.undo("calculator")
    for known in (rollbacks, Rollbacks(tmp_path, SIGNIN)):
        assert versions(known.applied(two)) == ["2", "a"]


def test_yet_another_version_is_current_and_what_was_run_is_what_one_can_go_back_to(tmp_path: Path) -> None:
    one, two, three = listing("1"), listing("2"), listing("3")
    rollbacks = Rollbacks(tmp_path, SIGNIN)
    rollbacks.replaced(signed(one), two)
    rollbacks.go_back(two, "calculator")
    rollbacks.replaced(signed(two), three)
    assert versions(rollbacks.applied(three)) == ["3"]
    assert rollbacks.before(three, "calculator").version == "1"
    rollbacks.replaced(signed(three), listing("4"))
    assert rollbacks.before(listing("4"), "calculator").version == "3"
    assert len(list((tmp_path / "rollback").iterdir())) == 2  # the table, and the one list that is needed


def test_without_a_version_before_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    one = listing("1", "a")
    rollbacks = Rollbacks(tmp_path, SIGNIN)
    rollbacks.replaced(signed(one), one)
    for package in ("calculator", "calculator1", "nothing"):
        with pytest.raises(UnknownPackageError, match="no earlier version"):
            rollbacks.go_back(one, package)
    rollbacks.replaced(signed(one), listing("2"))
    with pytest.raises(UnknownPackageError):  # withdrawn: not even the version before
        rollbacks.go_back(listing("2"), "calculator1")


def test_what_is_withdrawn_does_not_run_by_way_of_a_rollback(tmp_path: Path) -> None:
    rollbacks = Rollbacks(tmp_path, SIGNIN)
    rollbacks.replaced(signed(listing("1", "a")), listing("2", "a"))
    rollbacks.go_back(listing("2", "a"), "calculator")
    assert versions(rollbacks.applied(replace(listing("2", "a"), items=listing("2", "a").items[1:]))) == ["a"]


def test_lists_of_others_and_damaged_ones_are_not_gone_back_to(tmp_path: Path) -> None:
    two = listing("2")
    rollbacks = Rollbacks(tmp_path, SIGNIN)
    for forged in (
        signed(listing("1"), SEED),
        signed(listing("1", user="bob")),
        b"",
        signed(listing("1"))[:-1],
    ):
        rollbacks.replaced(forged, two)
        with pytest.raises(UnknownPackageError):
            rollbacks.before(two, "calculator")
    rollbacks.replaced(signed(listing("1")), two)
    rollbacks.go_back(two, "calculator")
    assert versions(Rollbacks(tmp_path, replace(SIGNIN, user="bob")).applied(two)) == ["2"]
    kept = next(path for path in (tmp_path / "rollback").iterdir() if path.suffix != ".json")
    kept.write_bytes(signed(listing("1"), SEED))
    assert versions(Rollbacks(tmp_path, SIGNIN).applied(two)) == ["2"]
    kept.unlink()
    assert versions(Rollbacks(tmp_path, SIGNIN).applied(two)) == ["2"]
    (tmp_path / "rollback" / "packages.json").write_text('{"packages": [1]}')
    assert versions(Rollbacks(tmp_path, SIGNIN).applied(two)) == ["2"]
