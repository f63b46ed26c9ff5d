"""What a hostile or unlucky administrator, disk or client does to `streamserver`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packageformat.keytext import private_text, public_text
from tests.packages import PUBLISHER, PUBLISHER_SEED
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
    finished = process.wait() == 0
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
