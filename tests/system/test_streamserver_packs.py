"""Launch profiles and packs, from the import to the client's eyes: real packages, a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from packageformat.application import Application
from packageformat.launchpack import PackedPage, PackLayer, PackReader
from packageformat.limits import PAGE_SIZE, PAGES_A_BLOCK
from packageformat.pointer import Pointer, decode_pointer
from packageformat.signed import open_sealed
from packageformat.stack import bubble_id
from streamserver.database import accounts, catalogue, objects, packs
from streamserver.identity import issue, token_text
from streamserver.importing import import_package
from streamserver.packbuilding import bring_up_to_date
from streamserver.profileimport import import_profile
from streamserver.serving import Address, Serving, Settings, serve
from streamserver.store import Store, create_store, open_store, remove_packages, tidy
from streamserver.watcher import Patience
from tests.ending import end_process
from tests.launches import content_of, write_profile
from tests.packages import PUBLISHER, BuiltPackage, build_package, open_package

EDITOR = Application(id="editor", name="Editor", command="editor %f")
PAINTER = Application(id="painter", name="Painter", command="painter")
LIBRARY = random.Random(1).randbytes(60 * PAGE_SIZE)
PROGRAM = random.Random(2).randbytes(45 * PAGE_SIZE - 17)
PATIENCE = Patience(quiet_s=0.2, patience_s=3.0)


@dataclass(frozen=True, slots=True)
class Packages:
    """What is published: two applications on one runtime."""

    base: BuiltPackage
    editor: BuiltPackage
    painter: BuiltPackage


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    base = build_package(tmp_path, "base", {"lib/library": LIBRARY}, kind="runtime")
    editor = build_package(
        tmp_path, "editor", {"usr/bin/editor": PROGRAM}, requires=[base], applications=[EDITOR]
    )
    painter = build_package(
        tmp_path, "painter", {"usr/bin/painter": PROGRAM[::-1]}, requires=[base], applications=[PAINTER]
    )
    write_profile(editor, "editor", [(base, "lib/library", 0, 40), (editor, "usr/bin/editor", 0, 20)])
    write_profile(painter, "painter", [(base, "lib/library", 20, 40), (painter, "usr/bin/painter", 5, 30)])
    return Packages(base, editor, painter)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    create_store(path, "Test server")
    with open_store(path) as store:
        store.writer.run(lambda db: catalogue.add_publisher(db, PUBLISHER, "tests", now=0))
        store.writer.run(lambda db: accounts.add_group(db, "everybody", now=0))
        for package in ("editor", "painter"):
            store.writer.run(lambda db, name=package: accounts.entitle(db, name, "everybody"))  # type: ignore[misc]
    return path


def program(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamserver", *map(str, words)], capture_output=True, text=True, timeout=120
    )


def json_lines(*words: object) -> list[dict[str, object]]:
    done = program(*words, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def add_user(store: Store, name: str) -> str:
    """Add a user who may run everything; return a token of his."""
    account = secrets.token_bytes(16)

    store.writer.run(
        lambda db: accounts.add_account(
            db, id=account, name=name, password_hash="x", now=int(time.time()) - 5
        )
    )
    store.writer.run(lambda db: accounts.join(db, "everybody", name))
    return token_text(issue(account, now=time.time()), store.secrets.seed)


class Client:
    """What a client asks and checks."""

    def __init__(self, store: Store, url: str, http: aiohttp.ClientSession) -> None:
        self.store, self.url, self.http = store, url, http

    async def pointer(self, token: str, package: BuiltPackage) -> tuple[Pointer, list[dict[str, str]]]:
        body = {"version_ids": [package.version_id.hex()]}
        async with self.http.post(f"{self.url}/v1/pointers", json=body, headers=bearer(token)) as reply:
            assert reply.status == 200, await reply.text()
            (item,) = (await reply.json())["pointers"]
        payload, _ = open_sealed("pointer", base64.b64decode(item["pointer"]), [self.store.secrets.public])
        return decode_pointer(payload), item["packs"]

    async def pack(self, token: str, package: BuiltPackage) -> tuple[str, bytes]:
        """Return the URL and the bytes of a version's only pack, as the signed pointer names it."""
        pointer, named = await self.pointer(token, package)
        (reference,), (item,) = pointer.packs, named
        assert item["application"] == reference.application
        assert item["bubble_id"] == reference.bubble_id.hex() == bubble_id(package.stack).hex()
        data = await self.read(item["url"])
        assert hashlib.sha256(data).digest() == reference.object_digest
        assert len(data) == reference.object_size
        return item["url"], data

    async def read(self, url: str) -> bytes:
        async with self.http.get(self.url + url) as reply:
            assert reply.status == 200
            return await reply.read()

    async def pack_with(self, token: str, package: BuiltPackage, pages: int) -> tuple[str, bytes]:
        """Wait until the server's builder has made a pack of so many pages, and return it."""
        layers = [open_package(one.path) for one in self.layers(package)]
        for _ in range(600):
            pointer, _ = await self.pointer(token, package)
            if pointer.packs:
                url, data = await self.pack(token, package)
                if len(unpacked(data, layers_of(layers))) == pages:
                    return url, data
            await asyncio.sleep(0.1)
        raise AssertionError("no such pack in a minute")

    def layers(self, package: BuiltPackage) -> list[BuiltPackage]:
        return [self.base, package]

    base: BuiltPackage

    async def report(
        self,
        token: str,
        package: BuiltPackage,
        missed: list[list[object]],
        late: list[list[object]] | None = None,
    ) -> int:
        body = {
            "version_id": package.version_id.hex(),
            "bubble_id": bubble_id(package.stack).hex(),
            "application": package.manifest.applications[0].id,
            "window_ms": 900,
            "seconds": 3.5,
            "bytes": 100_000,
            "pages_needed": 70,
            "missed": missed,
            **({} if late is None else {"late": late}),  # older clients do not tell
        }
        data = io.BytesIO(json.dumps(body).encode())
        async with self.http.post(f"{self.url}/v1/launches", data=data, headers=bearer(token)) as reply:
            assert await reply.read() == b"" or reply.status != 204
            return reply.status


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def layers_of(files: list) -> list[PackLayer]:  # type: ignore[type-arg]
    return [
        PackLayer(one.package.version_id, one.package.manifest.blocks_root, one.package.manifest.block_count)
        for one in files
    ]


