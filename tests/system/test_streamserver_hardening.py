"""What a hostile or unlucky administrator, disk or client does to `streamserver`."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from packageformat.keytext import private_text, public_text
from streamserver.capability import object_path
from streamserver.connections import Connections
from streamserver.context import PASSWORDS_WAITING, Context
from streamserver.database import catalogue
from streamserver.importing import import_package
from streamserver.serving import Address, Serving, Settings, serve
from streamserver.store import Store, open_store
from streamserver.watcher import Patience, Watcher
from streamserver.webapplication import make_application
from tests.packages import PUBLISHER, PUBLISHER_SEED, build_package
from tests.system.test_streamserver_program import good, refused, streamserver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    good("init", path, "--name", "Test")
    return path


def test_only_the_public_half_of_a_key_is_trusted(folder: Path, tmp_path: Path) -> None:
    keygen = [sys.executable, "-m", "sequencer", "keygen", str(tmp_path / "publisher.key")]
    subprocess.run(keygen, check=True, capture_output=True)
    assert "private key" in refused(30, "trust", "add", folder, tmp_path / "publisher.key")
    bare = tmp_path / "bare.key"
    for content in (private_text(PUBLISHER_SEED), PUBLISHER_SEED.hex() + "\n"):
        bare.write_text(content)
        refused(30, "trust", "add", folder, bare)
    bare.write_bytes(PUBLISHER_SEED)
    refused(30, "trust", "add", folder, bare)
    refused(30, "trust", "add", folder, folder / "secrets" / "signing.key")
    assert good("trust", "list", folder) == ""
    good("trust", "add", folder, tmp_path / "publisher.key.pub")
    (tmp_path / "tagged").write_text(public_text(PUBLISHER))
    good("trust", "add", folder, tmp_path / "tagged")
    good("trust", "remove", folder, PUBLISHER.hex())
    (tmp_path / "old.pub").write_text(PUBLISHER.hex() + "\n")
    good("trust", "add", folder, tmp_path / "old.pub")
    assert len(good("trust", "list", folder).splitlines()) == 2


def test_a_server_that_a_full_disk_broke_off_leaves_nothing_and_is_made_later(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        for room in (16, 40):  # the disk is full at different steps
            (disk / "filler").write_bytes(b"x" * (64 - room) * 1024)
            assert "space" in refused(30, "init", disk / "new" / "s", "--self-signed", "localhost")
            assert [path.name for path in disk.iterdir()] == ["filler"]
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        good("init", disk / "new" / "s")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("delay_ms", range(60, 700, 80))
def test_a_killed_init_is_made_anew(tmp_path: Path, delay_ms: int) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", "streamserver", "init", str(path), "--self-signed", "localhost"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_ms / 1000)
    process.send_signal(signal.SIGKILL)
    finished = process.wait(10) == 0
    if finished or ((path / "state.db").exists() and not (path / ".unfinished").exists()):
        assert "already" in refused(30, "init", path)
    else:
        done = streamserver("init", path, "--self-signed", "localhost")
        assert done.returncode == 0 or "already" in done.stderr, done.stderr
    assert (path / "certificate.pem").exists()
    assert good("user", "list", path) == ""


def test_what_an_init_left_half_way_is_made_anew_but_nothing_of_others(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for name in ("objects", "incoming", "rejected", "secrets"):
        (path / name).mkdir(parents=True)
    (path / "secrets" / "signing.key").write_bytes(b"x" * 32)
    assert "not empty" in refused(30, "init", path)  # a restored backup without its database is kept
    (path / "state.db").touch()
    (path / "objects" / "something").touch()
    assert "not empty" in refused(30, "init", path)
    (path / "objects" / "something").unlink()
    good("init", path)
    assert sorted(os.listdir(path)) == ["incoming", "objects", "rejected", "secrets", "state.db"]


async def started(
    stack: AsyncExitStack, path: Path, *, proxies: tuple[str, ...] = (), **bounds: float
) -> tuple[str, Store]:
    """Serve `path` in this process until `stack` ends; return the URL."""
    store = stack.enter_context(open_store(path))
    stop = asyncio.Event()
    ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    networks = tuple(ipaddress.ip_network(one) for one in proxies)
    connections = Connections(networks, **bounds)  # type: ignore[arg-type]
    settings = Settings(Address("127.0.0.1", 0), None, proxies=networks, connections=connections)
    task = asyncio.create_task(serve(store, settings, stop=stop, on_ready=ready.set_result))

    async def end() -> None:
        stop.set()
        await task

    stack.push_async_callback(end)
    return (await ready).url, store


async def guess(http: aiohttp.ClientSession, url: str, forwarded: str = "") -> int:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    body = {"user": "anna", "password": "wrong"}
    async with http.post(f"{url}/v1/login", json=body, headers=headers) as reply:
        return reply.status


async def test_a_client_that_takes_nothing_of_small_answers_is_ended(folder: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        url, store = await started(stack, folder, stall_s=1.0)
        store.writer.run(lambda db: catalogue.add_publisher(db, PUBLISHER, "tests", now=0))
        package = build_package(tmp_path, "big", {"big": os.urandom(400_000)})
        import_package(store, package.path)
        digest = hashlib.sha256(package.path.read_bytes()).digest()
        place = object_path(store.secrets.capability, digest, int(time.time()) + 600)
        reader = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        stack.callback(reader.close)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET {place} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-250000\r\n\r\n".encode()
        reader.sendall(request * 60)  # 15 MB wanted, nothing taken
        for _ in range(100):
            await asyncio.sleep(0.2)
            try:
                reader.send(b"G", socket.MSG_DONTWAIT)
            except (ConnectionResetError, BrokenPipeError):
                break
            except BlockingIOError:
                continue
        else:
            pytest.fail("still there after 20 s")


async def test_connections_are_bounded_for_each_address_and_in_all(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        url, _ = await started(stack, folder, per_address=3, total=100)
        port = int(url.rpartition(":")[2])
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        other = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        other[1].write(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in await other[0].readline()
        kept.pop()[1].close()
        await asyncio.sleep(0.3)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/health") as reply:
            assert reply.status == 200
        for _, one in (*kept, other):
            one.close()


async def test_behind_a_trusted_proxy_each_client_is_throttled_alone(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        url, _ = await started(stack, folder, proxies=("127.0.0.1",))
        codes = [await guess(http, url, "10.0.0.1, 198.51.100.7") for _ in range(6)]
        assert codes == [401] * 5 + [429]
        assert await guess(http, url, "198.51.100.7, 198.51.100.8") == 401  # only the last is believed
        assert await guess(http, url, "198.51.100.8, 198.51.100.7") == 429
        codes = [await guess(http, url, f"2001:db8::{number}") for number in range(6)]
        assert codes == [401] * 5 + [429]  # one /64
        assert await guess(http, url, "2001:db8:0:1::1") == 401


async def test_without_a_trusted_proxy_the_header_is_not_believed(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        url, _ = await started(stack, folder)
        codes = [await guess(http, url, f"198.51.100.{number}") for number in range(6)]
        assert codes == [401] * 5 + [429]


async def test_a_busy_server_counts_no_wrong_password(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        store = stack.enter_context(open_store(folder))
        context = Context(store)
        runner = web.AppRunner(make_application(context))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        context.hashing = PASSWORDS_WAITING
        assert [await guess(http, url) for _ in range(10)] == [503] * 10
        context.hashing = 0
        assert await guess(http, url) == 401


def dropped(store: Store, *names: str) -> list[Path]:
    paths = [store.folder.incoming / name for name in names]
    for path in paths:
        path.write_bytes(b"no package" * 100)
    return paths


def look(watcher: Watcher, seconds: float = 0.4) -> None:
    """Look twice: a file is taken once it has been seen unchanged."""
    watcher.look()
    time.sleep(seconds)
    watcher.look()


@pytest.mark.parametrize("name", ["x" * 254, "ü" * 127, "x" * 250 + ".ovp", "x\nred"])
def test_a_dropped_file_of_any_name_is_moved_away(folder: Path, name: str) -> None:
    with open_store(folder) as store:
        watcher = Watcher(store, Patience(0.05, 0.1))
        for _ in range(3):
            dropped(store, name)
            look(watcher)
        assert list(store.folder.incoming.iterdir()) == []
        assert len(list(store.folder.rejected.iterdir())) == 6


def test_a_file_that_cannot_be_moved_away_waits_and_harms_no_other(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good("trust", "add", folder, PUBLISHER.hex())
    package = build_package(tmp_path, "small", {"x": b"x"})
    with open_store(folder) as store:
        watcher = Watcher(store, Patience(0.05, 0.1))
        rejected = str(store.folder.rejected)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", rejected], check=True)
        try:
            dropped(store, "a", "b\nc")
            (store.folder.incoming / "z.ovp").write_bytes(package.path.read_bytes())
            look(watcher)
            assert sorted(path.name for path in store.folder.incoming.iterdir()) == ["a", "b\nc"]
            before = len(caplog.records)
            for _ in range(5):
                look(watcher, 0.1)
            assert len(caplog.records) == before  # not again and again
            assert not watcher.look()
        finally:
            subprocess.run(["umount", "-l", rejected], check=True)


def test_times_hosts_and_paths_that_make_no_sense_are_refused(folder: Path, tmp_path: Path) -> None:
    for value in ("nan", "-1", "0", "inf", "1e300", "x"):
        assert streamserver("serve", folder, f"--quiet-s={value}").returncode == 2
        assert streamserver("serve", folder, f"--patience-s={value}").returncode == 2
    assert streamserver("serve", folder, "--trusted-proxy", "everybody").returncode == 2
    for host in ("*", "*.", "a..b", "a*b", "a-", ""):
        refused(33, "init", tmp_path / "other", "--self-signed", host)
        assert not (tmp_path / "other").exists()
    refused(30, "import", folder, tmp_path / "no\nsuch\x1b[31m.ovp")
    (tmp_path / "file").touch()
    assert "not a folder" in refused(30, "init", tmp_path / "file")
    assert "choose one on a disk" in refused(30, "init", "/proc/foo")
    assert "choose one on a disk" in refused(30, "init", tmp_path / "file" / "s")
    (folder / "secrets" / "signing.key").unlink()
    assert "backup" in refused(30, "user", "list", folder)


def test_an_output_that_cannot_be_written_is_no_bug(folder: Path) -> None:
    good("trust", "add", folder, PUBLISHER.hex())
    command = [sys.executable, "-m", "streamserver", "trust", "list", str(folder)]
    for shell, code in ((">/dev/full", 30), (">&-", 0)):
        done = subprocess.run(["sh", "-c", f'"$@" {shell}', "sh", *command], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert "bug" not in done.stderr
        assert done.stderr.count("\n") == (1 if code else 0)
