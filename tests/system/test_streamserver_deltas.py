"""Deltas over real HTTP: built for versions that clients hold, named by pointers, gone with versions."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from packageformat.delta import PageNumbers, decode_delta, delta_head_size, read_region, unpack_delta_frame
from packageformat.deltabuild import DeltaSide, changed_blocks
from streamserver.database import accounts, catalogue, deltas
from streamserver.deltabuilding import bring_deltas_up_to_date, missing_deltas
from streamserver.deltaworker import DeltaWorker
from streamserver.importing import import_package
from streamserver.packbuilding import remove_expired
from streamserver.passwords import hash_password
from streamserver.serving import Address, Serving, Settings, serve
from streamserver.store import Store, create_store, open_store, remove_packages, tidy
from tests.packagefiles import PackageFile, open_package
from tests.packages import PUBLISHER, BuiltPackage, build_package

PASSWORD = "correct horse"
PROGRAM = secrets.token_bytes(300_000)


def program(number: int) -> bytes:
    """Return a program whose addresses moved by `number`, and with a piece more."""
    changed = bytearray(PROGRAM)
    for place in range(0, len(changed), 61):
        changed[place] = (changed[place] + number) % 256
    return bytes(changed[:100_000]) + b"new" * number + bytes(changed[100_000:])


def version(folder: Path, number: int) -> BuiltPackage:
    files = {"usr/bin/editor": program(number), "usr/share/same": b"s" * 70_000}
    return build_package(folder, "editor", files, version=str(number))


def side(file: PackageFile) -> DeltaSide:
    blocks = {block: plain for frame in file.frames() for block, plain in frame}
    package = file.package
    return DeltaSide(package.version_id, package.tree, package.block_ids, blocks.__getitem__)


@dataclass(frozen=True, slots=True)
class Running:
    store: Store
    folder: Path
    url: str
    http: aiohttp.ClientSession
    headers: dict[str, str]

    async def pointers(self, *ids: bytes, have: Any = None) -> tuple[int, list[dict[str, Any]]]:
        body: dict[str, Any] = {"version_ids": [one.hex() for one in ids]}
        if have is not None:
            body["have"] = [one.hex() if isinstance(one, bytes) else one for one in have]
        async with self.http.post(f"{self.url}/v1/pointers", json=body, headers=self.headers) as reply:
            answer = await reply.json()
            return reply.status, answer.get("pointers", [])

    async def build(self) -> list[str]:
        return await asyncio.to_thread(
            lambda: [built.pair.old_version for built in bring_deltas_up_to_date(self.store) if built.delta]
        )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    create_store(tmp_path / "server", "Test server")
    with open_store(tmp_path / "server") as store:
        store.writer.run(lambda db: catalogue.add_publisher(db, PUBLISHER, "tests", now=0))
        hashed = hash_password(PASSWORD)
        store.writer.run(
            lambda db: accounts.add_account(
                db, id=b"a" * 16, name="anna", password_hash=hashed, now=int(time.time()) - 5
            )
        )
        store.writer.run(lambda db: accounts.add_group(db, "writers", now=0))
        store.writer.run(lambda db: accounts.join(db, "writers", "anna"))
        store.writer.run(lambda db: accounts.entitle(db, "editor", "writers"))
        stop = asyncio.Event()
        ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
        settings = Settings(Address("127.0.0.1", 0), None, builds_packs=False, builds_deltas=False)
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as http:
            group.create_task(serve(store, settings, stop=stop, on_ready=ready.set_result))
            url = (await ready).url
            async with http.post(f"{url}/v1/login", json={"user": "anna", "password": PASSWORD}) as reply:
                token = (await reply.json())["token"]
            yield Running(store, tmp_path, url, http, {"Authorization": f"Bearer {token}"})
            stop.set()


async def test_a_client_that_has_the_old_version_gets_every_changed_block_by_delta(running: Running) -> None:
    old, new = version(running.folder, 1), version(running.folder, 2)
    import_package(running.store, old.path)
    assert (await running.pointers(old.version_id))[0] == 200
    import_package(running.store, new.path)
    assert await running.build() == ["1"]
    assert await running.build() == []
    status, answer = await running.pointers(new.version_id, have=[old.version_id])
    assert status == 200
    (told,) = answer[0]["deltas"]
    assert told["from"] == old.version_id.hex()
    async with running.http.get(running.url + told["url"]) as reply:
        data = await reply.read()
    assert len(data) == told["size"]
    before, after = open_package(old.path), open_package(new.path)
    sides = [side(before), side(after)]
    pages = PageNumbers(before.package.tree)
    package = after.package
    delta = decode_delta(data[: delta_head_size(data)], package.tree, new.version_id, pages, old.version_id)
    found: dict[int, bytes] = {}
    for number, frame in enumerate(delta.directory.frames):
        offset, size = delta.place(number)
        span = {"Range": f"bytes={offset}-{offset + size - 1}"}
        async with running.http.get(running.url + told["url"], headers=span) as reply:
            assert reply.status == 206
            stored = await reply.read()
        region = read_region(frame, pages, lambda block, start, end: sides[0].read_block(block)[start:end])
        assert region is not None
        found |= unpack_delta_frame(frame, package.tree, package.block_id, stored, region)
    assert found.keys() == set(changed_blocks(*sides))
    assert len(data) < len(PROGRAM) // 8  # not even compressible by itself


async def test_deltas_are_for_who_has_the_old_version_and_may_read_it(running: Running) -> None:
    old, new = version(running.folder, 1), version(running.folder, 2)
    for package in (old, new):
        import_package(running.store, package.path)
    assert await running.build() == []  # nobody is known to have the old one
    assert (await running.pointers(new.version_id, have=[old.version_id]))[1][0]["deltas"] == []
    assert await running.build() == ["1"]  # now somebody is
    assert (await running.pointers(new.version_id))[1][0]["deltas"] == []
    assert (await running.pointers(new.version_id, have=[]))[1][0]["deltas"] == []
    assert (await running.pointers(new.version_id, have=[b"\7" * 32]))[1][0]["deltas"] == []
    assert len((await running.pointers(new.version_id, have=[old.version_id]))[1][0]["deltas"]) == 1
    for nonsense in (["x"], [old.version_id] * 65, [1]):
        assert (await running.pointers(new.version_id, have=nonsense))[0] == 400


async def test_a_newer_version_overtakes_deltas_and_old_objects_go_when_their_time_is_over(
    running: Running,
) -> None:
    versions = [version(running.folder, number) for number in (1, 2, 3)]
    import_package(running.store, versions[0].path)
    import_package(running.store, versions[1].path)
    await running.pointers(versions[0].version_id)
    await running.pointers(versions[1].version_id)
    await running.build()
    (first,) = running.store.reader.ask(deltas.list_deltas)
    import_package(running.store, versions[2].path)
    assert sorted(await running.build()) == ["1", "2"]
    there = running.store.reader.ask(deltas.list_deltas)
    assert {one.new_version_id for one in there} == {versions[2].version_id}
    path = running.store.folder.object_path(first.object_digest)
    assert path.exists()  # URLs for it are about
    assert tidy(running.store).removed == ()
    assert remove_expired(running.store, now=time.time() + 3600) == 1
    assert not path.exists()
    remove_packages(running.store, "editor", "1")
    (left,) = running.store.reader.ask(deltas.list_deltas)
    assert left.old_version_id == versions[1].version_id
    objects = {one.name for one in running.store.folder.objects.iterdir()}
    assert left.object_digest.hex() in objects
    assert len(objects) == 3  # two packages, one delta


async def test_a_delta_that_is_lost_is_not_named_and_is_built_again(running: Running) -> None:
    old, new = version(running.folder, 1), version(running.folder, 2)
    for package in (old, new):
        import_package(running.store, package.path)
    await running.pointers(new.version_id, have=[old.version_id])
    await running.build()
    (delta,) = running.store.reader.ask(deltas.list_deltas)
    running.store.folder.object_path(delta.object_digest).unlink()
    assert (await running.pointers(new.version_id, have=[old.version_id]))[1][0]["deltas"] == []
    assert len(missing_deltas(running.store, now=time.time())) == 1
    assert await running.build() == ["1"]
    assert (await running.pointers(new.version_id, have=[old.version_id]))[1][0]["deltas"]


async def test_an_old_version_that_nobody_asked_for_lately_gets_no_delta(running: Running) -> None:
    old, new = version(running.folder, 1), version(running.folder, 2)
    for package in (old, new):
        import_package(running.store, package.path)
    await running.pointers(old.version_id)
    assert len(missing_deltas(running.store, now=time.time())) == 1
    assert missing_deltas(running.store, now=time.time() + deltas.HELD_S + 1) == []


async def test_the_command_lists_and_builds(running: Running) -> None:
    old, new = version(running.folder, 1), version(running.folder, 2)
    for package in (old, new):
        import_package(running.store, package.path)
    await running.pointers(old.version_id)

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "streamserver", "deltas", *arguments, str(running.store.folder.path)],
            capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    assert "missing" in await asyncio.to_thread(command, "list")
    assert "built editor 1 to 2" in await asyncio.to_thread(command, "build")
    assert "MB of" in await asyncio.to_thread(command, "list")
    assert await asyncio.to_thread(command, "build") == ""
    assert '"whole": true' in await asyncio.to_thread(command, "build", "--again", "--json")


async def test_the_server_builds_by_itself_in_a_process_beside_it(running: Running) -> None:
    worker = DeltaWorker(running.store, 1.0)
    working = asyncio.create_task(worker.run())
    old, new = version(running.folder, 1), version(running.folder, 2)
    for package in (old, new):
        import_package(running.store, package.path)
    await running.pointers(new.version_id, have=[old.version_id])
    worker.wake()
    async with asyncio.timeout(120):
        while not (await running.pointers(new.version_id, have=[old.version_id]))[1][0]["deltas"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