def unpacked(data: bytes, layers: list[PackLayer]) -> list[PackedPage]:
    """Return the pages of a pack, verified up to the manifests."""
    reader = PackReader(layers)
    pages = reader.feed(data)
    assert reader.complete
    return pages


@asynccontextmanager
async def served(store: Store, packages: Packages, **settings: object) -> AsyncIterator[Client]:
    stop = asyncio.Event()
    ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            store,
            Settings(Address("127.0.0.1", 0), None, PATIENCE, **settings),  # type: ignore[arg-type]
            stop=stop,
            on_ready=ready.set_result,
        )
    )
    await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
    try:
        async with aiohttp.ClientSession() as http:
            client = Client(store, ready.result().url, http)
            client.base = packages.base
            yield client
    finally:
        stop.set()
        await task


def test_a_profile_beside_a_package_becomes_a_pack(folder: Path, packages: Packages) -> None:
    told = json_lines("import", folder, packages.base.path, packages.editor.path)
    assert [(line["kind"], line["outcome"]) for line in told] == [
        ("runtime", "imported"),
        ("application", "imported"),
        ("profile", "imported"),
    ]
    (before,) = json_lines("packs", "list", folder)
    assert (before["application"], before["object"], before["whole"]) == ("editor", None, False)
    (built,) = json_lines("packs", "build", folder)
    assert (built["outcome"], built["pages"]) == ("built", 60)
    assert json_lines("packs", "build", folder) == []
    (shown,) = json_lines("packs", "show", folder, "editor")
    assert sum(frame["pages"] for frame in shown["frames"]) == 60  # type: ignore[attr-defined]
    assert (shown["whole"], shown["up_to_date"], shown["unresolved_pages"]) == (True, True, 0)
    profile = packages.editor.path.with_suffix(".profile")
    (again,) = json_lines("import", folder, profile)
    assert again["outcome"] == "present"
    write_profile(packages.editor, "editor", [(packages.editor, "usr/bin/editor", 0, 30)])  # trained again
    (retrained,) = json_lines("import", folder, profile)
    assert (retrained["outcome"], retrained["applications"]) == ("imported", ["editor"])
    (built,) = json_lines("packs", "build", folder)
    assert built["pages"] == 30
    object_path = folder / "objects" / str(built["object"])
    object_path.write_bytes(object_path.read_bytes()[:-1])  # cut short: named, and built anew
    assert "DAMAGED" in program("packs", "list", folder).stdout
    (healed,) = json_lines("packs", "build", folder)
    assert healed["object"] == built["object"]
    object_path.write_bytes(b"\xff" + object_path.read_bytes()[1:])
    done = program("check", folder)
    assert done.returncode == 30
    assert "launch pack of editor" in done.stderr
    json_lines("packs", "build", folder, "--again")
    assert program("check", folder).returncode == 0


