"""Launch packs in the database: pointers move, objects are retired, who counts as another launch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from packageformat.packdirectory import PackDirectory, PackExtent, PackFrame, TouchedBlocks
from packageformat.packplan import CLASS_PLAIN_MIN
from packageformat.stack import bubble_id
from streamserver.database import accounts, catalogue, objects, packs, reports
from streamserver.database.catalogue import StoredPackage
from streamserver.database.connection import open_database
from streamserver.database.packs import StoredPack
from streamserver.database.reports import ACCOUNTS_MAX, RETENTION_S, LaunchFigures, StoredReport
from streamserver.packclasses import classes_of, gain, touched_pages


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "state.db", create=True)
    catalogue.create_server(connection, "test", now=0)
    add(connection, 1, "base", kind="runtime")
    add(connection, 2, "editor", requires=(key(1),))
    yield connection
    connection.close()


def key(number: int) -> bytes:
    return bytes([number]) * 32


def add(
    db: sqlite3.Connection,
    number: int,
    name: str,
    version: str = "1",
    kind: str = "application",
    requires: tuple[bytes, ...] = (),
) -> None:
    package = StoredPackage(
        key(number), name, version, kind, name, b"manifest", b"header", key(number), 10, 10, 0, 0
    )
    catalogue.add_package(db, package, requires)


def pack(number: int, document: bytes = b"profile", version: int = 2) -> StoredPack:
    return StoredPack(
        key(version), "editor", bytes(32), key(number), 5, 1, 0, sha256(document).digest(), 1, b"", 7
    )


def pointer_generation(db: sqlite3.Connection) -> int:
    found = catalogue.find_package(db, key(2))
    assert found is not None
    return found.pointer_generation


def test_the_pointer_moves_with_its_packs_and_the_old_object_is_retired(db: sqlite3.Connection) -> None:
    seen = [pointer_generation(db)]

    def moved() -> bool:
        seen.append(pointer_generation(db))
        return seen[-1] > seen[-2]

    assert packs.put_profile(db, key(2), "editor", b"profile", now=1)
    assert not packs.put_profile(db, key(2), "editor", b"profile", now=2)
    assert packs.put_pack(db, pack(50), retired_until=100)
    assert moved()
    assert packs.put_pack(db, pack(50), retired_until=100)  # the very same: nothing moves
    assert not moved()
    assert packs.put_pack(db, pack(51), retired_until=100)
    assert moved()
    assert {key(50), key(51)} <= objects.known_objects(db)
    assert objects.expired_objects(db, now=100) == set()
    assert objects.expired_objects(db, now=101) == {key(50)}
    packs.put_pack(db, pack(50), retired_until=200)  # comes back before its time is over
    assert objects.expired_objects(db, now=150) == set()
    assert objects.objects_beside(db, [key(2)]) == {key(50)}
    packs.drop_pack(db, key(2), "editor", retired_until=1)
    assert moved()
    assert packs.list_packs(db) == []


def test_a_pack_of_an_overtaken_profile_is_not_named(db: sqlite3.Connection) -> None:
    packs.put_profile(db, key(2), "editor", b"profile", now=1)
    packs.put_profile(db, key(2), "editor", b"trained again", now=2)
    assert not packs.put_pack(db, pack(50), retired_until=100)
    assert packs.put_pack(db, pack(50, b"trained again"), retired_until=100)
    catalogue.remove_package(db, "editor", None)
    assert packs.list_packs(db) == []
    assert not packs.put_pack(db, pack(50, b"trained again"), retired_until=100)


def test_other_launches_are_current_ones_on_a_shared_layer_and_the_version_before(
    db: sqlite3.Connection,
) -> None:
    add(db, 3, "other-base", kind="runtime")
    add(db, 4, "painter", "1", requires=(key(1),))
    add(db, 5, "painter", "2", requires=(key(1),))
    add(db, 6, "player", requires=(key(3),))
    add(db, 7, "editor", "2", requires=(key(1),))
    add(db, 8, "editor", "3", requires=(key(1),))
    for number in (2, 4, 5, 6, 7, 8):
        packs.put_profile(db, key(number), "app", b"profile %d" % number, now=1)
    packs.put_profile(db, key(8), "second", b"another application", now=1)
    profiles = packs.list_profiles(db)
    newest = next(one for one in profiles if one.version_id == key(8) and one.application == "app")
    others = packs.others_of(newest, profiles, packs.stacks_of(db, profiles))
    assert [(one.version_id, one.application) for one in others] == [
        (key(5), "app"),
        (key(7), "app"),
        (key(8), "second"),
    ]


def test_reports_are_one_an_account_and_do_not_pile_up(db: sqlite3.Connection) -> None:
    packs.put_profile(db, key(2), "editor", b"profile", now=1)
    figures = LaunchFigures(900, 2.5, 1000, 100, 3)
    for number in range(ACCOUNTS_MAX + 20):
        name = number.to_bytes(16, "big")
        accounts.add_account(db, id=name, name=f"u{number}", password_hash="x", now=0)
        for launch in (1, 2):
            report = StoredReport(name, 1, 10 + number, launch, figures, b"m" * launch, b"l" * launch)
            reports.put_report(db, key(2), "editor", report)
    kept = reports.list_reports(db, key(2), "editor", now=1000)
    assert len(kept) == ACCOUNTS_MAX
    assert kept[0].account_id == (ACCOUNTS_MAX + 19).to_bytes(16, "big")
    assert (kept[0].launches, kept[0].missed, kept[0].late) == (2, b"mm", b"ll")
    (profile,) = packs.list_profiles(db)
    assert profile.unmerged == 2 * (ACCOUNTS_MAX + 20)
    assert packs.put_relearned(db, profile, b"more", merged=profile.unmerged, now=5)
    assert not packs.put_relearned(db, profile, b"overtaken", merged=1, now=5)
    (profile,) = packs.list_profiles(db)
    assert (profile.unmerged, profile.relearned, profile.digest) == (0, 1, sha256(b"more").digest())
    assert packs.profile_document(db, key(2), "editor") == (b"profile", b"more")
    assert reports.list_reports(db, key(2), "editor", now=1000 + RETENTION_S) == []
    late = StoredReport((1).to_bytes(16, "big"), 1, 5000 + RETENTION_S, 1, figures, b"", b"")
    reports.put_report(db, key(2), "editor", late)
    assert len(reports.list_reports(db, key(2), "editor", now=0)) == 1
    packs.put_profile(db, key(2), "editor", b"trained again", now=1)
    (profile,) = packs.list_profiles(db)
    assert profile.unmerged > 0
    assert not profile.relearned


def test_classes_are_worth_making_once_for_a_launch_that_shares_pages() -> None:
    blocks = 64  # of one layer, all their pages; the other launch touches every second block
    extents = [PackExtent(0, block, 0, 16) for block in range(blocks)]

    def name(_: int, block: int) -> bytes:
        return block.to_bytes(32, "big")

    other = touched_pages(extents[::2], name)
    assert blocks // 2 * 65536 > CLASS_PLAIN_MIN
    layer = TouchedBlocks(
        key(1),
        blocks,
        {block: 65536 for block in range(blocks)},
        {block: name(0, block) for block in range(blocks)},
        (),
    )

    def directory(frames: list[list[PackExtent]]) -> PackDirectory:
        stored = tuple(PackFrame(tuple(frame), 1000 * len(frame), bytes(8)) for frame in frames)
        return PackDirectory("app", bubble_id([key(1)]), (layer,), stored)

    mixed = directory([extents[:32], extents[32:]])
    assert gain(mixed, other) == pytest.approx(0.5)
    class_of = classes_of(extents, name, [other])
    assert {class_of(replace(extent, pages=1)) for extent in extents[::2]} == {(0, frozenset({0}))}
    assert {class_of(replace(extent, pages=1)) for extent in extents[1::2]} == {(0, frozenset())}
    apart = directory([extents[:32:2], extents[1:32:2], extents[32::2], extents[33::2]])
    assert gain(apart, other) == 0
    assert gain(apart, {}) == 0
