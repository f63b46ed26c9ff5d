"""`streamserver` as an administrator meets it: the program, its folder, its signals, its incoming folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ending import end_process
from tests.packages import PUBLISHER, STRANGER_SEED, build_package

PROGRAM = [sys.executable, "-m", "streamserver"]


def streamserver(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=60
    )


def good(*words: object, stdin: str = "") -> str:
    done = streamserver(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(code: int, *words: object, stdin: str = "") -> str:
    """The program ends with `code`, one line on stderr and no traceback."""
    done = streamserver(*words, stdin=stdin)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.startswith("streamserver: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    good("init", path, "--name", "Test")
    good("trust", "add", path, PUBLISHER.hex(), "--name", "tests")
    return path


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `serve` and give its URL; on the way out it must end by SIGTERM with 0."""
    log = (folder.parent / "log.txt").open("a+")
    command = [*PROGRAM, "serve", str(folder), "--listen", "127.0.0.1:0", "--json", "--quiet-s", "0.3"]
    process = subprocess.Popen(
        [*command, "--patience-s", "2", *options], stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder.parent / "log.txt").read_text()
        told = json.loads(line)
        assert told["event"] == "serving"
        yield told["url"], process
        if process.poll() is None:
            process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        end_process(process)
        log.close()


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def imported(folder: Path) -> list[str]:
    lines = good("packages", "list", folder, "--json").splitlines()
    return [f"{one['name']} {one['version']}" for one in map(json.loads, lines)]


