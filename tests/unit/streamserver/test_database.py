"""The database: one writer, group commit, generations, and who may read what."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import MillstreamError
from streamserver.database import accounts, catalogue
from streamserver.database.catalogue import StoredPackage
from streamserver.database.connection import open_database
from streamserver.database.writer import Writer
from streamserver.errors import ConflictError, MissingRuntimeError, StoreError, UnknownNameError


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "state.db", create=True)
    catalogue.create_server(connection, "test", now=0)
    yield connection
    connection.close()


def package(number: int, name: str, version: str = "1", kind: str = "application") -> StoredPackage:
    key = bytes([number]) * 32
    return StoredPackage(key, name, version, kind, name, b"manifest", b"header", key, 10, 10, 0, 0)


def generation(db: sqlite3.Connection) -> int:
    return catalogue.server_row(db).generation


def add_anna(db: sqlite3.Connection) -> bytes:
    accounts.add_account(db, id=b"a" * 16, name="anna", password_hash="x", now=0)
    accounts.add_group(db, "writers", now=0)
    accounts.join(db, "writers", "anna")
    return b"a" * 16


def test_only_the_entitled_read_and_runtimes_come_with_what_requires_them(db: sqlite3.Connection) -> None:
    anna = add_anna(db)
    catalogue.add_package(db, package(1, "base", kind="runtime"), ())
    catalogue.add_package(db, package(2, "gtk", kind="runtime"), (bytes([1]) * 32,))
    catalogue.add_package(db, package(3, "editor"), (bytes([1]) * 32, bytes([2]) * 32))
    catalogue.add_package(db, package(4, "other"), (bytes([1]) * 32,))
    ids = tuple(bytes([number]) * 32 for number in (1, 2, 3, 4, 5))
    assert catalogue.readable_packages(db, anna, ids) == {}
    accounts.entitle(db, "editor", "writers")
    assert set(catalogue.readable_packages(db, anna, ids)) == set(ids[:3])
    assert [one.name for one in catalogue.published_packages(db, anna)] == ["editor"]
    accounts.revoke(db, "editor", "writers")
    accounts.entitle(db, "other", "writers")
    assert set(catalogue.readable_packages(db, anna, ids)) == {ids[0], ids[3]}


def test_every_change_that_publishing_could_show_moves_the_generation(db: sqlite3.Connection) -> None:
    seen = [generation(db)]

    def moved() -> bool:
        seen.append(generation(db))
        return seen[-1] > seen[-2]

    add_anna(db)
    assert moved()
    accounts.entitle(db, "editor", "writers")
    assert moved()
    catalogue.add_package(db, package(3, "editor"), ())
    assert moved()
    catalogue.replace_object(db, bytes([3]) * 32, header=b"h", digest=bytes([9]) * 32, size=5)
    assert moved()
    accounts.leave(db, "writers", "anna")
    assert moved()
    accounts.join(db, "writers", "anna")
    assert moved()
    catalogue.remove_package(db, "editor", None)
    assert moved()
    accounts.remove_account(db, "anna")
    assert moved()
    accounts.remove_group(db, "writers")
    assert moved()


def test_a_pointers_generation_never_goes_back(db: sqlite3.Connection) -> None:
    catalogue.add_package(db, package(3, "editor"), ())
    first = catalogue.list_packages(db)[0].pointer_generation
    catalogue.remove_package(db, "editor", None)
    catalogue.add_package(db, package(3, "editor"), ())
    second = catalogue.list_packages(db)[0].pointer_generation
    catalogue.replace_object(db, bytes([3]) * 32, header=b"h", digest=bytes([9]) * 32, size=5)
    assert 0 < first < second < catalogue.list_packages(db)[0].pointer_generation


def test_conflicts_are_refused(db: sqlite3.Connection) -> None:
    assert catalogue.add_package(db, package(1, "base", kind="runtime"), ())
    assert not catalogue.add_package(db, package(1, "base", kind="runtime"), ())
    with pytest.raises(ConflictError, match="another id"):
        catalogue.add_package(db, package(2, "base", kind="runtime"), ())
    with pytest.raises(ConflictError, match="runtime"):
        catalogue.add_package(db, package(2, "base", "2"), ())
    with pytest.raises(MissingRuntimeError, match=(b"\7" * 32).hex()):
        catalogue.add_package(db, package(3, "editor"), (b"\1" * 32, b"\7" * 32))
    catalogue.add_package(db, package(4, "gtk", kind="runtime"), (b"\1" * 32,))
    with pytest.raises(ConflictError, match="complete stack"):
        catalogue.add_package(db, package(3, "editor"), (b"\4" * 32,))
    with pytest.raises(ConflictError, match="requires"):
        catalogue.remove_package(db, "base", None)


@given(st.text(max_size=300))
def test_any_name_is_kept_as_it_is_or_refused(name: str) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript((Path(catalogue.__file__).parent / "schema.sql").read_text())
    catalogue.create_server(connection, "test", now=0)
    try:
        accounts.add_account(connection, id=b"a" * 16, name=name, password_hash="x", now=0)
        accounts.add_group(connection, name, now=0)
    except StoreError:
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (0,)
    else:
        accounts.join(connection, name, name)
        (line,) = accounts.list_accounts(connection)
        assert (line.name, line.groups) == (name, (name,))
        with pytest.raises(ConflictError):
            accounts.add_account(connection, id=b"b" * 16, name=name, password_hash="x", now=0)
    finally:
        connection.close()


def test_unknown_names_are_told(db: sqlite3.Connection) -> None:
    with pytest.raises(UnknownNameError):
        accounts.join(db, "nowhere", "nobody")
    with pytest.raises(UnknownNameError):
        accounts.remove_account(db, "' OR 1=1 --")


def test_changes_that_wait_together_are_committed_together_and_a_bad_one_alone_is_undone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    reading = open_database(path, create=True)
    hold = threading.Event()
    with Writer(open_database(path), path) as writer:
        writer.run(lambda one: catalogue.create_server(one, "test", now=0))
        futures: list[Future[None]] = []
        writer.submit(lambda _: hold.wait(10))

        def change(one: sqlite3.Connection, number: int) -> None:
            accounts.add_group(one, f"group{number}", now=0)
            if number == 7:
                raise ConflictError("seven is refused after it wrote")

        for number in range(50):
            futures.append(writer.submit(lambda one, number=number: change(one, number)))  # type: ignore[misc]
        hold.set()
        for number, future in enumerate(futures):
            if number == 7:
                with pytest.raises(ConflictError):
                    future.result(10)
            else:
                future.result(10)
        names = {name for (name,) in reading.execute("SELECT name FROM user_group")}
        assert names == {f"group{number}" for number in range(50) if number != 7}
    reading.close()


def test_a_future_that_is_done_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_database(path, create=True).close()
    with Writer(open_database(path), path) as writer:
        for number in range(20):
            writer.run(lambda one, number=number: accounts.add_group(one, f"group{number}", now=0))  # type: ignore[misc]
            other = open_database(path)
            assert len(accounts.list_groups(other)) == number + 1
            other.close()


def test_a_folder_that_is_no_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(MillstreamError, match="not a server's folder"):
        open_database(tmp_path / "state.db")
