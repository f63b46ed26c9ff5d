"""The stream server over real HTTP, on a real port, with real packages in a real store."""

from __future__ import annotations

import asyncio
import base64
import datetime
import functools
import hashlib
import io
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from appclient.address import address_of
from appclient.door import BESIDE, FAR_REHEARSAL_BYTES, REHEARSAL_BYTES, CapabilityExpiredError, Door
from appclient.lanes import FAR_SECONDS, LANES, Part
from packageformat.application import Application
from packageformat.errors import SignatureError
from packageformat.package import PackageParser
from packageformat.pointer import Pointer, decode_pointer
from packageformat.publishing import Publishing, check_fresh, decode_publishing
from packageformat.signature import public_key
from packageformat.signed import open_sealed
from streamserver.capability import capability, object_path
from streamserver.certificate import make_self_signed, tls_context
from streamserver.database import accounts, catalogue
from streamserver.identity import issue, token_text
from streamserver.importing import import_package
from streamserver.passwords import hash_password
from streamserver.route_objects import PARTS_MAX
from streamserver.serving import Address, Serving, Settings, serve
from streamserver.store import Store, create_store, open_store, remove_packages
from tests.packages import PUBLISHER, BuiltPackage, build_package

PASSWORD = "correct horse"
EDITOR = Application(id="editor", name="Editor", command="editor %f")


@dataclass(frozen=True, slots=True)
class Running:
    """A server under test and how to talk to it."""

    store: Store
    url: str
    http: aiohttp.ClientSession
    base: BuiltPackage
    editor: BuiltPackage
    secret: BuiltPackage

    async def login(self, user: str, password: str = PASSWORD) -> str:
        async with self.http.post(f"{self.url}/v1/login", json={"user": user, "password": password}) as reply:
            assert reply.status == 200, await reply.text()
            token: str = (await reply.json())["token"]
            return token

    async def pointers(self, token: str, *ids: bytes) -> tuple[int, dict[str, object]]:
        body = {"version_ids": [one.hex() for one in ids]}
        async with self.http.post(f"{self.url}/v1/pointers", json=body, headers=bearer(token)) as reply:
            return reply.status, await reply.json()

    async def object_url(self, token: str, version_id: bytes) -> str:
        status, body = await self.pointers(token, version_id)
        assert status == 200
        pointers = body["pointers"]
        assert isinstance(pointers, list)
        return self.url + str(pointers[0]["url"])

    async def publishing(self, token: str) -> Publishing:
        async with self.http.get(f"{self.url}/v1/publishing", headers=bearer(token)) as reply:
            assert reply.status == 200
            assert reply.content_type == "application/msgpack"
            payload, _ = open_sealed("publishing", await reply.read(), [self.store.secrets.public])
        return decode_publishing(payload)

    def entitle(self, package: str, group: str) -> None:
        self.store.writer.run(lambda db: accounts.entitle(db, package, group))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@functools.cache
def password_hash() -> str:
    return hash_password(PASSWORD)


def add_user(store: Store, name: str, group: str) -> None:
    hashed = password_hash()
    store.writer.run(
        lambda db: accounts.add_account(
            db, id=secrets.token_bytes(16), name=name, password_hash=hashed, now=int(time.time()) - 5
        )
    )
    store.writer.run(lambda db: accounts.add_group(db, group, now=0))
    store.writer.run(lambda db: accounts.join(db, group, name))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    create_store(tmp_path / "server", "Test server")
    base = build_package(
        tmp_path, "base", {"bin/sh": b"s" * 9000, "big": secrets.token_bytes(3 << 20)}, kind="runtime"
    )
    editor = build_package(
        tmp_path, "editor", {"usr/bin/editor": b"e" * 5000}, requires=[base], applications=[EDITOR]
    )
    secret = build_package(tmp_path, "secret", {"usr/bin/secret": b"?" * 5000}, requires=[base])
    with open_store(tmp_path / "server") as store:
        store.writer.run(lambda db: catalogue.add_publisher(db, PUBLISHER, "tests", now=0))
        for package in (base, editor, secret):
            import_package(store, package.path)
        add_user(store, "anna", "writers")
        add_user(store, "otto", "others")
        store.writer.run(lambda db: accounts.entitle(db, "editor", "writers"))
        async with (
            served(store, Settings(Address("127.0.0.1", 0), None)) as serving,
            aiohttp.ClientSession() as http,
        ):
            yield Running(store, serving.url, http, base, editor, secret)


