"""Launch packs on the client: a real server, an ordinary user, little packages, a profile of what is read."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packageformat.launchprofile import (
    LaunchProfile,
    PackageProfiles,
    ProfileContent,
    ProfileRun,
    Touch,
    encode_profiles,
)
from packageformat.limits import PAGE_SIZE
from packageformat.package import Package, PackageParser
from packageformat.stack import bubble_id
from tests.packages import build_package
from tests.system.appclient_stage import PROBE, ClientStage, client_stage, kill, probe_files, wait_until

LARGE = b"usr/share/probe/large"
TOUCHED_PAGES = 40
"""Of the large file: its first pages, and some in the middle."""

MIDDLE = 800


def head_of(path: Path) -> Package:
    parser = PackageParser(path.stat().st_size)
    parser.feed(0, path.read_bytes())
    assert parser.package is not None
    return parser.package


def profile_of(runtime: Path, probe: Path, *, small_behind: bool = False) -> bytes:
    """Return a profile of launches that read the shell, its libraries, small files and some of the large.

    With `small_behind` the small files are read after the window.
    """
    packages = [head_of(runtime), head_of(probe)]
    contents: list[ProfileContent] = []
    touches: list[Touch] = []
    for package in packages:
        tree = package.tree
        for entry, size in enumerate(tree.sizes):
            path = tree.path(entry)
            if not size or (path.startswith(b"usr/share/probe/small/") and int(path.split(b"/")[-1]) >= 50):
                continue
            contents.append(ProfileContent(package.content_id(entry), size, path))
            pages = -(-size // PAGE_SIZE)
            runs = [(0, 20), (MIDDLE, 20)] if path == LARGE else [(0, pages)]
            touches += [Touch(len(contents) - 1, first, count, 1, 0) for first, count in runs]
    late = [
        touch
        for touch in touches
        if small_behind and contents[touch.content].path.startswith(b"usr/share/probe/small/")
    ]
    touches = [*(touch for touch in touches if touch not in late), *late]
    known = {content.content_id: content for content in contents}
    assert len(known) == len(contents)
    profile = LaunchProfile(
        PROBE.id,
        bubble_id([package.version_id for package in packages]),
        (ProfileRun("by hand", 100),),
        tuple(contents),
        tuple(touches),
        len(touches) - len(late),
    )
    return encode_profiles(PackageProfiles(packages[-1].version_id, (profile,)))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientStage]:
    folder = tmp_path_factory.mktemp("packs")
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    with client_stage(folder) as made:
        runtime, probe = (next(folder.glob(f"{name}*.ovp")) for name in ("little", "probe"))
        profile = probe.with_suffix(".profile")
        profile.write_bytes(profile_of(runtime, probe))
        made.server.command("import", profile)
        made.server.command("packs", "build")
        yield made


@pytest.fixture(autouse=True)
def signed_in(stage: ClientStage) -> Iterator[None]:
    stage.forget()
    if stage.server.process is None:
        stage.server.start()
    stage.login()
    yield
    stage.user.end_processes()


READ_TOUCHED = (
    f"cd /usr/share/probe && dd if=large bs=4096 count=20 status=none | sha256sum; "
    f"dd if=large bs=4096 skip={MIDDLE} count=20 status=none | sha256sum; "
    "cat small/? small/[1-4]? | sha256sum"
)


def expected() -> list[str]:
    files = {path: content for path, content in probe_files().items() if isinstance(content, bytes)}
    large = files[LARGE.decode()]
    small = b"".join(
        files[f"usr/share/probe/small/{number}"] for number in [*range(10), *sorted(range(10, 50), key=str)]
    )
    parts = [large[: 20 * PAGE_SIZE], large[MIDDLE * PAGE_SIZE : (MIDDLE + 20) * PAGE_SIZE], small]
    return [hashlib.sha256(part).hexdigest() for part in parts]


def read(stage: ClientStage, text: str = READ_TOUCHED) -> list[str]:
    return [line.split()[0] for line in stage.script(text).splitlines()]


def ready(stage: ClientStage) -> bool:
    return any(stage.cache.glob("views/*.packs"))


def test_what_a_launch_touches_comes_in_the_pack_and_not_by_faults(stage: ClientStage) -> None:
    assert read(stage) == expected()
    tally = stage.tally()
    assert tally["pages_packed"] > TOUCHED_PAGES
    assert tally["faults_served"] == tally["faults_packed"], tally
    large = [size for _, size in sizes_in_cache(stage) if size == 6 << 20]
    assert large, "the large file is there"
    held = os.stat(next(place for place, size in sizes_in_cache(stage) if size == 6 << 20)).st_blocks * 512
    assert held < 1 << 20, "of the large file only what the launch touches"


def sizes_in_cache(stage: ClientStage) -> list[tuple[Path, int]]:
    return [
        (place, place.stat().st_size) for place in stage.cache.glob("files/??/*") if place.suffix != ".map"
    ]


def test_what_the_pack_lacks_comes_by_faults_behind_it(stage: ClientStage) -> None:
    files = probe_files()
    whole = files[LARGE.decode()]
    assert isinstance(whole, bytes)
    assert read(stage, "sha256sum /usr/share/probe/large") == [hashlib.sha256(whole).hexdigest()]
    tally = stage.tally()
    assert tally["faults_served"] > tally["faults_packed"]
    assert tally["blocks_fetched"] > 50


def test_a_miss_behind_the_pack_brings_the_blocks_around_it(stage: ClientStage) -> None:
    whole = probe_files()[LARGE.decode()]
    assert isinstance(whole, bytes)
    missed, near = 40 * 16, 39 * 16  # pages: the blocks 40 and 39 of the large file
    page = "dd if=/usr/share/probe/large bs=4096 count=1 status=none skip={} | sha256sum"
    found = read(
        stage,
        f"({READ_TOUCHED}) >/dev/null; sleep 0.7; {page.format(missed)}; sleep 0.5; {page.format(near)}",
    )
    assert found == [
        hashlib.sha256(whole[first * PAGE_SIZE : (first + 1) * PAGE_SIZE]).hexdigest()
        for first in (missed, near)
    ]
    tally = stage.tally()
    assert tally["blocks_ahead"] >= 1, tally


@pytest.fixture
def small_behind(stage: ClientStage) -> Iterator[None]:
    """The small files are behind the window in the launch pack."""
    runtime, probe = (next(stage.folder.glob(f"{name}*.ovp")) for name in ("little", "probe"))
    profile = probe.with_suffix(".profile")
    for late in (True, False):
        profile.write_bytes(profile_of(runtime, probe, small_behind=late))
        stage.server.command("import", profile)
        stage.server.command("packs", "build")
        stage.client("refresh")
        if late:
            yield


READ_LARGE, READ_SMALL = READ_TOUCHED.rsplit("; ", 1)


@pytest.mark.usefixtures("small_behind")
def test_what_is_behind_the_window_comes_when_the_launch_is_over(stage: ClientStage) -> None:
    assert read(stage, f"{READ_LARGE}; sleep 5; {READ_SMALL}") == expected()
    tally = stage.tally()
    assert tally["faults_served"] == tally["faults_packed"], tally
    assert ready(stage)


@pytest.mark.usefixtures("small_behind")
def test_what_is_behind_the_window_comes_at_once_if_it_is_asked_for(stage: ClientStage) -> None:
    began = time.monotonic()
    small = f"cd /usr/share/probe; {READ_SMALL}"
    assert read(stage, f"{small}; sleep 0.7; {READ_LARGE}") == [expected()[2], *expected()[:2]]
    wait_until(lambda: ready(stage), what="the pack is noted as complete")
    tally = stage.tally()
    assert 0 < tally["faults_served"] - tally["faults_packed"] < 45, tally
    assert tally["pages_packed"] > 50, (tally, time.monotonic() - began)


def test_a_launch_after_a_refresh_knows_where_packages_are(stage: ClientStage) -> None:
    def paths(after: int = 0) -> list[str]:
        lines = (line for line in stage.server.log.read_text().splitlines()[after:] if line.startswith("{"))
        return [json.loads(line)["path"] for line in lines]

    def launched(language: str) -> list[str]:
        """Return what was asked for before the stream of a launch on an empty cache."""
        stage.user.end_processes()
        stage.client("cache", "clean", "--all")
        mark = len(stage.server.log.read_text().splitlines())
        stage.client("refresh", LANG="fr_FR.UTF-8")
        wait_until(lambda: "/v1/pointers" in paths(mark), what="the refresh is over")
        before = len(stage.server.log.read_text().splitlines())
        stage.client("run", "probe", "--command", "/bin/sh", "--", "-c", ":", LANG=language)
        wait_until(lambda: "/v1/stream" in paths(before), what="the stream is logged")
        asked = paths(before)
        return asked[: asked.index("/v1/stream")]

    assert "/v1/pointers" not in launched("fr_FR.UTF-8")
    assert "/v1/pointers" in launched("de_DE.UTF-8"), "packs of another language are to be told"


def test_a_second_launch_asks_for_nothing(stage: ClientStage) -> None:
    assert read(stage) == expected()
    wait_until(lambda: ready(stage), what="the pack is noted as complete")
    wait_until(lambda: not stage.status()["fetching"])
    before = stage.tally()
    stage.server.stop()
    assert read(stage) == expected()
    after = stage.tally()
    assert after["pages_packed"] == before["pages_packed"]
    assert after["faults_served"] == before["faults_served"]


def test_a_second_launch_has_its_pages_before_it_reads_them(stage: ClientStage) -> None:
    assert read(stage) == expected()
    wait_until(lambda: ready(stage), what="the pack is noted as complete")
    assert any(stage.cache.glob("views/*.order"))
    wait_until(lambda: bool(views(stage)), what="the view has ended")
    for place in views(stage):
        place.unlink()
    command = ("appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", f"sleep 2; {READ_TOUCHED}")
    started = stage.user.start(stage.user.program(*command), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: bool(stage.user.named("bubble.view")), what="a view")
    time.sleep(1)  # the shell runs: it may have been faster than what was pushed of itself
    for view in stage.user.named("bubble.view"):
        os.kill(view, signal.SIGUSR1)
    wait_until(lambda: len(figures(stage)) == 1, what="figures before anything is touched")
    (before,) = figures(stage)
    assert before["pages_pushed"] >= TOUCHED_PAGES
    for place in views(stage):
        place.unlink()
    said, _ = started.communicate(timeout=60)
    assert [line.split()[0] for line in said.splitlines()] == expected()
    wait_until(lambda: len(figures(stage)) == 1, what="the view has ended")
    (told,) = figures(stage)
    assert told["requests"].get("READ", 0) - before["requests"].get("READ", 0) < TOUCHED_PAGES // 2, told


def views(stage: ClientStage) -> list[Path]:
    return list((stage.user.home / ".local/state/millstream/bubbles").glob("*/view.json"))


def figures(stage: ClientStage) -> list[dict[str, Any]]:
    return [json.loads(place.read_text()) for place in views(stage)]


def test_an_agent_killed_in_the_middle_of_a_pack_costs_nothing_but_time(stage: ClientStage) -> None:
    for _ in range(4):
        stage.user.end_processes()
        started = stage.user.start(
            stage.user.program("appclient", "run", "probe", "--command", "/bin/sh", "--", "-c", READ_TOUCHED)
        )
        wait_until(lambda: bool(stage.agents()), what="an agent")
        for agent in stage.agents():
            kill(agent)
        started.wait(60)
    assert read(stage) == expected()


def test_only_missing_frames_of_a_pack_are_asked_for(stage: ClientStage, tmp_path: Path) -> None:
    assert read(stage) == expected()
    wait_until(lambda: ready(stage), what="the pack is noted as complete")
    first = stage.tally()["bytes_received"]
    stage.user.end_processes()
    for place in stage.cache.glob("views/*"):
        place.unlink()
    lost = next(place for place, size in sizes_in_cache(stage) if size == 6 << 20)
    lost.unlink()
    lost.with_name(lost.name + ".map").unlink()
    assert read(stage) == expected()
    wait_until(lambda: ready(stage), what="the pack is noted as complete again")
    second = stage.tally()["bytes_received"] - first
    assert second < first, (first, second)


def test_a_pack_that_is_damaged_on_the_server_is_refused_and_the_application_runs(stage: ClientStage) -> None:
    listed = stage.server.command("packs", "list", "--json")
    assert PROBE.id in listed
    damaged = []
    for place in (stage.server.folder / "objects").iterdir():
        data = place.read_bytes()
        if data.startswith(b"OVPPACK1"):
            damaged.append((place, data))
            place.write_bytes(data[:-2000] + bytes(1000) + data[-1000:])
    assert damaged
    try:
        assert read(stage) == expected()
        assert "launch pack" in stage.agent_log()
    finally:
        for place, data in damaged:
            place.write_bytes(data)


def test_a_damaged_layer_image_is_made_anew(stage: ClientStage) -> None:
    assert read(stage) == expected()
    stage.user.end_processes()
    for place in stage.cache.glob("versions/*/layer"):
        data = bytearray(place.read_bytes())
        data[len(data) // 2] ^= 1
        place.write_bytes(data)
    assert read(stage) == expected()


def test_a_damaged_table_of_block_ids_is_made_anew(stage: ClientStage) -> None:
    assert read(stage) == expected()
    stage.user.end_processes()
    for place in stage.cache.glob("versions/*/ids"):
        place.write_bytes(hashlib.shake_256(b"nonsense").digest(place.stat().st_size))
    assert read(stage) == expected()


def test_a_new_version_shares_what_has_not_changed(stage: ClientStage, tmp_path: Path) -> None:
    assert read(stage) == expected()
    wait_until(lambda: ready(stage), what="the pack is noted as complete")
    before = stage.tally()["bytes_received"]
    runtime = next(stage.folder.glob("little*.ovp"))
    changed = dict(probe_files())
    changed["usr/share/probe/small/0"] = b"changed"
    built = build_package(
        tmp_path,
        "probe",
        changed,
        version="2",
        requires_ids=[head_of(runtime).version_id],
        applications=[PROBE],
    )
    stage.server.command("import", built.path)
    try:
        stage.client("refresh")
        assert stage.script("cat /usr/share/probe/small/0") == "changed"
        new = sum(tally["bytes_received"] for tally in stage.status()["bubbles"].values()) - before
        assert new < before / 2, (before, new)
    finally:
        stage.server.command("packages", "remove", "probe", "--version", "2")


def test_a_new_version_comes_as_a_delta_against_the_old_one(stage: ClientStage, tmp_path: Path) -> None:
    files = probe_files()
    large = files[LARGE.decode()]
    assert isinstance(large, bytes)
    assert read(stage, "sha256sum /usr/share/probe/large") == [hashlib.sha256(large).hexdigest()]
    wait_until(lambda: not stage.status()["fetching"])
    old = sum(tally["bytes_received"] for tally in stage.status()["bubbles"].values())
    changed = dict(files)
    changed[LARGE.decode()] = b"a few bytes more" + large[: 3 << 20] + b"and in the middle" + large[3 << 20 :]
    runtime, probe = (next(stage.folder.glob(f"{name}*.ovp")) for name in ("little", "probe"))
    built = build_package(
        tmp_path,
        "probe",
        changed,
        version="3",
        requires_ids=[head_of(runtime).version_id],
        applications=[PROBE],
    )
    profile = built.path.with_suffix(".profile")
    profile.write_bytes(whole_profile(runtime, built.path))
    stage.server.command("import", built.path)
    stage.server.command("packs", "build")
    stage.server.command("deltas", "build")
    try:
        stage.client("refresh")
        whole = changed[LARGE.decode()]
        assert isinstance(whole, bytes)
        assert read(stage, "sha256sum /usr/share/probe/large") == [hashlib.sha256(whole).hexdigest()]
        tallies = stage.status()["bubbles"].values()
        delta = sum(tally["delta_bytes"] for tally in tallies)
        new = sum(tally["bytes_received"] for tally in tallies) - old
        told = (stage.server.command("deltas", "list"), stage.server.command("packs", "list"), tallies)
        assert 0 < delta < 200_000, (told, stage.agent_log())
        assert new < 1 << 20, (old, new, delta)
        assert probe.exists()
    finally:
        stage.server.command("packages", "remove", "probe", "--version", "3")


def whole_profile(runtime: Path, probe: Path) -> bytes:
    """Return a profile of launches that read all of the large file."""
    packages = [head_of(runtime), head_of(probe)]
    tree = packages[-1].tree
    entry = tree.find(LARGE)
    assert entry is not None
    size = tree.sizes[entry]
    content = ProfileContent(packages[-1].content_id(entry), size, LARGE)
    profile = LaunchProfile(
        PROBE.id,
        bubble_id([package.version_id for package in packages]),
        (ProfileRun("by hand", 100),),
        (content,),
        (Touch(0, 0, -(-size // PAGE_SIZE), 1, 0),),
        1,
    )
    return encode_profiles(PackageProfiles(packages[-1].version_id, (profile,)))