def test_a_profile_that_fits_nothing_is_refused_in_one_line(
    folder: Path, packages: Packages, tmp_path: Path
) -> None:
    profile = packages.editor.path.with_suffix(".profile")
    done = program("import", folder, profile)
    assert (done.returncode, done.stderr.count("\n")) == (32, 1)
    assert "not here" in done.stderr
    json_lines("import", folder, packages.base.path, packages.editor.path)
    damaged = tmp_path / "damaged.profile"
    damaged.write_bytes(profile.read_bytes()[:-1] + b"\xff")
    assert program("import", folder, damaged).returncode == 10
    write_profile(packages.editor, "strange", [(packages.editor, "usr/bin/editor", 0, 1)])
    done = program("import", folder, profile)
    assert done.returncode == 10
    assert "strange" in done.stderr
    write_profile(packages.editor, "editor", [(packages.painter, "usr/bin/painter", 0, 1)])
    json_lines("import", folder, profile)
    done = program("packs", "build", folder)
    assert done.returncode == 10
    assert "none of its pages" in done.stderr


async def test_what_is_dropped_in_any_order_is_served_as_a_pack_that_verifies(
    folder: Path, packages: Packages
) -> None:
    with open_store(folder) as store:
        token = add_user(store, "anna")
        async with served(store, packages) as client:
            incoming = folder / "incoming"
            shutil.copy(packages.editor.path.with_suffix(".profile"), incoming / "e.profile")
            await asyncio.sleep(0.5)
            for package in (packages.editor, packages.base):
                shutil.copy(package.path, incoming / package.path.name)
            for _ in range(100):
                if not any(incoming.iterdir()):
                    break
                await asyncio.sleep(0.1)
            _, data = await client.pack_with(token, packages.editor, 60)
            layers = layers_of([open_package(packages.base.path), open_package(packages.editor.path)])
            for page in unpacked(data, layers):
                whole = (LIBRARY, PROGRAM)[page.layer]
                start = (page.block * PAGES_A_BLOCK + page.page) * PAGE_SIZE
                assert page.plain == whole[start : start + PAGE_SIZE]
        assert not list((folder / "rejected").iterdir())


