"""Running what is published: streaming, the agent's life, the cache, the start menu."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appclient import wire
from packageformat.application import Application
from packageformat.package import PackageParser, Section
from tests.packages import build_package
from tests.system.appclient_stage import (
    ClientStage,
    client_stage,
    kill,
    little_runtime,
    noise,
    probe_files,
    wait_until,
)

LARGE = "/usr/share/probe/large"
READ_ALL = "cd /usr/share/probe && sha256sum large small/*"


def true_sums() -> dict[str, str]:
    prefix = "usr/share/probe/"
    return {
        path.removeprefix(prefix): hashlib.sha256(content).hexdigest()
        for path, content in probe_files().items()
        if path.startswith(prefix) and isinstance(content, bytes)
    }


def sums(output: str) -> dict[str, str]:
    return {name: digest for digest, name in (line.split() for line in output.splitlines())}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientStage]:
    folder = tmp_path_factory.mktemp("run")
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    with client_stage(folder) as made:
        yield made


@pytest.fixture(autouse=True)
def signed_in(stage: ClientStage) -> Iterator[None]:
    stage.forget()
    if stage.server.process is None:
        stage.server.start()
    stage.login()
    yield
    stage.user.end_processes()


def test_an_application_streams_and_its_files_are_right(stage: ClientStage) -> None:
    assert sums(stage.script(READ_ALL)) == true_sums()
    tally = stage.tally()
    assert tally["faults_served"] > 0
    assert tally["blocks_fetched"] > 100
    assert tally["bytes_received"] > 6 << 20


def test_the_exit_code_is_the_applications(stage: ClientStage) -> None:
    stage.script("exit 7", code=7)
    stage.script("kill -TERM $$", code=143)


def test_files_named_on_the_command_line_are_opened(stage: ClientStage) -> None:
    note = stage.user.home / "a note; with $signs.txt"
    note.write_text("remember\n")
    done = stage.client("run", "the probe", note)
    assert done.stdout == "probe:1\nremember\n"
    assert stage.client("run", "org.example.Probe").stdout == "probe:0\n"
    stage.client("run", "probe", "/no/such/file", code=53)


def test_an_application_that_is_not_published_is_refused(stage: ClientStage) -> None:
    assert "painter" in stage.client("run", "painter", code=43).stderr


def test_changes_stay_until_reset(stage: ClientStage) -> None:
    stage.script("echo mine > /usr/share/probe/mine; rm /usr/share/probe/small/1; echo set > ~/.setting")
    assert stage.script("cat /usr/share/probe/mine ~/.setting") == "mine\nset\n"
    stage.client("reset", "probe", stdin="no\n", code=2)
    stage.client("reset", "probe", "--yes")
    stage.script("test ! -e /usr/share/probe/mine && test -e /usr/share/probe/small/1")
    assert stage.script("cat ~/.setting") == "set\n"
    stage.client("reset", "probe", "--yes", "--home")
    stage.script("test ! -e ~/.setting")


def test_a_home_is_not_handed_to_a_package_of_the_same_name_from_elsewhere(stage: ClientStage) -> None:
    stage.script("echo secret > ~/.setting")
    stage.user.end_processes()
    homes = stage.user.home / ".local/state/millstream/homes"
    (homes / ".owners/probe").write_text("0" * 64)  # the first was of another server or publisher
    script = "test ! -e ~/.setting && echo own > ~/.own"
    told = stage.client("run", "probe", "--command", "/bin/sh", "--", "-c", script).stderr
    assert "empty home of its own" in told
    assert stage.script("cat ~/.own") == "own\n"
    stage.client("reset", "probe", "--yes", "--home")
    assert (homes / "probe/.setting").read_text() == "secret\n"
    assert not list(homes.glob("probe@*"))


def test_reset_is_refused_while_the_application_runs(stage: ClientStage) -> None:
    running = stage.user.start(
        stage.user.program(
            "appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", "echo up; sleep 60"
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "up\n"
    assert "running" in stage.client("reset", "probe", "--yes", code=54).stderr
    assert "running" in stage.client("remove", "--yes", code=54).stderr
    stage.client("cache", "clean", "--all")
    assert stage.script("head -c 3 /usr/bin/probe") == "#!/"
    running.terminate()
    running.wait(20)
    running.stdout.close()


def test_reset_does_not_touch_an_application_that_is_being_started(stage: ClientStage) -> None:
    stage.script("echo mine > /usr/share/probe/mine")
    folder = next((stage.user.home / ".local/state/millstream/bubbles").iterdir())
    wait_until(lambda: "running" not in stage.client("reset", "probe", stdin="no\n", code=None).stderr)
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a start does
        began = time.monotonic()
        resetting = stage.user.start(
            stage.user.program("appclient", "reset", "probe", "--yes"), stderr=subprocess.PIPE, text=True
        )
        while resetting.poll() is None:
            asked = time.monotonic()
            stage.status()
            assert time.monotonic() - asked < 1.5  # the agent does not wait for the lock
        assert resetting.returncode == 54
        assert "running" in resetting.stderr.read()
        resetting.stderr.close()
        assert time.monotonic() - began < 10
    inode = (folder / "lock").stat().st_ino
    assert stage.script("cat /usr/share/probe/mine") == "mine\n"
    stage.client("reset", "probe", "--yes")
    assert (folder / "lock").stat().st_ino == inode
    stage.script("test ! -e /usr/share/probe/mine")


def test_an_agent_that_hangs_is_told_within_seconds_and_ended_by_stop(stage: ClientStage) -> None:
    (agent,) = stage.agents()
    os.kill(agent, signal.SIGSTOP)
    began = time.monotonic()
    assert f"process {agent}) said nothing" in stage.client("status", code=47).stderr
    assert time.monotonic() - began < 8
    stage.client("stop")
    assert time.monotonic() - began < 16
    assert stage.agents() == []
    assert stage.client("run", "probe").stdout == "probe:0\n"


def test_a_command_that_waits_hears_that_the_agent_lives(stage: ClientStage) -> None:
    assert stage.server.process is not None
    stage.server.process.send_signal(signal.SIGSTOP)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(9)
            link.connect(str(stage.user.runtime / "millstream/agent.sock"))
            link.sendall(wire.encode(wire.Message("refresh")))
            size = wire.length_of(link.recv(wire.LENGTH_SIZE, socket.MSG_WAITALL))
            assert wire.decode(link.recv(size, socket.MSG_WAITALL)).kind == "working"
    finally:
        stage.server.process.send_signal(signal.SIGCONT)


def test_offline_what_is_cached_still_runs(stage: ClientStage) -> None:
    stage.script(READ_ALL)
    stage.client("stop")
    stage.server.stop()
    assert sums(stage.script(READ_ALL)) == true_sums()


def test_a_server_that_goes_away_is_told_and_reads_resume_when_it_is_back(stage: ClientStage) -> None:
    stage.client("stop")
    patience = {"MILLSTREAM_PATIENCE": "3"}
    assert stage.client("run", "probe", "--command", "/bin/sh", "--", "-c", "id", **patience).returncode == 0
    stage.server.stop()
    began = time.monotonic()
    stage.script(f"cat {LARGE} > /dev/null", code=1)
    assert time.monotonic() - began < 20
    assert "cannot be reached" in stage.status()["trouble"]
    stage.server.start()
    assert sums(stage.script(READ_ALL)) == true_sums()
    assert stage.status()["trouble"] == ""


def test_a_reader_waits_for_a_server_that_comes_back(stage: ClientStage) -> None:
    stage.script("id")
    stage.server.stop()
    reading = stage.user.start(
        stage.user.program("appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", READ_ALL),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: stage.status()["trouble"], what="the trouble is told")
    stage.server.start()
    output, _ = reading.communicate(timeout=60)
    assert sums(output) == true_sums()


def test_agents_killed_at_random_moments_do_no_harm(stage: ClientStage) -> None:
    moments = random.Random(5)
    for _ in range(5):
        stage.client("cache", "clean", "--all")
        reading = stage.user.start(
            stage.user.program("appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", READ_ALL),
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(moments.uniform(0.3, 1.5))
        for agent in stage.agents():
            kill(agent)
        output, _ = reading.communicate(timeout=60)
        assert sums(output) == true_sums()  # the view has started another agent
        assert sums(stage.script(READ_ALL)) == true_sums()
        assert len(stage.agents()) <= 1
        assert json.loads(stage.client("cache", "verify", "--json").stdout)["damaged_count"] == 0


def test_commands_that_start_at_once_share_one_agent(stage: ClientStage) -> None:
    stage.client("stop")
    assert stage.agents() == []
    commands = [
        stage.user.start(stage.user.program("appclient", "cache", "list"), stdout=subprocess.DEVNULL)
        for _ in range(6)
    ]
    assert [command.wait(60) for command in commands] == [0] * 6
    wait_until(lambda: len(stage.agents()) == 1, what="one agent is left")


def test_an_idle_agent_ends_itself(stage: ClientStage) -> None:
    stage.client("stop")
    stage.client("refresh", MILLSTREAM_IDLE="1")
    wait_until(lambda: not stage.agents(), what="the agent ends")


def test_a_flipped_byte_in_the_cache_is_never_served_and_heals(stage: ClientStage) -> None:
    stage.script(READ_ALL)
    stage.user.end_processes()
    for place in sorted((stage.cache / "files").glob("??/*")):
        damage(place, 100)
    assert sums(stage.script(READ_ALL)) == true_sums()
    assert stage.tally()["damaged"] > 0
    assert "damaged in the cache" in stage.agent_log()


def test_cache_verify_names_and_drops_what_is_damaged(stage: ClientStage) -> None:
    stage.script(READ_ALL)
    large = max((stage.cache / "files").glob("??/*"), key=lambda place: place.stat().st_size)
    damage(large, 3 * 65536 + 5)
    damage(large, 9 * 65536 + 5)
    found = json.loads(stage.client("cache", "verify", "--json", code=11).stdout)
    assert [name.split(" of ")[0] for name in found["damaged"]] == ["block 3", "block 9"]
    assert "/usr/share/probe/large in probe 1" in found["damaged"][0]
    assert json.loads(stage.client("cache", "verify", "--json").stdout)["damaged_count"] == 0
    assert sums(stage.script(READ_ALL)) == true_sums()


def test_a_package_damaged_at_the_server_is_named_and_never_served(stage: ClientStage) -> None:
    stored = next(path for path in stage.server.folder.rglob("*") if is_package(path, "probe"))
    good = stored.read_bytes()
    frame, offset = frame_of_large(good, block=40)
    mode = stored.stat().st_mode
    stored.chmod(0o600)
    try:
        with stored.open("r+b") as file:
            file.seek(offset + 7)
            file.write(bytes([good[offset + 7] ^ 1]))
        stage.script(f"cat {LARGE} > /dev/null", code=1)
        trouble = stage.status()["trouble"]
        assert "damaged" in trouble
        assert "/usr/share/probe/large" in trouble
        assert stage.tally()["corrupt"] >= 2  # asked again once, for each reader
        assert frame >= 0
    finally:
        stored.write_bytes(good)
        stored.chmod(mode)
    assert sums(stage.script(READ_ALL)) == true_sums()


def test_a_package_whose_head_is_damaged_at_the_server_is_refused(stage: ClientStage) -> None:
    stage.client("cache", "clean", "--all")
    stored = next(path for path in stage.server.folder.rglob("*") if is_package(path, "probe"))
    good = stored.read_bytes()
    parser = PackageParser(None)
    parser.feed(0, good)
    assert parser.package is not None
    mode = stored.stat().st_mode
    stored.chmod(0o600)
    try:
        for section in list(Section)[:-1]:
            bad = bytearray(good)
            bad[parser.package.header.sections[section].offset + 11] ^= 1
            stored.write_bytes(bad)
            refused = stage.client("run", "probe", code=None)
            assert "damaged" in refused.stderr or "signature" in refused.stderr, (section, refused.stderr)
            if section in (Section.BLOCK_IDS, Section.LAYOUT):  # they come behind the start
                assert refused.returncode == 53, (section, refused.stderr)
                stage.client("cache", "clean", "--all")
            else:
                assert 10 <= refused.returncode < 20, (section, refused.stderr)
                assert len(refused.stderr.splitlines()) == 1
                assert not list((stage.cache / "views").glob("*"))
    finally:
        stored.write_bytes(good)
        stored.chmod(mode)
    assert stage.client("run", "probe").stdout == "probe:0\n"


def test_cache_list_and_clean_know_what_is_needed(stage: ClientStage) -> None:
    stage.script(READ_ALL)
    listed = json.loads(stage.client("cache", "list", "--json").stdout)
    probe = next(item for item in listed["packages"] if item["package"] == "probe 1")
    assert probe["bytes_here"] == probe["bytes"]
    assert json.loads(stage.client("cache", "clean", "--json").stdout) == {
        "contents": 0, "bytes": 0, "packages": 0,
    }  # fmt: skip
    assert json.loads(stage.client("cache", "clean", "--all", "--json").stdout)["packages"] == 2
    assert sums(stage.script(READ_ALL)) == true_sums()


def test_a_new_version_takes_over_and_what_is_withdrawn_goes(stage: ClientStage, tmp_path: Path) -> None:
    entry = stage.user.home / ".local/share/applications/millstream-org.example.Probe.desktop"
    assert "Name=The Probe" in entry.read_text()
    stage.server.command("revoke", "probe", "everybody")
    assert json.loads(stage.client("refresh", "--json").stdout)["removed"] == ["org.example.Probe"]
    assert not entry.exists()
    assert not list((stage.user.home / ".local/share/icons").rglob("*.png"))
    stage.client("run", "probe", code=43)
    stage.server.command("entitle", "probe", "everybody")
    assert json.loads(stage.client("refresh", "--json").stdout)["added"] == ["org.example.Probe"]
    assert entry.exists()


def test_a_package_that_is_packed_anew_goes_on_streaming(stage: ClientStage, tmp_path: Path) -> None:
    base = build_package(tmp_path, "little", little_runtime(), kind="runtime")
    files = {"usr/share/anew/large": noise(b"anew", 1 << 20) + bytes(3 << 20), "usr/bin/anew": b"#!/bin/sh\n"}
    anew = Application(id="anew", name="Anew", command="anew")
    first = build_package(tmp_path, "anew", files, requires=[base], applications=[anew], level=1)
    stage.publish(first)
    stage.script("id", application="anew")
    second = build_package(tmp_path, "anew", files, requires=[base], applications=[anew], level=19)
    assert second.version_id == first.version_id
    stage.server.command("packages", "remove", "anew")
    stage.publish(second)
    stage.user.end_processes()  # the old head stays on disk, and its addresses are forgotten
    told = stage.script("sha256sum /usr/share/anew/large", application="anew").split()[0]
    content = files["usr/share/anew/large"]
    assert isinstance(content, bytes)
    assert told == hashlib.sha256(content).hexdigest()
    assert stage.tally("anew")["corrupt"] == 0
    packed = hashlib.sha256(second.path.read_bytes()).hexdigest()
    assert any(packed in read["path"] for read in stage.server.served())


def test_a_cache_that_cannot_be_written_is_told(stage: ClientStage) -> None:
    stage.user.end_processes()
    with mounted(stage.user.home / ".cache", "size=16k,mode=755", stage):
        assert "disk is full" in stage.client("run", "probe", code=46).stderr
    stage.user.end_processes()
    with mounted(stage.user.home / ".cache", "ro", stage):
        assert "not writable" in stage.client("run", "probe", code=46).stderr
    stage.user.end_processes()
    assert stage.client("run", "probe").stdout == "probe:0\n"


def test_a_disk_that_fills_up_while_streaming_is_told(stage: ClientStage) -> None:
    stage.user.end_processes()
    with mounted(stage.user.home / ".cache", "size=4m,mode=755", stage):
        stage.script(f"cat {LARGE} > /dev/null", code=1)
        assert "disk is full" in stage.status()["trouble"]
        assert json.loads(stage.client("cache", "verify", "--json").stdout)["damaged_count"] == 0
        stage.user.end_processes()


def test_a_machine_without_fuse_is_told(stage: ClientStage) -> None:
    hide = 'mount --bind /dev/null /dev/fuse && chmod 0666 /dev/fuse; exec "$@"'
    client = stage.user.program("appclient", "run", "probe")
    become = ["setpriv", f"--reuid={stage.user.uid}", f"--regid={stage.user.gid}", "--clear-groups", "--"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", *become, *client],
        env=stage.user.environment(), cwd=stage.user.home, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 51, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_machine_without_user_namespaces_is_told(stage: ClientStage) -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    client = stage.user.program("appclient", "run", "probe")
    done = stage.user.run(
        ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh", *client]
    )
    assert done.returncode == 50, done.stderr
    assert len(done.stderr.splitlines()) == 1


def damage(place: Path, offset: int) -> None:
    if place.stat().st_size <= offset:
        return
    with place.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x40]))


def is_package(path: Path, name: str) -> bool:
    if not path.is_file() or path.stat().st_size < 100_000:
        return False
    data = path.read_bytes()
    if not data.startswith(b"\x89OVP"):
        return False
    parser = PackageParser(None)
    parser.feed(0, data)
    return parser.package is not None and parser.package.manifest.name == name


def frame_of_large(data: bytes, block: int) -> tuple[int, int]:
    parser = PackageParser(None)
    parser.feed(0, data)
    package = parser.package
    assert package is not None
    entry = package.tree.find(b"usr/share/probe/large")
    assert entry is not None
    frame = package.layout.frame_of(package.tree.first_block(entry) + block)
    return frame, package.frame_extent(frame)[0]


class mounted:  # noqa: N801 - reads as a statement
    """A tmpfs over a folder of the user's."""

    def __init__(self, folder: Path, options: str, stage: ClientStage) -> None:
        self.folder, self.options, self.stage = folder, options, stage

    def __enter__(self) -> None:
        user = self.stage.user
        owner = f"uid={user.uid},gid={user.gid}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{owner},{self.options}", "tmpfs", self.folder], check=True
        )

    def __exit__(self, *_: object) -> None:
        self.stage.user.end_processes()
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def launchers(stage: ClientStage) -> list[int]:
    return stage.user.named("millstream launcher")


