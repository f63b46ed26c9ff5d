"""The sequencer, for real: captures over the Debian runtime in namespaces of subordinate ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from packageformat.tree import Kind, Tree
from sequencer.packagefile import open_package
from sequencer.subids import ranges_of
from tests.accounts import demonstration_account

HEAD = '[package]\nname = "small"\nversion = "1"\nbase = "debian-12"\n[build]\n'
LONG = 1_000_000 + os.getpid()  # seconds; ours, for other runs of the tests may sleep beside


@dataclass(frozen=True, slots=True)
class Bench:
    """A packager's place: a key, an output folder, a base, a cache that the tests of this file share."""

    folder: Path
    cache: Path
    base: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self.cache)}

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "sequencer", *map(str, words)]

    def run(self, *words: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def recipe(self, build: str, name: str = "small") -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text((HEAD + build).replace('"small"', f'"{name}"'))
        return path

    def build_arguments(self, recipe: Path) -> list[str | Path]:
        key = self.folder / "key"
        if not key.exists():
            assert self.run("keygen", key).returncode == 0
        return [
            "build",
            recipe,
            "--key",
            key,
            "--output",
            self.output,
            "--base",
            self.base,
            "--json",
            "--no-train",
        ]

    def build(self, recipe: Path) -> subprocess.CompletedProcess[str]:
        return self.run(*self.build_arguments(recipe))

    def captures(self) -> list[Path]:
        folder = self.cache / "millstream-sequencer" / "captures"
        return list(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bench(tmp_path: Path, cache: Path, packages: Callable[[str], Path]) -> Bench:
    return Bench(tmp_path, cache, packages("debian-12"))


def one_line(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    """Check that a command ended with `code` and one line that says all of `told`."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("sequencer: ")
    assert "Traceback" not in done.stderr
    for text in told:
        assert text in done.stderr


def node(tree: Tree, path: str) -> Any:
    index = tree.find(path.encode())
    assert index is not None, path
    return tree[index]


def processes_of_subordinate_ids() -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid >= 100_000:
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.timeout(900)  # the runtime is made first
def test_what_an_installation_leaves_is_the_layer_and_nothing_else(bench: Bench) -> None:
    done = bench.build(
        bench.recipe(
            '''commands = ["""
mkdir -p /opt/small/plugins; echo hi > /opt/small/a; ln /opt/small/a /opt/small/b; chown 33:44 /opt/small
ln -s a /opt/small/link; mkfifo /opt/small/pipe; printf x > /opt/small/secret; chmod 0 /opt/small/secret
cp /bin/true /opt/small/special; chmod 4755 /opt/small/special; touch -d @1000000000.5 /opt/small/plugins
rm /etc/motd; rm -r /usr/share/zoneinfo/Pacific; mkdir /usr/share/zoneinfo/Pacific
echo x > /usr/share/zoneinfo/Pacific/new; mkdir /usr/share/zoneinfo/Brandnew
cp -p /etc/issue /tmp/i; cat /tmp/i > /etc/issue; touch -r /tmp/i /etc/issue
echo x >> /etc/passwd; echo x > /var/log/small.log; echo x > /usr/share/kept; echo x > /usr/share/leftout
"""]
[exclude]
paths = ["usr/share/leftout"]
keep = ["var/log/small.log"]
'''
        )
    )
    assert done.returncode == 0, done.stderr
    tree = open_package(bench.output / "small_1.ovp").tree
    paths = set(tree.paths())
    assert node(tree, "opt/small").uid == 33
    assert node(tree, "opt/small").gid == 44
    assert node(tree, "opt/small/a").kind == Kind.FILE
    assert node(tree, "opt/small/b").kind == Kind.HARDLINK
    assert node(tree, "opt/small/link").target == b"a"
    assert node(tree, "opt/small/secret").mode == 0
    assert node(tree, "opt/small/special").mode == 0o4755
    assert node(tree, "opt/small/plugins").mtime_ns == 1_000_000_000_500_000_000
    assert node(tree, "etc/motd").kind == Kind.WHITEOUT
    assert node(tree, "usr/share/zoneinfo/Pacific").opaque
    assert not node(tree, "usr/share/zoneinfo/Brandnew").opaque
    assert not node(tree, "opt/small").opaque
    assert b"var/log/small.log" in paths
    gone = {b"opt/small/pipe", b"etc/issue", b"etc/passwd", b"usr/share/leftout", b"usr/sbin/policy-rc.d"}
    assert not paths & gone
    assert not any(path.startswith((b"tmp/", b"dev", b"proc", b"run", b"usr/sbin")) for path in paths)
    report = json.loads((bench.output / "small_1.report.json").read_text())
    findings = report["findings"]
    assert findings["special"] == ["opt/small/pipe"]
    assert findings["set_id"] == ["4755 opt/small/special"]
    assert findings["unchanged"] >= 1
    assert findings["whiteouts"] == ["etc/motd"]
    assert findings["opaque"] == ["usr/share/zoneinfo/Pacific"]
    assert "etc/passwd" in findings["excluded"]
    assert json.loads(done.stdout)["version_id"] == report["version_id"]
    assert bench.captures() == []


def test_an_installation_is_root_only_of_its_own_namespace(bench: Bench) -> None:
    marker = bench.folder / "marker"
    marker.write_text("the host's")
    done = bench.build(
        bench.recipe(
            f'''commands = ["""
id -u; cat /proc/self/uid_map; grep CapEff /proc/self/status; hostname
mknod /dev/disk b 8 0 && exit 3; mount -t tmpfs x /mnt && exit 4; chroot / true || exit 5
test -e {marker} && exit 6; test -e /dev/fuse && exit 7; test -e /root/.bashrc || exit 8
(exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null && exit 9
cat /proc/net/dev; echo x > /run/millstream/hosts && exit 10
test -r /proc/1/environ && cat /proc/1/environ && exit 11
true
"""]
'''
        )
    )
    assert done.returncode == 0, done.stderr
    log = (bench.output / "small.log").read_text()
    lines = [line.split() for line in log.splitlines()]
    assert ["0"] in lines
    outside = next(int(line[1]) for line in lines if len(line) == 3 and line[0] == "0" and line[2] == "65536")
    assert outside >= 100_000
    assert ["CapEff:", "00000000800401fb"] in lines
    assert "eth0" not in log


@pytest.mark.parametrize(
    ("build", "code", "told"),
    [
        ('commands = ["echo one; echo two; exit 7"]', 21, ("status 7", "one | two", "log")),
        (f'timeout_s = 2\ncommands = ["sleep {LONG} & sleep {LONG}"]', 22, ("within 2 s", f"sleep {LONG}")),
        ('commands = ["kill -9 $$"]', 21, ("status 137",)),
        ('timeout_s = 60\ncommands = ["apt-get update && apt-get install -y nosuch"]', 21, ("network",)),
    ],
    ids=["fails", "hangs", "is killed", "has no network"],
)
def test_an_installer_that_fails_leaves_one_line_and_its_log(
    bench: Bench, build: str, code: int, told: tuple[str, ...]
) -> None:
    done = bench.build(bench.recipe(build))
    one_line(done, code, *told)
    assert [path.name for path in bench.output.iterdir()] == ["small.log"]
    assert bench.captures() == []
    assert not any(f"sleep\x00{LONG}" in line for line in processes_of_subordinate_ids())


def _begun(bench: Bench) -> subprocess.Popen[str]:
    """Start a build that hangs, and return it when its command runs."""
    arguments = bench.build_arguments(bench.recipe(f'commands = ["sleep {LONG}"]'))
    process = subprocess.Popen(
        bench.command(*arguments),
        env=bench.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any(f"sleep\x00{LONG}" in line for line in processes_of_subordinate_ids()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


def test_ctrl_c_leaves_nothing_behind(bench: Bench) -> None:
    process = _begun(bench)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.count("\n") == 1
    assert bench.captures() == []
    assert not any(f"sleep\x00{LONG}" in line for line in processes_of_subordinate_ids())


def test_what_a_killed_sequencer_left_is_removed_by_the_next(bench: Bench) -> None:
    process = _begun(bench)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while any(f"sleep\x00{LONG}" in line for line in processes_of_subordinate_ids()):
        assert time.monotonic() < deadline  # the kernel ends the enclosure with its parent
        time.sleep(0.05)
    assert len(bench.captures()) == 1
    assert bench.build(bench.recipe('commands = ["echo x > /opt/x"]')).returncode == 0
    assert bench.captures() == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tiny", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_nothing_half_written(bench: Bench, tiny_disk: Path) -> None:
    recipe = bench.recipe('commands = ["head -c 500000 /dev/urandom > /opt/noise"]')
    arguments = bench.build_arguments(recipe)
    arguments[arguments.index(bench.output)] = tiny_disk
    one_line(bench.run(*arguments), 24, "No space left", "small_1.ovp")
    assert [path.name for path in tiny_disk.iterdir()] == ["small.log"]


def test_a_package_there_already_stays_whole_when_its_replacement_fails(
    bench: Bench, tiny_disk: Path
) -> None:
    arguments = bench.build_arguments(bench.recipe('commands = ["echo x > /opt/x"]'))
    arguments[arguments.index(bench.output)] = tiny_disk
    assert bench.run(*arguments).returncode == 0
    before = (tiny_disk / "small_1.ovp").read_bytes()
    bench.recipe('commands = ["head -c 500000 /dev/urandom > /opt/noise"]')
    assert bench.run(*arguments).returncode == 24
    assert (tiny_disk / "small_1.ovp").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (("debian-12", "debian-99"), 20, "not the runtime debian-99"),
        (('"small"', '"../small"'), 20, "package.name"),
        (("commands", "comands"), 20, "no key 'comands'"),
        (('"1"', '"1/2"'), 20, "package.version"),
    ],
)
def test_a_wrong_recipe_is_told_before_anything_runs(
    bench: Bench, change: tuple[str, str], code: int, told: str
) -> None:
    path = bench.recipe('commands = ["true"]')
    path.write_text(path.read_text().replace(*change))
    one_line(bench.build(path), code, told)
    assert not bench.output.exists()


def test_an_unknown_base_says_where_it_was_looked_for(bench: Bench) -> None:
    arguments = bench.build_arguments(bench.recipe('commands = ["true"]'))
    place = arguments.index("--base")
    arguments[place : place + 2] = ["--packages", bench.folder]
    one_line(bench.run(*arguments), 20, f"no package debian-12 in {bench.folder}", "--packages")


def test_a_key_open_to_others_is_refused(bench: Bench) -> None:
    arguments = bench.build_arguments(bench.recipe('commands = ["true"]'))
    (bench.folder / "key").chmod(0o644)
    one_line(bench.run(*arguments), 23, "open to others", "chmod 600")


def test_a_key_is_never_replaced(bench: Bench) -> None:
    assert bench.run("keygen", bench.folder / "mine").returncode == 0
    before = (bench.folder / "mine").read_text()
    assert (bench.folder / "mine").stat().st_mode & 0o777 == 0o600
    one_line(bench.run("keygen", bench.folder / "mine"), 23, "exists")
    assert (bench.folder / "mine").read_text() == before


def test_a_layer_on_a_layer_on_the_runtime_is_captured_and_runs(bench: Bench) -> None:
    """A runtime on a runtime: its files, its whiteouts and its folders are what the next one stands on."""
    middle = bench.recipe(
        'commands = ["""rm /etc/motd; mkdir /opt/middle; echo from the middle > /opt/middle/text; '
        'ln /opt/middle/text /opt/middle/other; rm -r /usr/share/zoneinfo/Pacific"""]\n',
        "middle",
    )
    middle.write_text(middle.read_text().replace("[build]", 'kind = "runtime"\n[build]'))
    assert bench.build(middle).returncode == 0
    top = bench.recipe(
        '''commands = ["""
test ! -e /etc/motd; test ! -e /usr/share/zoneinfo/Pacific; test /opt/middle/text -ef /opt/middle/other
printf '#!/bin/sh\\ncat /opt/middle/text; test -e /etc/motd && exit 3; exit 0\\n' > /usr/local/bin/hello
chmod 755 /usr/local/bin/hello
"""]
[[application]]
id = "hello"
name = "Hello"
command = "hello"
'''
    )
    top.write_text(top.read_text().replace('"debian-12"', '"middle"'))
    arguments = bench.build_arguments(top)
    place = arguments.index("--base")
    arguments[place : place + 2] = ["--base", bench.output / "middle_1.ovp", "--packages", bench.base.parent]
    done = bench.run(*arguments)
    assert done.returncode == 0, done.stderr
    package = open_package(bench.output / "small_1.ovp")
    assert len(package.manifest.requires) == 2
    verified = bench.run(
        "verify", "--json", bench.output / "small_1.ovp", "--packages", bench.base.parent, timeout=200
    )
    assert verified.returncode == 0, verified.stderr
    (hello,) = json.loads(verified.stdout)["applications"]
    assert hello["holds"]
    assert hello["told"] == "from the middle"


def test_one_flipped_byte_anywhere_is_named(bench: Bench) -> None:
    recipe = bench.recipe('commands = ["head -c 300000 /dev/urandom > /opt/noise"]')
    assert bench.build(recipe).returncode == 0
    path = bench.output / "small_1.ovp"
    whole = path.read_bytes()
    for place in (0, 100, 600, 1200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        done = bench.run("verify", "--no-run", path)
        assert done.returncode in (10, 11, 12, 13), (place, done.stderr)
        one_line(done, done.returncode)
    for size in (0, 100, 511, 512, len(whole) - 1):
        path.write_bytes(whole[:size])
        one_line(bench.run("verify", "--no-run", path), 10, str(path))
    path.write_bytes(whole)
    assert bench.run("verify", "--no-run", path).returncode == 0
    assert bench.run("keygen", bench.folder / "stranger").returncode == 0
    stranger = bench.folder / "stranger.pub"
    one_line(bench.run("verify", "--no-run", "--publisher", stranger, path), 12, "not trusted")


def test_an_application_that_does_not_run_is_named(bench: Bench) -> None:
    recipe = bench.recipe(
        """commands = [
    "printf '#!/bin/sh\\\\necho broken; exit 9\\\\n' > /usr/local/bin/x; chmod 755 /usr/local/bin/x",
]
[[application]]
id = "x"
name = "X"
command = "x"
"""
    )
    assert bench.build(recipe).returncode == 0
    done = bench.run("verify", bench.output / "small_1.ovp", "--packages", bench.base.parent)
    assert done.returncode == 53
    assert "x of" in done.stderr
    assert "exit code 9: broken" in done.stderr


def test_the_tree_and_the_manifest_are_shown(bench: Bench) -> None:
    assert bench.build(bench.recipe('commands = ["echo x > /opt/x; ln -s x /opt/y"]')).returncode == 0
    path = bench.output / "small_1.ovp"
    shown = bench.run("tree", path, "opt").stdout.splitlines()
    assert shown[0].endswith(" opt")
    assert shown[1].endswith(" opt/x")
    assert shown[2].endswith(" opt/y -> x")
    records = [json.loads(line) for line in bench.run("tree", "--json", path).stdout.splitlines()]
    assert {"opt/x", "opt/y"} <= {record["path"] for record in records}
    one_line(bench.run("tree", path, "../etc"), 2, "not a path")
    manifest = json.loads(bench.run("inspect", "--json", path).stdout)
    assert manifest["name"] == "small"
    assert "small 1: small" in bench.run("inspect", path).stdout
    one_line(bench.run("inspect", bench.folder / "none.ovp"), 24, "No such file")


@pytest.mark.timeout(600)
def test_an_ordinary_user_builds_too_and_one_without_subordinate_ids_is_told_how(
    bench: Bench,
) -> None:
    recipe = bench.recipe('commands = ["mkdir -m 700 /opt/x; echo x > /opt/x/y; chmod 0 /opt/x/y"]')
    with demonstration_account("millstream-seq") as user:
        own = user.home / "small.toml"
        own.write_text(recipe.read_text())
        base = user.home / bench.base.name
        base.write_bytes(bench.base.read_bytes())
        base.chmod(0o644)
        own.chmod(0o644)
        assert user.run(user.program("sequencer", "keygen", "key")).returncode == 0
        command = user.program(
            "sequencer", "build", "small.toml", "--key", "key", "--output", "out", "--base", str(base)
        )
        done = user.run(command, timeout=300)
        assert done.returncode == 0, done.stderr
        assert open_package(user.home / "out/small_1.ovp").tree.find(b"opt/x/y") is not None
        assert list((user.home / ".cache/millstream-sequencer/captures").iterdir()) == []
        (mine,) = ranges_of(Path("/etc/subuid").read_text(), [user.name])
        span = f"{mine.first}-{mine.first + mine.count - 1}"
        subprocess.run(
            ["usermod", "--del-subuids", span, "--del-subgids", span, user.name], check=True, timeout=30
        )
        refused = user.run(command)
        one_line(refused, 23, "no range", "usermod --add-subuids", user.name)


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("mkdir /opt/deep; cd /opt/deep; for i in $(seq 140); do mkdir d; cd d; done", "opt/deep/d/d"),
        ("truncate -s 2000G /opt/huge", "opt/huge"),
    ],
)
def test_what_no_package_can_hold_is_named(bench: Bench, command: str, path: str) -> None:
    one_line(bench.build(bench.recipe(f'commands = ["{command}"]')), 21, path, "[exclude]")
    assert not list(bench.output.glob("*.ovp"))


def test_an_installer_that_replaces_the_folder_of_services_is_captured(bench: Bench) -> None:
    command = "cp -a /usr/sbin /usr/s; rm -r /usr/sbin; mv /usr/s /usr/sbin; echo x > /usr/sbin/new"
    done = bench.build(bench.recipe(f'commands = ["{command}"]'))
    assert done.returncode == 0, done.stderr
    tree = open_package(bench.output / "small_1.ovp").tree
    assert tree.find(b"usr/sbin/new") is not None
    assert tree.find(b"usr/sbin/policy-rc.d") is None
    done = bench.build(bench.recipe('commands = ["rm -r /usr/sbin; ln -s /nowhere /usr/sbin"]'))
    assert done.returncode == 0, done.stderr


def test_an_installer_that_fills_the_disk_is_told_so_in_one_line(bench: Bench) -> None:
    assert bench.build(bench.recipe('commands = ["true"]')).returncode == 0  # the base is unpacked now
    captures = bench.cache / "millstream-sequencer" / "captures"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "tiny", captures], check=True)
    try:
        for command in ("cat /dev/zero > /opt/big", "cat /dev/zero > /opt/big 2> /dev/null"):
            one_line(bench.build(bench.recipe(f'commands = ["{command}"]')), 24, "no room", "XDG_CACHE_HOME")
            assert bench.captures() == []
    finally:
        subprocess.run(["umount", "-l", captures], check=True)