async def test_three_clients_teach_the_server_and_one_does_not(folder: Path, packages: Packages) -> None:
    with open_store(folder) as store:
        for package in (packages.base, packages.editor):
            import_package(store, package.path)
        import_profile(store, packages.editor.path.with_suffix(".profile"))
        tokens = [add_user(store, name) for name in ("anna", "otto", "ida", "mallory")]
        missed = content_of(packages.editor, "usr/bin/editor").content_id.hex()
        library = content_of(packages.base, "lib/library").content_id.hex()
        async with served(store, packages, relearn_s=0.2) as client:
            old_url, old = await client.pack_with(tokens[0], packages.editor, 60)
            everything: list[list[object]] = [[missed, 20, 25], [library, 0, 60], ["ab" * 32, 0, 4000]]
            for _ in range(3):
                assert await client.report(tokens[3], packages.editor, everything) == 204
            await asyncio.sleep(1.5)
            assert (await client.pack(tokens[0], packages.editor))[1] == old
            before, _ = await client.pointer(tokens[0], packages.editor)
            for token in tokens[:3]:
                assert await client.report(token, packages.editor, [[missed, 21, 3], [library, 41, 2]]) == 204
            url, data = await client.pack_with(tokens[0], packages.editor, 65)
            after, _ = await client.pointer(tokens[0], packages.editor)
            assert after.generation > before.generation
            layers = layers_of([open_package(packages.base.path), open_package(packages.editor.path)])
            pages = {(p.layer, p.block * PAGES_A_BLOCK + p.page) for p in unpacked(data, layers)}
            assert pages == (
                {(0, page) for page in (*range(40), 41, 42)}
                | {(1, page) for page in (*range(20), 21, 22, 23)}
            )
            assert url != old_url
            assert await client.read(old_url) == old  # the old one's URLs hold for a while
            assert tidy(store).removed == ()
            assert await client.read(old_url) == old
        (shown,) = json_lines("packs", "show", folder, "editor")
        assert shown["relearned"] is True
        assert len(shown["accounts"]) == 4  # type: ignore[arg-type]


async def test_what_came_too_late_to_three_clients_comes_before_the_window(
    folder: Path, tmp_path: Path
) -> None:
    data = {"usr/bin/editor": PROGRAM, "usr/share/table": random.Random(3).randbytes(6 << 20)}
    base = build_package(tmp_path, "base", {"lib/library": LIBRARY}, kind="runtime")
    editor = build_package(tmp_path, "editor", data, requires=[base], applications=[EDITOR])
    table = (editor, "usr/share/table", 500, 400)  # of a large file, all of it after the window
    profile = write_profile(editor, "editor", [(base, "lib/library", 0, 40), table], behind=1)
    with open_store(folder) as store:
        for package in (base, editor):
            import_package(store, package.path)
        import_profile(store, profile)
        tokens = [add_user(store, name) for name in ("anna", "otto", "ida")]

        def window() -> int:
            (pack,) = store.reader.ask(lambda db: packs.list_packs(db, editor.version_id))
            return pack.window_size

        async with served(store, Packages(base, editor, editor), relearn_s=0.2) as client:
            _, old = await client.pack_with(tokens[0], editor, 440)
            before = window()
            assert 40 * PAGE_SIZE <= before <= 45 * PAGE_SIZE, "pages that do not compress"
            late: list[list[object]] = [[content_of(editor, "usr/share/table").content_id.hex(), 600, 8, 450]]
            for token in tokens:
                assert await client.report(token, editor, [], late) == 204
            for _ in range(300):
                if window() != before:
                    break
                await asyncio.sleep(0.1)
            assert before + 7 * PAGE_SIZE <= window() <= before + 12 * PAGE_SIZE
            _, new = await client.pack_with(tokens[0], editor, 440)
            layers = layers_of([open_package(base.path), open_package(editor.path)])
            pages = [
                [(p.layer, p.block * PAGES_A_BLOCK + p.page) for p in unpacked(one, layers)]
                for one in (old, new)
            ]
            assert pages[0] != pages[1]
            assert sorted(pages[0]) == sorted(pages[1])
            assert await client.report(tokens[0], editor, [], [["x", 0, 1, 0]]) == 400
            assert await client.report(tokens[0], editor, [], [["ab" * 32, 0, 1, 0]] * 1025) == 400
            assert await client.report(tokens[0], editor, [], [["ab" * 32, 0, 1, 1001]]) == 400
            assert await client.report(tokens[0], editor, [], [["ab" * 32, 0, 1]]) == 400