class served:  # noqa: N801 - reads as a sentence
    """Serve in this loop while inside."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Serving:
        ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(
            serve(self._store, self._settings, stop=self._stop, on_ready=ready.set_result)
        )
        await asyncio.wait((ready, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            self._task.result()
        return ready.result()

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task


async def test_health_and_server_answer_without_a_token(running: Running) -> None:
    async with running.http.get(f"{running.url}/v1/health") as reply:
        assert (await reply.json())["status"] == "ok"
    async with running.http.get(f"{running.url}/v1/server") as reply:
        told = await reply.json()
    key = running.store.secrets.public.hex()
    assert told == {"name": "Test server", "key": key, "protocol": 1, "launch_reports": True}


async def test_a_user_is_published_what_his_groups_may_run(running: Running) -> None:
    publishing = await running.publishing(await running.login("anna"))
    check_fresh(publishing, int(time.time()), 0)
    (item,) = publishing.items
    assert (item.name, item.stack, item.applications) == ("editor", running.editor.stack, (EDITOR,))
    assert publishing.user == "anna"
    assert (await running.publishing(await running.login("otto"))).items == ()


async def test_publishing_is_not_sent_twice_until_something_changes(running: Running) -> None:
    token = await running.login("anna")
    first = await running.publishing(token)
    async with running.http.get(f"{running.url}/v1/publishing", headers=bearer(token)) as reply:
        etag = reply.headers["ETag"]
    condition = {**bearer(token), "If-None-Match": etag}
    async with running.http.get(f"{running.url}/v1/publishing", headers=condition) as reply:
        assert (reply.status, await reply.read()) == (304, b"")
    running.entitle("secret", "writers")
    async with running.http.get(f"{running.url}/v1/publishing", headers=condition) as reply:
        assert reply.status == 200
    second = await running.publishing(token)
    assert second.generation > first.generation
    assert [item.name for item in second.items] == ["editor", "secret"]
    running.store.writer.run(lambda db: accounts.leave(db, "writers", "anna"))
    third = await running.publishing(token)
    assert third.generation > second.generation
    assert third.items == ()


async def test_the_newest_imported_version_is_current_and_the_old_one_stays_readable(
    running: Running, tmp_path: Path
) -> None:
    token = await running.login("anna")
    newer = build_package(
        tmp_path, "editor", {"usr/bin/editor": b"new"}, version="2", requires=[running.base]
    )
    await asyncio.to_thread(import_package, running.store, newer.path)
    (item,) = (await running.publishing(token)).items
    assert item.version == "2"
    assert (await running.pointers(token, running.editor.version_id))[0] == 200


async def test_a_package_reads_back_from_its_pointer(running: Running) -> None:
    token = await running.login("anna")
    status, body = await running.pointers(token, *running.editor.stack)
    assert status == 200
    told = body["pointers"]
    assert isinstance(told, list)
    for one, package in zip(told, (running.base, running.editor), strict=True):
        payload, _ = open_sealed("pointer", base64.b64decode(one["pointer"]), [running.store.secrets.public])
        pointer: Pointer = decode_pointer(payload)
        assert pointer.version_id == package.version_id == bytes.fromhex(one["version_id"])
        async with running.http.get(running.url + one["url"]) as reply:
            assert reply.status == 200
            content = await reply.read()
        assert content == package.path.read_bytes()
        assert hashlib.sha256(content).digest() == pointer.object_digest
        parser = PackageParser(pointer.object_size, package.version_id, header=pointer.header)
        while needs := parser.needs():
            for offset, size in needs:
                parser.feed(offset, content[offset : offset + size])


async def test_unknown_and_not_entitled_get_the_same_answer(running: Running) -> None:
    token = await running.login("anna")
    unknown = await running.pointers(token, bytes(32))
    assert unknown[0] == 404
    assert unknown == await running.pointers(token, running.secret.version_id)
    assert unknown == await running.pointers(token, running.editor.version_id, running.secret.version_id)
    other = await running.login("otto")
    assert unknown == await running.pointers(other, running.editor.version_id)
    assert unknown == await running.pointers(other, running.base.version_id)  # a runtime of nothing of his


async def test_a_lost_entitlement_is_lost_at_once(running: Running) -> None:
    token = await running.login("anna")
    assert (await running.pointers(token, running.editor.version_id))[0] == 200
    running.store.writer.run(lambda db: accounts.revoke(db, "editor", "writers"))
    assert (await running.pointers(token, running.editor.version_id))[0] == 404


@pytest.mark.parametrize(
    ("header", "status", "start", "size"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-4195", 206, 100, 4096),
        ("bytes=-7", 206, -7, 7),
        ("bytes=1000000-", 206, 1000000, -1),
        ("bytes=5-4", 200, 0, -1),
        ("bytes=0-1,5-6", 200, 0, -1),
        ("rows=1-2", 200, 0, -1),
    ],
)
async def test_ranges(running: Running, header: str, status: int, start: int, size: int) -> None:
    content = running.base.path.read_bytes()
    url = await running.object_url(await running.login("anna"), running.base.version_id)
    async with running.http.get(url, headers={"Range": header}) as reply:
        body = await reply.read()
        assert reply.status == status
        expected = content[start:] if size < 0 else content[start:][:size]
        assert body == expected
        if status == 206:
            first = start % len(content)
            assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(content)}"


async def test_objects_are_cacheable_for_ever_and_conditional(running: Running) -> None:
    url = await running.object_url(await running.login("anna"), running.base.version_id)
    content = running.base.path.read_bytes()
    name = hashlib.sha256(content).hexdigest()
    async with running.http.head(url) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Length"] == str(len(content))
        assert reply.headers["ETag"] == f'"{name}"'
        assert "immutable" in reply.headers["Cache-Control"]
        assert reply.headers["Accept-Ranges"] == "bytes"
    async with running.http.get(url, headers={"If-None-Match": f'"{name}"'}) as reply:
        assert reply.status == 304
    async with running.http.get(url, headers={"Range": "bytes=0-3", "If-Range": f'"{name}"'}) as reply:
        assert (reply.status, await reply.read()) == (206, content[:4])
    async with running.http.get(url, headers={"Range": "bytes=0-3", "If-Range": '"other"'}) as reply:
        assert reply.status == 200
        assert len(await reply.read()) == len(content)
    async with running.http.get(url, headers={"Range": f"bytes={len(content)}-"}) as reply:
        assert reply.status == 416
        assert reply.headers["Content-Range"] == f"bytes */{len(content)}"
        assert (await reply.json())["error"] == "bad_range"


async def test_a_capability_opens_its_object_only_and_only_for_its_time(running: Running) -> None:
    token = await running.login("anna")
    url = await running.object_url(token, running.editor.version_id)
    base_name = hashlib.sha256(running.base.path.read_bytes()).hexdigest()
    own_name = hashlib.sha256(running.editor.path.read_bytes()).hexdigest()
    await expect(running, url.replace(own_name, base_name), 403, "bad_capability")
    await expect(running, url.replace("?e=", "?e=9"), 403, "bad_capability")
    await expect(running, url[:-2], 403, "bad_capability")
    await expect(running, url + "&c=x", 403, "bad_capability")
    await expect(running, url.partition("?")[0], 403, "bad_capability")
    past = object_path(running.store.secrets.capability, bytes.fromhex(own_name), int(time.time()) - 1)
    await expect(running, running.url + past, 410, "capability_expired")
    forged = object_path(b"\0" * 32, bytes.fromhex(own_name), int(time.time()) + 600)
    await expect(running, running.url + forged, 403, "bad_capability")
    missing = object_path(running.store.secrets.capability, bytes(32), int(time.time()) + 600)
    await expect(running, running.url + missing, 404, "unknown_object")


def part(running: Running, package: BuiltPackage, offset: int, size: int, *, expires: int = 0) -> str:
    digest = hashlib.sha256(package.path.read_bytes()).digest()
    until = expires or int(time.time()) + 600
    code = capability(running.store.secrets.capability, digest, until)
    return f"p={digest.hex()}.{until}.{code}.{offset}.{size}"


async def test_a_stream_is_parts_of_objects_in_the_order_asked_for(running: Running) -> None:
    base, editor = running.base.path.read_bytes(), running.editor.path.read_bytes()
    wanted = [
        part(running, running.editor, 7, 100),
        part(running, running.base, 0, len(base)),
        part(running, running.editor, len(editor) - 1, 1),
    ]
    async with running.http.get(f"{running.url}/v1/stream?{'&'.join(wanted)}") as reply:
        assert reply.status == 200
        assert await reply.read() == editor[7:107] + base + editor[-1:]


@pytest.mark.parametrize(("count", "stripe"), [(1, 16384), (2, 1 << 20), (8, 16384), (16, 99_999)])
async def test_the_lanes_of_a_stream_are_together_the_stream(
    running: Running, count: int, stripe: int
) -> None:
    base = running.base.path.stat().st_size
    wanted = [
        part(running, running.editor, 7, 100),
        part(running, running.base, 0, base),
        part(running, running.editor, 0, 3),
        part(running, running.base, 12345, base - 12345),
    ]
    stream = f"{running.url}/v1/stream?{'&'.join(wanted)}"

    async def read(url: str) -> bytes:
        async with running.http.get(url) as reply:
            assert reply.status == 200
            body = await reply.read()
            assert reply.headers["Content-Length"] == str(len(body))
            return body

    whole = await read(stream)
    lanes = await asyncio.gather(*(read(f"{stream}&s={number}.{count}.{stripe}") for number in range(count)))
    stripes = [whole[at : at + stripe] for at in range(0, len(whole), stripe)]
    assert lanes == [b"".join(stripes[number::count]) for number in range(count)]


async def test_a_lane_for_which_the_stream_is_too_short_is_empty(running: Running) -> None:
    stream = f"{running.url}/v1/stream?{part(running, running.base, 0, 16385)}"
    for number, size in ((0, 16384), (1, 1), (2, 0), (15, 0), (2, 0)):
        async with running.http.get(f"{stream}&s={number}.16.16384") as reply:
            assert reply.status == 200
            assert reply.headers["Content-Length"] == str(size)
            assert len(await reply.read()) == size


async def test_what_is_no_lane_is_refused_whatever_the_parts(running: Running) -> None:
    good = part(running, running.base, 0, 10)
    for lanes in (
        *("s=", "s=1", "s=8.8.16384", "s=0.0.16384", "s=0.17.16384", "s=0.8.16383", "s=0.8.1048577"),
        *("s=00.8.16384", "s=a.8.16384", "s=0.8.16384&s=1.8.16384", "s=0.8.16384&s=0.8.16384"),
    ):
        for parts in (good, "p=x"):
            await expect(running, f"{running.url}/v1/stream?{parts}&{lanes}", 400, "bad_request")
    await expect(running, f"{running.url}/v1/stream?p=x&s=0.8.16384", 403, "bad_capability")


async def test_the_client_reads_a_far_servers_stream_over_lanes(running: Running) -> None:
    base = running.base.path.read_bytes()
    digest = hashlib.sha256(base).digest()
    path = object_path(running.store.secrets.capability, digest, int(time.time()) + 600)
    async with Door(address_of(running.url)) as door:
        door.round_trip = FAR_SECONDS
        assert door.lanes == LANES
        async with door.parts([Part(path, 5, 1000), Part(path, 0, len(base))]) as body:
            assert await door.take(body, 1000) == base[5:1005]
            assert await door.take(body, len(base)) == base
        past = object_path(running.store.secrets.capability, digest, int(time.time()) - 1)
        with pytest.raises(CapabilityExpiredError):
            async with door.parts([Part(past, 0, len(base))]):
                pass


async def test_connections_are_rehearsed_once_by_who_is_signed_in(running: Running) -> None:
    token = await running.login("anna")
    headers = bearer(token)
    url = f"{running.url}/v1/rehearsal"
    async with running.http.get(f"{url}?size=1", headers={}) as reply:
        assert reply.status == 401
    for query in ("", "?size=0", "?size=-1", "?size=262145", "?size=9999999", "?size=x", "?size=1&size=2"):
        async with running.http.get(url + query, headers=headers) as reply:
            assert reply.status == 400, query
    async with running.http.get(f"{url}?size=262144", headers=headers) as reply:
        assert len(await reply.read()) == 262144
    async with Door(address_of(running.url)) as door:
        for round_trip, each in ((0.001, 0), (0.02, REHEARSAL_BYTES), (0.02, 0)):
            door.round_trip = round_trip
            before = door.received
            await door.rehearse(token)
            assert door.received - before == each * (1 + BESIDE)
    async with Door(address_of(running.url)) as door:
        door.round_trip = FAR_SECONDS
        await door.rehearse(token)
        assert door.received == FAR_REHEARSAL_BYTES * (LANES + BESIDE)


async def test_one_part_that_is_refused_refuses_the_stream(running: Running) -> None:
    good = part(running, running.base, 0, 10)
    size = running.base.path.stat().st_size
    for bad, status, code in (
        (part(running, running.base, size - 1, 2), 416, "bad_range"),
        (part(running, running.base, 0, 0), 416, "bad_range"),
        (part(running, running.base, 0, 10, expires=int(time.time()) - 1), 410, "capability_expired"),
        (good.replace(".", ".9", 1), 403, "bad_capability"),
        ("p=" + "0" * 64 + ".1.x.0.1", 403, "bad_capability"),
        ("p=", 403, "bad_capability"),
        ("&".join([good] * PARTS_MAX), 403, "bad_capability"),
    ):
        await expect(running, f"{running.url}/v1/stream?{good}&{bad}", status, code)
    await expect(running, f"{running.url}/v1/stream", 403, "bad_capability")
    digest = bytes(32)
    until = int(time.time()) + 600
    code = capability(running.store.secrets.capability, digest, until)
    gone = f"{running.url}/v1/stream?p={digest.hex()}.{until}.{code}.0.1"
    await expect(running, gone, 404, "unknown_object")


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fstate.db",
        "%2e%2e%2f%2e%2e%2fsecrets%2fsigning.key",
        "A" * 64,
        "0" * 63,
        "0" * 64 + "%00",
        "..",
        "",
    ],
)
async def test_a_digest_that_is_none_leads_nowhere(running: Running, name: str) -> None:
    url = URL(f"{running.url}/v1/objects/{name}?e=1&c=x", encoded=True)
    async with running.http.get(url) as reply:
        assert reply.status in (403, 404)
        assert (await reply.json())["error"] in ("bad_capability", "unknown_route")


async def expect(running: Running, url: str, status: int, code: str) -> None:
    async with running.http.get(url) as reply:
        told = await reply.json()
        assert (reply.status, told["error"]) == (status, code)
        assert told["message"]
        assert told["hint"]


async def test_forged_expired_and_void_tokens_are_refused(running: Running) -> None:
    token = await running.login("anna")
    account = running.store.reader.ask(lambda db: accounts.find_account(db, "anna"))
    assert account is not None
    now = time.time()
    forged = token_text(issue(account.id, now=now), secrets.token_bytes(32))
    expired = token_text(issue(account.id, now=now - 13 * 3600), running.store.secrets.seed)
    stranger = token_text(issue(secrets.token_bytes(16), now=now), running.store.secrets.seed)
    flipped = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    for bad in (forged, expired, stranger, flipped, token[:-4], "x", "x" * 3000, "é"):
        async with running.http.get(f"{running.url}/v1/publishing", headers=bearer(bad)) as reply:
            assert (reply.status, (await reply.json())["error"]) == (401, "not_signed_in")
    running.store.writer.run(
        lambda db: accounts.change_password(
            db, "anna", hash_password("new"), now_ms=int(time.time() * 1000) + 1
        )
    )
    async with running.http.get(f"{running.url}/v1/publishing", headers=bearer(token)) as reply:
        assert reply.status == 401
    await asyncio.sleep(0.01)
    again = await running.login("anna", "new")
    running.store.writer.run(lambda db: accounts.remove_account(db, "anna"))
    async with running.http.get(f"{running.url}/v1/publishing", headers=bearer(again)) as reply:
        assert reply.status == 401


async def test_a_token_is_renewed_without_a_password(running: Running) -> None:
    token = await running.login("anna")
    async with running.http.post(f"{running.url}/v1/renew", headers=bearer(token)) as reply:
        told = await reply.json()
    assert told["server_key"] == running.store.secrets.public.hex()
    assert (await running.publishing(told["token"])).user == "anna"


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("anna", "wrong", 401),
        ("nobody", PASSWORD, 401),
        ("anna", "", 401),
        ("", PASSWORD, 401),
        ("anna' OR '1'='1", PASSWORD, 401),
        ("x'; DROP TABLE account; --", PASSWORD, 401),
        ("anna\0", PASSWORD, 401),
        ("a" * 5000, PASSWORD, 401),
        ("anna", "p" * 2000, 401),
        ("anna", "p" * (1 << 20), 413),
        ("\ud800", PASSWORD, 400),
    ],
)
async def test_bad_logins(running: Running, user: str, password: str, status: int) -> None:
    started = time.monotonic()
    body = io.BytesIO(json.dumps({"user": user, "password": password}).encode())
    async with running.http.post(f"{running.url}/v1/login", data=body) as reply:
        assert reply.status == status, await reply.text()
        assert set(await reply.json()) == {"error", "message", "hint"}
    assert time.monotonic() - started < 10
    assert await running.login("anna")  # nothing was dropped


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"user": 1, "password": 2}', b"[" * 50000, b"\xff"])
async def test_bodies_that_are_no_request_are_told_so(running: Running, body: bytes) -> None:
    async with running.http.post(f"{running.url}/v1/login", data=body) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "bad_request")


async def test_guessing_is_slowed_down_for_that_user_only(running: Running) -> None:
    statuses = []
    for _ in range(7):
        guess = {"user": "anna", "password": "guess"}
        async with running.http.post(f"{running.url}/v1/login", json=guess) as reply:
            statuses.append(reply.status)
            if reply.status == 429:
                assert int(reply.headers["Retry-After"]) > 0
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    assert await running.login("otto")


async def test_an_unknown_user_costs_the_same_time_as_a_wrong_password(running: Running) -> None:
    async def seconds(user: str) -> float:
        started = time.monotonic()
        async with running.http.post(
            f"{running.url}/v1/login", json={"user": user, "password": "guess"}
        ) as reply:
            assert reply.status == 401
        return time.monotonic() - started

    known = min([await seconds("anna") for _ in range(4)])
    unknown = min([await seconds("nobody") for _ in range(4)])
    assert 0.4 < known / unknown < 2.5


async def test_wrong_addresses_and_methods_are_told_in_json(running: Running) -> None:
    await expect(running, f"{running.url}/v2/x", 404, "unknown_route")
    async with running.http.delete(f"{running.url}/v1/login") as reply:
        assert (reply.status, (await reply.json())["error"]) == (405, "bad_method")


async def test_a_removed_package_is_gone_for_everybody(running: Running) -> None:
    token = await running.login("anna")
    url = await running.object_url(token, running.editor.version_id)
    await asyncio.to_thread(remove_packages, running.store, "editor", None)
    await expect(running, url, 404, "unknown_object")
    assert (await running.publishing(token)).items == ()


async def test_a_file_cut_short_on_disk_is_not_pointed_to(running: Running) -> None:
    token = await running.login("anna")
    name = hashlib.sha256(running.editor.path.read_bytes()).hexdigest()
    stored = running.store.folder.objects / name
    stored.write_bytes(stored.read_bytes()[:-1])
    status, told = await running.pointers(token, running.editor.version_id)
    assert (status, told["error"]) == (503, "damaged_package")
    assert (await asyncio.to_thread(import_package, running.store, running.editor.path)).outcome == "healed"
    url = await running.object_url(token, running.editor.version_id)
    async with running.http.get(url) as reply:
        assert await reply.read() == running.editor.path.read_bytes()


async def test_clients_that_leave_in_the_middle_harm_nobody(running: Running) -> None:
    url = await running.object_url(await running.login("anna"), running.base.version_id)
    for _ in range(20):
        reply = await running.http.get(url)
        await reply.content.readexactly(1000)
        reply.close()
    async with running.http.get(url) as reply:
        assert await reply.read() == running.base.path.read_bytes()


async def test_many_readers_at_once_get_their_own_bytes(running: Running) -> None:
    url = await running.object_url(await running.login("anna"), running.base.version_id)
    content = running.base.path.read_bytes()

    async def read(offset: int) -> None:
        async with running.http.get(url, headers={"Range": f"bytes={offset}-{offset + 65535}"}) as reply:
            assert await reply.read() == content[offset : offset + 65536]

    async with asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(read(number * 12345))


async def test_everything_works_over_tls_and_large_bodies_come_whole(
    running: Running, tmp_path: Path
) -> None:
    made = make_self_signed(["127.0.0.1", "localhost"], now=datetime.datetime.now(datetime.UTC))
    (tmp_path / "c.pem").write_bytes(made.certificate)
    (tmp_path / "k.pem").write_bytes(made.key)
    settings = Settings(Address("127.0.0.1", 0), tls_context(tmp_path / "c.pem", tmp_path / "k.pem"))
    trusted = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))
    with open_store(running.store.folder.path) as store:
        async with served(store, settings) as serving:
            connector = aiohttp.TCPConnector(ssl=trusted)
            async with aiohttp.ClientSession(connector=connector) as http:
                assert serving.url.startswith("https://")
                over = Running(store, serving.url, http, running.base, running.editor, running.secret)
                url = await over.object_url(await over.login("anna"), running.base.version_id)
                async with http.get(url) as reply:
                    assert await reply.read() == running.base.path.read_bytes()
                async with http.get(url, headers={"Range": "bytes=5-2000000"}) as reply:
                    assert await reply.read() == running.base.path.read_bytes()[5:2000001]
                parts = [part(over, over.base, 5, 2000000), part(over, over.editor, 0, 9)]
                async with http.get(f"{over.url}/v1/stream?{'&'.join(parts)}") as reply:
                    streamed = await reply.read()
                assert (
                    streamed
                    == running.base.path.read_bytes()[5:2000005] + running.editor.path.read_bytes()[:9]
                )
                lanes = []
                for number in range(3):
                    async with http.get(
                        f"{over.url}/v1/stream?{'&'.join(parts)}&s={number}.3.700000"
                    ) as reply:
                        lanes.append(await reply.read())
                assert b"".join(lanes) == streamed


async def test_a_document_of_another_server_is_not_believed(running: Running) -> None:
    assert public_key(running.store.secrets.seed) == running.store.secrets.public
    token = await running.login("anna")
    async with running.http.get(f"{running.url}/v1/publishing", headers=bearer(token)) as reply:
        sealed = await reply.read()
    with pytest.raises(SignatureError):
        open_sealed("publishing", sealed, [PUBLISHER])
    with pytest.raises(SignatureError):
        open_sealed("pointer", sealed, [running.store.secrets.public])