def has_launcher(stage: ClientStage) -> bool:
    socket_ = stage.user.runtime / "millstream/launcher.sock"
    return socket_.exists() and len(launchers(stage)) == 1


def test_a_start_goes_through_the_launcher_and_is_the_same(stage: ClientStage) -> None:
    stage.script("exit 0")
    wait_until(lambda: has_launcher(stage))
    assert stage.script("cat /proc/1/cmdline").strip("\0") == "bubble.keeper"
    stage.script("exit 7", code=7)
    stage.script("kill -TERM $$", code=143)
    note = stage.user.home / "a note.txt"
    note.write_text("noted\n")
    os.chown(note, stage.user.uid, stage.user.gid)
    assert stage.client("run", "probe", "a note.txt").stdout == "probe:1\nnoted\n"
    unknown = stage.client("run", "nothing", code=43).stderr
    assert unknown == stage.client("run", "nothing", code=43, MILLSTREAM_DEBUG="1").stderr
    wrong = stage.client("run", "--wrong", "probe", code=2).stderr
    assert wrong == stage.client("run", "--wrong", "probe", code=2, MILLSTREAM_DEBUG="1").stderr
    missing = stage.client("run", "probe", "--command", "nowhere", code=53).stderr
    assert "there is no command 'nowhere'" in missing


def test_without_its_launcher_or_its_agent_an_application_runs_on_and_the_next_starts(
    stage: ClientStage,
) -> None:
    stage.script("exit 0")
    wait_until(lambda: has_launcher(stage))
    reading = f"for each in 1 2 3 4 5 6; do sleep 1; sha256sum {LARGE}; done"
    running = stage.user.start(
        stage.user.program("appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", reading),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: (stage.user.runtime / "millstream").is_dir())
    time.sleep(1)
    kill(launchers(stage)[0])
    stage.script("exit 3", code=3)
    for process in (*stage.agents(), *launchers(stage)):
        kill(process)
    stage.script("exit 4", code=4)
    wait_until(lambda: has_launcher(stage), 30)
    assert len(stage.agents()) == 1
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert {line.split()[0] for line in out.splitlines()} == {true_sums()["large"]}


def test_a_launcher_ends_with_its_agent(stage: ClientStage) -> None:
    stage.script("exit 0")
    wait_until(lambda: has_launcher(stage))
    for agent in stage.agents():
        kill(agent)
    wait_until(lambda: not launchers(stage))
