"""A bubble's files: what an application reads, writes and runs, on real mounts, as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from bubble.view import ALL_PAGES
from packageformat.entry import Kind
from packageformat.limits import BLOCK_SIZE
from tests.accounts import Account, demonstration_account
from tests.smallbubble import Bubble, Built, Layer, Stand, small_system, stand

BIG = b"".join(sha256(str(n).encode()).digest() for n in range(BLOCK_SIZE * 5 // 32)) + b"tail"


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with demonstration_account() as user:
        yield user


@pytest.fixture(scope="module")
def system() -> Built:
    return small_system().build()


@pytest.fixture
def place(account: Account) -> Iterator[Stand]:
    with stand(account) as made:
        yield made


def application(version: str = "1") -> Built:
    layer = Layer()
    layer.file("opt/app/big", BIG)
    layer.file("opt/app/version", f"version {version}\n".encode())
    layer.file("opt/app/script", b"#!/bin/sh\necho running $1\n", 0o755)
    layer.file("opt/app/setid", b"#!/bin/sh\n", 0o4755)
    layer.link("opt/app/name", "opt/app/big", Kind.HARDLINK)
    layer.link("opt/app/link", "script")
    layer.file("usr/lib/libversion.so", f"library {version}\n".encode())
    layer.file("etc/app.conf", b"key=packaged\n", mtime_ns=1_600_000_000_000_000_000)
    return layer.build()


@pytest.fixture
def bubble(place: Stand, system: Built) -> Iterator[Bubble]:
    made = place.bubble([system, application()])
    with made.supplied():
        yield made


def said(bubble: Bubble, script: str, **how: str) -> str:
    """Run a script in the bubble's shell and return what it printed; it must succeed."""
    done = bubble.run("sh", "-c", script, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ended(bubble: Bubble, seconds: float = 10) -> bool:
    """Return whether the bubble goes away: no process of the user but suppliers, no runtime folder."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(bubble.spec.runtime.iterdir()) and not (bubble.spec.state / "running.json").exists():
            return True
        time.sleep(0.02)
    return False


def mounts_of(bubble: Bubble) -> list[str]:
    """Return the mounts of this machine's own namespace that belong to the bubble."""
    text = Path("/proc/self/mountinfo").read_text()
    return [line for line in text.splitlines() if str(bubble.spec.runtime) in line]


def test_every_byte_reads_back_equal(bubble):
    script = (
        "sha256sum /opt/app/big /opt/app/name /usr/bin/python3.11 | while read sum name; do echo $sum; done"
    )
    sums = said(bubble, script).split()
    big = sha256(BIG).hexdigest()
    python = sha256(Path("/usr/bin/python3.11").read_bytes()).hexdigest()
    assert sums == [big, big, python]


def test_programs_and_libraries_run_from_the_view_by_exec_and_mmap(bubble):
    assert said(bubble, "/opt/app/script now; /opt/app/link too") == "running now\nrunning too\n"
    code = (
        "import mmap, hashlib, ssl\n"
        "f = open('/opt/app/big', 'rb')\n"
        "print(hashlib.sha256(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)).hexdigest())\n"
    )
    assert bubble.run("python3", "-c", code).stdout.strip() == sha256(BIG).hexdigest()


def test_entries_show_the_user_and_no_set_id_bits(bubble, account):
    out = said(bubble, "stat -c '%u %g %a %h %Y' /opt/app/setid /opt/app/big /etc/app.conf /usr")
    lines = [line.split() for line in out.splitlines()]
    assert {(uid, gid) for uid, gid, *_ in lines} == {(str(account.uid), str(account.gid))}
    assert [line[2] for line in lines] == ["755", "644", "644", "755"]
    assert lines[1][3] == "2"
    assert lines[2][4] == "1600000000"


def test_writes_go_to_the_upper_alone_and_stay(bubble):
    said(
        bubble,
        "echo mine > /etc/app.conf; echo more >> /opt/app/version; rm /opt/app/script; mkdir /usr/new; "
        "echo x > /usr/new/file; mv /usr/new/file /usr/new/renamed; chmod 700 /usr/lib/libversion.so",
    )
    assert ended(bubble)
    out = said(
        bubble,
        "cat /etc/app.conf /opt/app/version /usr/new/renamed; test -e /opt/app/script || echo gone; "
        "stat -c %a /usr/lib/libversion.so; cat /usr/lib/libversion.so",
    )
    assert out == "mine\nversion 1\nmore\nx\ngone\n700\nlibrary 1\n"
    upper = bubble.spec.state / "upper"
    assert (upper / "etc/app.conf").read_text() == "mine\n"
    assert (upper / "usr/new/renamed").read_text() == "x\n"


def test_a_removed_folder_that_is_made_anew_is_empty(bubble):
    said(bubble, "rm -r /opt/app && mkdir /opt/app && touch /opt/app/only")
    assert ended(bubble)
    assert said(bubble, "ls /opt/app") == "only\n"


def test_upper_layers_hide_replace_and_join(place, system):
    base = Layer()
    base.file("opt/a/kept", b"kept\n")
    base.file("opt/a/hidden", b"hidden\n")
    base.file("opt/b/below", b"below\n")
    base.file("opt/c", b"a file\n")
    top = Layer()
    top.whiteout("opt/a/hidden")
    top.file("opt/a/added", b"added\n")
    top.folder("opt/b", opaque=True)
    top.file("opt/b/above", b"above\n")
    top.folder("opt/c")
    bubble = place.bubble([system, base.build(), top.build()])
    with bubble.supplied():
        out = said(
            bubble, "ls /opt/a /opt/b /opt/c; cat /opt/a/*; cat /opt/a/hidden 2>/dev/null || echo none"
        )
    assert out == "/opt/a:\nadded\nkept\n\n/opt/b:\nabove\n\n/opt/c:\nadded\nkept\nnone\n"


def test_two_bubbles_with_two_versions_of_one_library_run_at_once(place, system):
    first = place.bubble([system, application("1")], package="one")
    second = place.bubble([system, application("2")], package="two")
    with first.supplied(), second.supplied():
        keep = "cat /usr/lib/libversion.so; read line; cat /opt/app/version"
        runs = [
            made.start("sh", "-c", keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for made in (first, second)
        ]
        assert [run.stdout.readline() for run in runs] == [b"library 1\n", b"library 2\n"]
        assert [run.communicate(b"\n", timeout=30)[0] for run in runs] == [b"version 1\n", b"version 2\n"]
        assert ended(first) and ended(second)


def test_nothing_is_left_after_the_last_process(bubble, account):
    before = set(account.processes())
    said(bubble, "true")
    assert ended(bubble)
    end = time.monotonic() + 5
    while set(account.processes()) - before and time.monotonic() < end:
        time.sleep(0.02)
    assert set(account.processes()) == before
    assert mounts_of(bubble) == []
    assert {path.name for path in bubble.spec.state.iterdir()} == {
        "lock",
        "upper.lock",
        "upper",
        "work",
        "bubble.log",
        "view.json",
    }


def test_a_whole_cached_file_needs_no_supplier(place, system):
    bubble = place.bubble([system, application()])
    script = "sha256sum /opt/app/big"
    with bubble.supplied():
        first = said(bubble, script)
    assert ended(bubble)
    assert said(bubble, script) == first
    assert ended(bubble)
    assert json.loads((bubble.spec.state / "view.json").read_text())["waits"] == 0


def test_a_block_that_cannot_be_had_is_an_io_error_and_no_hang(place, system, tmp_path, account):
    offline = tmp_path / "unreachable"
    offline.write_bytes(BIG)
    layer = Layer()
    layer.file("opt/far", offline)
    bubble = place.bubble([system, layer.build()])
    with bubble.supplied("refuse=unreachable"):
        started = time.monotonic()
        done = bubble.run("cat", "/opt/far")
        assert done.returncode == 1
        assert "Input/output error" in done.stderr
        assert time.monotonic() - started < 20
    assert ended(bubble)
    assert "block 0 of /opt/far" in bubble.log()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    offline.chmod(0o644)
    with bubble.supplied():
        assert said(bubble, "sha256sum < /opt/far").split()[0] == sha256(BIG).hexdigest()


@pytest.mark.parametrize("where", [0, BLOCK_SIZE + 5, len(BIG) - 1])
def test_a_flipped_byte_in_the_cache_is_named_never_served_and_healed(bubble, where):
    assert said(bubble, "sha256sum < /opt/app/big").split()[0] == sha256(BIG).hexdigest()
    assert ended(bubble)
    cached = bubble.content_file("opt/app/big")
    damaged = bytearray(cached.read_bytes())
    damaged[where] ^= 0x40
    cached.write_bytes(damaged)
    assert said(bubble, "sha256sum < /opt/app/big").split()[0] == sha256(BIG).hexdigest()
    assert f"block {where // BLOCK_SIZE} of /opt/app/big" in bubble.log()
    assert "is damaged in the cache" in bubble.log()
    assert cached.read_bytes() == BIG


def test_a_supplier_that_only_brings_damage_is_not_believed(place, system):
    bubble = place.bubble([system, application()])
    with bubble.supplied():
        said(bubble, "cat /etc/issue")
    assert ended(bubble)
    with bubble.supplied("damage=1000"):
        done = bubble.run("cat", "/opt/app/version")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Input/output error" in done.stderr
    assert ended(bubble)
    assert "stays damaged" in bubble.log()
    with bubble.supplied():
        assert said(bubble, "cat /opt/app/version") == "version 1\n"


def test_a_supplier_killed_in_the_middle_is_started_again_and_the_read_goes_on(place, system):
    made = place.bubble([system, application()])
    with made.supplied():
        said(made, "true; sha256sum /etc/issue")
    assert ended(made)
    restart = tuple(made.supplier_argv("delay=0.1"))
    made.spec = type(made.spec)(
        **{
            **{name: getattr(made.spec, name) for name in made.spec.__dataclass_fields__},
            "supplier_restart": restart,
        }
    )
    for _ in range(5):
        made.content_file("opt/app/big").unlink(missing_ok=True)
        supplier = made.start_supplier("delay=0.3")
        reader = made.start("sha256sum", "/opt/app/big", stdout=subprocess.PIPE)
        end = time.monotonic() + 20
        while not made.content_file("opt/app/big").exists() and time.monotonic() < end:
            time.sleep(0.005)
        supplier.kill()
        supplier.wait(10)
        out, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        assert out.split()[0].decode() == sha256(BIG).hexdigest()
        assert ended(made)
        made.stand.account.end_processes()


def test_a_reader_that_waits_can_be_killed(place, system):
    bubble = place.bubble([system, application()])
    with bubble.supplied():
        said(bubble, "sleep 0; cat /etc/issue")
    assert ended(bubble)
    with bubble.supplied("delay=600"):
        waiting = bubble.start("sleep", "0")  # cached: runs
        assert waiting.wait(30) == 0
        reader = bubble.start("cat", "/opt/app/big", stdout=subprocess.DEVNULL)
        time.sleep(1.5)
        assert reader.poll() is None
        reader.terminate()
        assert reader.wait(10) == 143
        assert ended(bubble)


def test_a_signal_that_kills_nobody_does_not_break_a_waiting_read(place, system):
    bubble = place.bubble([system, application()])
    code = (
        "import signal, hashlib, mmap\n"
        "count = 0\n"
        "def tick(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGALRM, tick)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"
        "f = open('/opt/app/big', 'rb')\n"
        "data = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
        "print(hashlib.sha256(data).hexdigest(), count > 0)\n"
    )
    with bubble.supplied():
        said(bubble, "python3 -c 'import signal, hashlib, mmap'")
    assert ended(bubble)
    with bubble.supplied("delay=0.4"):
        done = bubble.run("python3", "-c", code)
    assert (done.returncode, done.stdout.split()) == (0, [sha256(BIG).hexdigest(), "True"])


def test_readers_of_one_block_share_one_fetch(place, system, account):
    record = place.folder / "fetched"
    bubble = place.bubble([system, application()])
    with bubble.supplied(f"log={record}", "delay=0.2"):
        said(bubble, "for n in 1 2 3 4 5; do sha256sum /opt/app/big & done; wait")
    fetched: dict[tuple[str, str], int] = {}
    for layer, block, pages in map(str.split, record.read_text().splitlines()):
        wanted = int(pages) or ALL_PAGES
        assert wanted & ~fetched.get((layer, block), 0), "a block comes again only for further pages of it"
        fetched[layer, block] = fetched.get((layer, block), 0) | wanted


def test_a_damaged_view_image_is_one_clear_error(bubble):
    image = bytearray(bubble.spec.view_image.read_bytes())
    image[200] ^= 1
    bubble.spec.view_image.write_bytes(image)
    done = bubble.run("true")
    assert done.returncode == 53
    assert "view image that is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(bubble.spec.runtime) == []


def test_the_root_folder_and_what_is_mounted_there_cannot_be_turned_into_links(bubble):
    said(bubble, "mv /home /moved 2>/dev/null; true")
    assert ended(bubble)
    upper = bubble.spec.state / "upper"
    (upper / "media").symlink_to("/etc")
    done = bubble.run("true")
    assert done.returncode == 53
    assert "a link at /media" in done.stderr and "appclient reset" in done.stderr


def test_set_id_and_devices_do_not_work_inside(bubble):
    done = bubble.run(
        "sh",
        "-c",
        "cat /proc/self/mountinfo | while read a b c d where flags rest; do echo $where $flags; done",
    )
    flags = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "nosuid" in flags["/"] and "nodev" in flags["/"]