def test_a_server_is_set_up_by_commands_alone(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": b"s"}, kind="runtime")
    editor = build_package(tmp_path, "editor", {"bin/editor": b"e"}, requires=[base])
    assert "imported base 1" in good("import", folder, editor.path, base.path)  # in any order
    assert "was here already" in good("import", folder, editor.path)
    good("user", "add", folder, "anna", "--password-stdin", stdin="secret\n")
    good("group", "add", folder, "writers")
    good("group", "join", folder, "writers", "anna")
    good("entitle", folder, "editor", "writers")
    assert "(not imported yet)" in good("entitle", folder, "later", "writers")
    assert imported(folder) == ["base 1", "editor 1"]
    (user,) = map(json.loads, good("user", "list", folder, "--json").splitlines())
    assert (user["name"], user["groups"]) == ("anna", ["writers"])
    (group,) = map(json.loads, good("group", "list", "--dir", folder, "--json").splitlines())
    assert (group["users"], group["packages"]) == (["anna"], ["editor", "later"])
    good("revoke", folder, "later", "writers")
    (entitlement,) = map(json.loads, good("entitlements", folder, "--json").splitlines())
    assert entitlement == {"package": "editor", "group": "writers", "imported": True}
    assert "requires" in refused(32, "packages", "remove", folder, "base")
    good("packages", "remove", folder, "editor", "--version", "1")
    good("packages", "remove", folder, "base")
    assert imported(folder) == []
    assert list((folder / "objects").iterdir()) == []
    good("group", "leave", folder, "writers", "anna")
    good("group", "remove", folder, "writers")
    good("user", "password", folder, "anna", "--password-stdin", stdin="other\n")
    good("user", "remove", folder, "anna")
    good("trust", "remove", folder, PUBLISHER.hex())
    assert good("trust", "list", folder) == good("user", "list", folder) == ""


def test_secrets_are_for_the_server_alone(folder: Path) -> None:
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    for secret in (folder / "secrets").iterdir():
        assert secret.stat().st_mode & 0o777 == 0o600
    assert (folder / "state.db").stat().st_mode & 0o777 == 0o600


def test_wrong_words_are_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    refused(2, "user", "add", folder, "--password-stdin")
    refused(2, "packages", "list")
    refused(30, "packages", "list", tmp_path)
    refused(30, "packages", "list", tmp_path / "nowhere")
    refused(30, "init", folder)
    refused(30, "init", "/proc/nowhere")
    refused(30, "user", "add", folder, "anna", "--password-stdin", stdin="\n")
    refused(30, "user", "add", folder, "anna", "--password-stdin", stdin="p" * 2000)
    refused(30, "user", "add", folder, "../anna", "--password-stdin", stdin="secret\n")
    refused(30, "user", "add", folder, "a\nb", "--password-stdin", stdin="secret\n")
    refused(30, "user", "remove", folder, "x'; DROP TABLE account; --")
    refused(30, "group", "join", folder, "nobody", "nowhere")
    refused(30, "trust", "add", folder, "no key")
    refused(30, "trust", "remove", folder, "00" * 32)
    refused(30, "import", folder, tmp_path / "missing.ovp")
    refused(30, "import", folder, tmp_path)
    refused(30, "packages", "remove", folder, "nothing")
    good("group", "add", folder, "twice")
    refused(32, "group", "add", folder, "twice")
    refused(30, "entitle", folder, "NOT A NAME", "twice")


def test_addresses_and_certificates_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    assert "--no-tls" in refused(33, "serve", folder, "--listen", "0.0.0.0:0")
    refused(33, "serve", folder, "--listen", "nonsense")
    refused(33, "serve", folder, "--listen", "192.0.2.1:0", "--no-tls")
    refused(33, "serve", folder, "--certificate", tmp_path / "c.pem")
    (tmp_path / "c.pem").write_text("no certificate")
    refused(33, "serve", folder, "--certificate", tmp_path / "c.pem", "--key", tmp_path / "c.pem")
    refused(33, "serve", folder, "--certificate", tmp_path / "missing", "--key", tmp_path / "c.pem")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(33, "serve", folder, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert "address already in use" in said
    with serving(folder):
        assert "another server" in refused(33, "serve", folder, "--listen", "127.0.0.1:0")


def test_damaged_state_is_named(folder: Path) -> None:
    shutil.copy(folder / "state.db", folder / "good.db")
    (folder / "state.db").write_bytes(b"this is no database " * 1000)
    assert "damaged" in refused(30, "packages", "list", folder)
    assert "damaged" in refused(30, "serve", folder)
    shutil.copy(folder / "good.db", folder / "state.db")
    with sqlite3.connect(folder / "state.db") as newer:
        (version,) = newer.execute("PRAGMA user_version").fetchone()
        newer.execute("PRAGMA user_version = 999")
    newer.close()
    assert "newer" in refused(30, "packages", "list", folder)
    with sqlite3.connect(folder / "state.db") as newer:
        newer.execute(f"PRAGMA user_version = {version}")
    newer.close()
    (folder / "secrets" / "signing.key").write_bytes(b"short")
    assert "key is damaged" in refused(30, "serve", folder)


def test_a_bad_package_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": b"s" * 300_000}, kind="runtime")
    content = base.path.read_bytes()
    bad = tmp_path / "bad.ovp"
    for damage in (content[:-1], content[:400], content + b"x", b"", b"not a package" * 100):
        bad.write_bytes(damage)
        refused(10, "import", folder, bad)
    for position in (3, 100, len(content) // 3, len(content) - 5):
        bad.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert streamserver("import", folder, bad).returncode in (10, 11, 12, 13)
    stranger = build_package(tmp_path, "other", {"a": b"b"}, seed=STRANGER_SEED)
    assert "trust add" in refused(31, "import", folder, stranger.path)
    orphan = build_package(tmp_path, "orphan", {"a": b"b"}, requires_ids=[b"\7" * 32])
    assert (b"\7" * 32).hex() in refused(32, "import", folder, orphan.path)
    future = build_package(tmp_path, "future", {"a": b"b"}, feature_level=999)
    refused(13, "import", folder, future.path)
    good("import", folder, base.path)
    again = build_package(tmp_path, "base", {"bin/sh": b"other"}, kind="runtime")
    assert "exists with another id" in refused(32, "import", folder, again.path)
    kind = build_package(tmp_path, "base", {"bin/sh": b"other"}, version="2")
    assert "runtime" in refused(32, "import", folder, kind.path)
    assert [path.name for path in (folder / "objects").iterdir()] == [hashlib.sha256(content).hexdigest()]


def test_one_flipped_byte_in_the_store_is_found_and_healed_by_importing_again(
    folder: Path, tmp_path: Path
) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": os.urandom(300_000)}, kind="runtime")
    good("import", folder, base.path)
    assert good("check", folder) == "base 1: good\n"
    (stored,) = (folder / "objects").iterdir()
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    assert "base 1 is damaged" in refused(30, "check", folder)
    good("import", folder, base.path)
    good("check", folder)


def test_what_an_interrupted_import_left_goes_at_the_next_start(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": b"s"}, kind="runtime")
    good("import", folder, base.path)
    (folder / "objects" / ".arriving-0123").write_bytes(b"half")
    (folder / "objects" / ("0" * 64)).write_bytes(b"renamed, never committed")
    with serving(folder):
        assert len(list((folder / "objects").iterdir())) == 1
    good("check", folder)


def test_an_import_killed_at_any_moment_is_there_or_not(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": os.urandom(8_000_000)}, kind="runtime")
    for step in range(5):
        process = subprocess.Popen(
            [*PROGRAM, "import", str(folder), str(base.path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.25 + 0.12 * step)
        process.kill()
        process.wait(10)
        with serving(folder):
            assert len(list((folder / "objects").iterdir())) == len(imported(folder))
        good("check", folder)
        if imported(folder):
            good("packages", "remove", folder, "base")
    good("import", folder, base.path)


def test_a_dropped_package_is_published_and_a_bad_one_moved_away_with_the_reason(
    folder: Path, tmp_path: Path
) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": os.urandom(200_000)}, kind="runtime")
    editor = build_package(tmp_path, "editor", {"bin/editor": b"e"}, requires=[base])
    incoming, rejected = folder / "incoming", folder / "rejected"
    with serving(folder):
        shutil.copy(editor.path, incoming)  # what stands on it first
        shutil.copy(base.path, incoming)
        eventually(lambda: imported(folder) == ["base 1", "editor 1"])
        eventually(lambda: list(incoming.iterdir()) == [])
        for turn in ("bad.ovp", "bad.ovp.2"):
            (incoming / "bad.ovp").write_bytes(base.path.read_bytes()[:-3] + b"abc")
            eventually((rejected / turn).exists)
            assert "damaged" in (rejected / f"{turn}.reason.txt").read_text()
        (incoming / "link.ovp").symlink_to("/etc/passwd")
        eventually(lambda: (rejected / "link.ovp").is_symlink())
        shutil.copy(base.path, incoming / ".hidden")
        orphan = build_package(tmp_path, "orphan", {"a": b"b"}, requires_ids=[b"\7" * 32])
        shutil.copy(orphan.path, incoming)
        eventually((rejected / "orphan_1.ovp").exists)
        assert (b"\7" * 32).hex() in (rejected / "orphan_1.ovp.reason.txt").read_text()
        assert imported(folder) == ["base 1", "editor 1"]
        assert [path.name for path in incoming.iterdir()] == [".hidden"]


def test_a_file_still_being_copied_is_not_taken(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"bin/sh": os.urandom(200_000)}, kind="runtime")
    content = base.path.read_bytes()
    target = folder / "incoming" / "base.ovp"
    with serving(folder):
        with target.open("wb") as file:  # open all the time, with pauses longer than quiet and patience
            for start in range(0, len(content), len(content) // 3 + 1):
                file.write(content[start : start + len(content) // 3 + 1])
                file.flush()
                time.sleep(1.5)
        eventually(lambda: imported(folder) == ["base 1"])
        good("packages", "remove", folder, "base")
        for start in range(0, len(content), len(content) // 3 + 1):  # closed between pieces
            with target.open("ab") as file:
                file.write(content[start : start + len(content) // 3 + 1])
            time.sleep(0.8)
        eventually(lambda: imported(folder) == ["base 1"])
        target.write_bytes(content[:-10])  # and one that never gets longer
        eventually((folder / "rejected" / "base.ovp").exists)
        assert "cut short" in (folder / "rejected" / "base.ovp.reason.txt").read_text()


def test_a_request_under_way_is_finished_before_the_server_stops(folder: Path, tmp_path: Path) -> None:
    base = build_package(tmp_path, "base", {"big": os.urandom(30_000_000)}, kind="runtime", level=1)
    editor = build_package(tmp_path, "editor", {"bin/editor": b"e"}, requires=[base])
    good("import", folder, base.path, editor.path)
    good("user", "add", folder, "anna", "--password-stdin", stdin="secret\n")
    good("group", "add", folder, "writers")
    good("group", "join", folder, "writers", "anna")
    good("entitle", folder, "editor", "writers")
    with serving(folder) as (url, process):
        token = post(f"{url}/v1/login", {"user": "anna", "password": "secret"})["token"]
        told = post(f"{url}/v1/pointers", {"version_ids": [base.version_id.hex()]}, str(token))
        pointers = told["pointers"]
        assert isinstance(pointers, list)
        with urllib.request.urlopen(url + pointers[0]["url"], timeout=20) as reply:
            got = reply.read(1000)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            got += reply.read()
        assert got == base.path.read_bytes()
    log = (folder.parent / "log.txt").read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["path"] for line in lines if line["user"] == "anna"] == ["/v1/login", "/v1/pointers"]
    assert lines[-1]["bytes"] == len(got)
    assert "secret" not in log
    assert str(token) not in log
    assert "c=" not in log


def post(url: str, value: object, token: str = "") -> dict[str, object]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(value).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        told: dict[str, object] = json.load(reply)
        return told


def test_commands_work_while_the_server_runs(folder: Path, tmp_path: Path) -> None:
    with serving(folder) as (url, _):
        good("user", "add", folder, "anna", "--password-stdin", stdin="secret\n")
        assert post(f"{url}/v1/login", {"user": "anna", "password": "secret"})["token"]
        good("user", "password", folder, "anna", "--password-stdin", stdin="other\n")
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(f"{url}/v1/login", {"user": "anna", "password": "secret"})
        assert caught.value.code == 401
        caught.value.close()


def test_a_self_signed_server_speaks_tls_by_itself(tmp_path: Path) -> None:
    told = json.loads(good("init", tmp_path / "s", "--self-signed", "localhost", "127.0.0.1", "--json"))
    assert len(told["certificate_sha256"].split(":")) == 32
    with serving(tmp_path / "s") as (url, _):
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=told["certificate"])
        with urllib.request.urlopen(f"{url}/v1/health", timeout=10, context=context) as reply:
            assert reply.status == 200
        der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", int(url.rsplit(":", 1)[1]))))
        assert hashlib.sha256(der).hexdigest().upper() == told["certificate_sha256"].replace(":", "")
    with serving(tmp_path / "s", "--no-tls") as (url, _):
        assert url.startswith("http://")


def test_a_full_disk_is_one_clear_line_and_no_half_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    try:
        good("init", disk / "s")
        good("trust", "add", disk / "s", PUBLISHER.hex())
        big = build_package(tmp_path, "big", {"big": os.urandom(3_000_000)})
        assert "space" in refused(30, "import", disk / "s", big.path)
        assert list((disk / "s" / "objects").iterdir()) == []
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (disk / "filler").write_bytes(b"x" * 4_000_000)
        assert "space" in refused(30, "group", "add", disk / "s", "writers")
        (disk / "filler").unlink()
        good("group", "add", disk / "s", "writers")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(30, "group", "add", disk / "s", "others")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_password_over_plain_http_from_another_machine_is_refused(folder: Path) -> None:
    good("user", "add", folder, "anna", "--password-stdin", stdin="secret\n")
    # An address of this machine that is not loopback stands for another machine: its own dummy interface.
    name = f"ms{os.getpid() % 100000}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ["ip", "netns", "exec", name]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        subprocess.run([*inside, "ip", "addr", "add", "198.18.0.9/32", "dev", "lo"], check=True)
        command = [*PROGRAM, "serve", str(folder), "--listen", "198.18.0.9:8470", "--no-tls"]
        script = (
            "import json,subprocess,sys,urllib.request,urllib.error\n"
            f"p=subprocess.Popen({command!r},"
            "stdout=subprocess.PIPE,stderr=subprocess.DEVNULL)\n"
            "p.stdout.readline()\n"
            "r=urllib.request.Request('http://198.18.0.9:8470/v1/login',"
            "json.dumps({'user':'anna','password':'secret'}).encode())\n"
            "try: print(urllib.request.urlopen(r).status)\n"
            "except urllib.error.HTTPError as e: print(e.code, json.load(e)['error'])\n"
            "p.terminate(); p.wait()\n"
        )
        done = subprocess.run(
            [*inside, sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == "403 password_needs_tls", done.stderr
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