async def test_reports_that_cannot_be_are_refused(folder: Path, packages: Packages) -> None:
    with open_store(folder) as store:
        for package in (packages.base, packages.editor, packages.painter):
            import_package(store, package.path)
        import_profile(store, packages.editor.path.with_suffix(".profile"))
        token = add_user(store, "anna")
        store.writer.run(lambda db: accounts.revoke(db, "painter", "everybody"))
        name = "cd" * 32
        async with served(store, packages, builds_packs=False) as client:
            assert await client.report("", packages.editor, []) == 401
            assert await client.report(token, packages.painter, []) == 404
            for bad in ([[name, 0, 0]], [[name, -1, 1]], [[name, 0]], [["cd", 0, 1]], [[name, 0, 1.5]], "x"):
                assert await client.report(token, packages.editor, bad) == 400  # type: ignore[arg-type]
            assert await client.report(token, packages.editor, [[name, 2 * n, 1] for n in range(4097)]) == 400
            assert await client.report(token, packages.editor, [[name, 2 * n, 1] for n in range(4096)]) == 204
            assert await client.report(token, packages.editor, [[name * 99, 0, 1]] * 200) == 413
            statuses = [await client.report(token, packages.editor, []) for _ in range(30)]
            assert 429 in statuses
        async with served(store, packages, builds_packs=False, learns=False) as client:
            async with client.http.get(f"{client.url}/v1/server") as reply:
                assert (await reply.json())["launch_reports"] is False
            other = add_user(store, "otto")
            assert await client.report(other, packages.editor, [[name, 0, 1]]) == 204
        (shown,) = json_lines("packs", "show", folder, "editor")
        assert len(shown["accounts"]) == 1  # type: ignore[arg-type]


def test_the_second_application_makes_the_first_ones_pack_anew_once(folder: Path, packages: Packages) -> None:
    with open_store(folder) as store:
        for package in (packages.base, packages.editor):
            import_package(store, package.path)
        import_profile(store, packages.editor.path.with_suffix(".profile"))
        assert [one.outcome for one in bring_up_to_date(store)] == ["built"]
        import_package(store, packages.painter.path)
        import_profile(store, packages.painter.path.with_suffix(".profile"))
        done = [(one.profile.application, one.outcome) for one in bring_up_to_date(store)]
        assert done == [("painter", "built"), ("editor", "built")]
        assert list(bring_up_to_date(store)) == []
        write_profile(  # nearly the same again: looked at, and left
            packages.painter, "painter", [(packages.base, "lib/library", 20, 40)]
        )
        import_profile(store, packages.painter.path.with_suffix(".profile"))
        done = [(one.profile.application, one.outcome) for one in bring_up_to_date(store)]
        assert done == [("painter", "built"), ("editor", "kept")]
        assert list(bring_up_to_date(store)) == []
        remove_packages(store, "editor", None)
        known = {digest.hex() for digest in store.reader.ask(objects.known_objects)}
        there = {path.name for path in (folder / "objects").iterdir()}
        assert there <= known
        assert [pack.application for pack in store.reader.ask(packs.list_packs)] == ["painter"]


def test_a_build_that_is_killed_leaves_nothing(folder: Path, packages: Packages) -> None:
    json_lines("import", folder, packages.base.path, packages.editor.path)
    for delay in (0.05, 0.3, 0.6, 0.9):
        with subprocess.Popen(
            [sys.executable, "-m", "streamserver", "packs", "build", str(folder), "--background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as builder:
            time.sleep(delay)
            builder.kill()
    with open_store(folder) as store:
        tidy(store)
        known = {digest.hex() for digest in store.reader.ask(objects.known_objects)}
    assert {path.name for path in (folder / "objects").iterdir()} == known
    with subprocess.Popen(
        [sys.executable, "-m", "streamserver", "packs", "build", str(folder), "--background", "--again"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as builder:
        assert builder.stdin is not None
        builder.stdin.close()  # whoever started it is gone
        try:
            assert builder.wait(30) == 0
        finally:
            end_process(builder)
    json_lines("packs", "build", folder)
    (listed,) = json_lines("packs", "list", folder)
    assert listed["whole"] is True
