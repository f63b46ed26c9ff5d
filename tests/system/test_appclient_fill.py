"""The background fill, reports of launches, warm connections: a real server, a user without rights."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packageformat.hashing import block_id, file_content_id
from packageformat.launchprofile import (
    LaunchProfile,
    PackageProfiles,
    ProfileContent,
    ProfileRun,
    Touch,
    encode_profiles,
)
from packageformat.limits import BLOCK_SIZE
from packageformat.stack import bubble_id
from tests.packages import open_package
from tests.system.appclient_stage import PROBE, ClientStage, client_stage, kill, probe_files, wait_until
from tests.system.test_appclient_run import LARGE, READ_ALL, damage, sums, true_sums


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientStage]:
    folder = tmp_path_factory.mktemp("fill")
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
    stage.client("settings", "--keep-free-gib", "0", "--keep-free-percent", "0")
    yield
    stage.user.end_processes()


def marks(stage: ClientStage) -> int:
    return len(list((stage.cache / "versions").glob("*/whole")))


def fill_process(stage: ClientStage, *more: str) -> subprocess.Popen[str]:
    return stage.user.start(stage.user.program("appclient", "fill", "probe", *more))


def test_what_was_started_here_becomes_whole_and_runs_without_the_server(stage: ClientStage) -> None:
    stage.script("test -e /usr/share/probe/small/1")
    assert marks(stage) == 0
    wait_until(lambda: marks(stage) == 2, 60, "both packages are whole")
    stage.server.stop()
    requests = stage.tally()["requests"]
    assert sums(stage.script(READ_ALL)) == true_sums()
    assert stage.tally()["requests"] == requests
    fill = stage.status()["fill"]
    assert {version["whole"] for version in fill["versions"]} == {True}
    assert "is here, all" in stage.client("status").stdout


def test_nothing_is_brought_where_the_user_says_so_but_what_he_asks_for(stage: ClientStage) -> None:
    stage.client("settings", "--fill", "off")
    stage.script("test -e /usr/share/probe/small/1")
    time.sleep(8)
    assert stage.status()["fill"]["pieces"] == 0
    stage.client("settings", "--fill", "launched", "--metered", "yes")
    wait_until(lambda: "metered" in stage.status()["fill"]["reason"], what="it says why it waits")
    assert "the network link is metered" in stage.client("status").stdout
    assert stage.status()["fill"]["pieces"] == 0
    done = stage.client("fill", "probe", "--wait", "--json")
    assert json.loads(done.stdout)["whole"] is True
    assert marks(stage) == 2


def test_all_that_is_published_is_brought_if_the_user_wants_it(stage: ClientStage) -> None:
    stage.client("settings", "--fill", "all")
    stage.client("refresh")
    wait_until(lambda: marks(stage) == 2, 60, "never started, and here")
    stage.server.stop()
    assert sums(stage.script(READ_ALL)) == true_sums()


def test_a_limit_holds(stage: ClientStage) -> None:
    began = time.monotonic()
    stage.client("fill", "probe", "--limit-mbit", "16", "--wait")
    seconds = time.monotonic() - began
    received = stage.status()["fill"]["bytes_received"]
    assert received > 6 << 20
    assert received / (seconds - 4) < 1.2 * 2e6, "above the limit, the launch's quiet time not counted"


def test_a_killed_agent_goes_on_where_it_was(stage: ClientStage) -> None:
    before = sum(told["bytes"] for told in stage.server.served())
    waiting = fill_process(stage, "--limit-mbit", "12", "--wait")
    for _ in range(2):
        wait_until(lambda: stage.agents() and stage.status()["fill"]["bytes_received"] > 1 << 20)
        kill(stage.agents()[0])
    assert waiting.wait(60) == 0
    assert marks(stage) == 2
    received = sum(told["bytes"] for told in stage.server.served()) - before
    size = sum(version["bytes"] for version in stage.status()["fill"]["versions"])
    assert received < 1.2 * size, "brought twice"


def test_a_launch_during_a_fill_has_the_line_for_itself(stage: ClientStage) -> None:
    stage.client("fill", "probe", "--limit-mbit", "8")
    wait_until(lambda: stage.status()["fill"]["pieces"] > 2, what="the fill runs")
    stage.client("refresh")
    started = stage.user.start(
        stage.user.program(
            "appclient", "run", "probe", "--command", "/bin/sh", "--", "-c",
            f"sha256sum {LARGE}; sleep 1; cat /usr/share/probe/small/9 > /dev/null; sleep 1",
        )
    )  # fmt: skip
    wait_until(lambda: stage.tally()["faults_served"] > 0, what="the application waits for blocks")
    pieces = stage.status()["fill"]["pieces"]
    assert started.wait(30) == 0
    assert stage.status()["fill"]["pieces"] == pieces
    assert not all(version["whole"] for version in stage.status()["fill"]["versions"])
    stage.client("fill", "probe", "--limit-mbit", "0", "--wait")
    assert marks(stage) == 2


def test_damage_takes_the_mark_away_and_heals(stage: ClientStage) -> None:
    stage.client("run", "probe")
    stage.client("fill", "probe", "--wait")
    assert marks(stage) == 2
    large = max((stage.cache / "files").glob("??/*"), key=lambda place: place.stat().st_size)
    damage(large, 5 * 65536 + 9)
    noted = stage.agent_log().count("wholly in the cache")
    stage.client("cache", "verify", code=11)
    wait_until(
        lambda: stage.agent_log().count("wholly in the cache") == noted + 2, 60, "looked at and filled again"
    )
    damage(large, 5 * 65536 + 9)
    assert sums(stage.script(READ_ALL)) == true_sums()
    assert stage.tally()["damaged"] > 0
    wait_until(lambda: marks(stage) == 2, 30, "whole again")
    stage.client("cache", "verify")


def test_a_cleaned_cache_is_not_filled_again_by_itself(stage: ClientStage) -> None:
    stage.client("run", "probe")
    stage.client("fill", "--wait")
    assert marks(stage) == 2
    stage.user.end_processes()
    stage.client("cache", "clean", "--all")
    assert marks(stage) == 0
    time.sleep(7)
    assert not list((stage.cache / "files").glob("??/*"))


def test_a_disk_that_is_nearly_full_is_left_alone(stage: ClientStage) -> None:
    stage.client("settings", "--keep-free-percent", "100")
    told = stage.client("fill", "probe", "--wait", code=46).stderr
    assert "free" in told
    assert stage.status()["fill"]["reason"].startswith("the disk")
    assert stage.status()["fill"]["pieces"] == 0


def test_damaged_settings_allow_nothing_and_are_told(stage: ClientStage) -> None:
    stage.script("true")
    settings = stage.user.home / ".config/millstream/settings.json"
    settings.write_text('{"reports": "no"}')
    wait_until(lambda: "damaged" in stage.client("status").stdout, what="it is told")
    time.sleep(7)
    assert marks(stage) == 0
    stage.client("settings", code=2)
    stage.client("settings", "--reset", "--keep-free-percent", "0", "--keep-free-gib", "0")
    wait_until(lambda: marks(stage) == 2, 30, "filled after all")
    assert Path(settings).stat().st_mode & 0o777 == 0o600


SMALL = {number: probe_files()[f"usr/share/probe/small/{number}"] for number in range(200)}
PACKED = range(10)
"""The small files that the launch pack holds."""

FAR = 1280
"""A page of the large file that it does not hold; its first 16 it does."""

BEHIND = 800
"""A page of the large file that it holds, with its 15 next, if anything is behind the window."""

LAUNCH = (
    "cd /usr/share/probe; for each in 0 1 2 3 4 5 6 7 8 9 50; do cat small/$each > /dev/null; done; "
    "dd if=large of=/dev/null bs=4096 count=16 2> /dev/null; "
    f"dd if=large of=/dev/null bs=4096 skip={FAR} count=1 2> /dev/null"
)


def content_of(data: object) -> bytes:
    assert isinstance(data, bytes)
    blocks = (data[at : at + BLOCK_SIZE] for at in range(0, len(data), BLOCK_SIZE))
    return file_content_id(len(data), b"".join(map(block_id, blocks)))


def train(stage: ClientStage, *, behind: bool = False) -> None:
    """Import a launch profile of the probe, and wait until the server names its pack."""
    package = open_package(stage.folder / "probe_1.ovp").package
    version, requires = package.version_id, package.manifest.requires
    contents = [
        ProfileContent(content_of(SMALL[number]), len(SMALL[number]), b"usr/share/probe/small/%d" % number)  # type: ignore[arg-type]
        for number in PACKED
    ]
    large = probe_files()["usr/share/probe/large"]
    contents.append(ProfileContent(content_of(large), 6 << 20, b"usr/share/probe/large"))
    touches = [Touch(number, 0, one.pages, 10 * number, 0) for number, one in enumerate(contents[:-1])]
    touches.append(Touch(len(PACKED), 0, 16, 200, 0))
    window = len(touches)
    if behind:
        touches.append(Touch(len(PACKED), BEHIND, 16, 900, 0))
    profile = LaunchProfile(
        PROBE.id,
        bubble_id((*requires, version)),
        (ProfileRun("first launch", 500),),
        tuple(contents),
        tuple(touches),
        window,
    )
    place = stage.folder / "probe_1.profile"
    place.write_bytes(encode_profiles(PackageProfiles(version, (profile,))))
    stage.server.command("import", place)
    wait_until(lambda: packs(stage)["up_to_date"] and packs(stage)["whole"], 30, "the pack is built")
    stage.client("refresh")


def packs(stage: ClientStage) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(stage.server.command("packs", "show", PROBE.id, "--json"))
    return value


def reports(stage: ClientStage) -> list[dict[str, Any]]:
    folder = stage.user.home / ".local/state/millstream/reports"
    return [json.loads(place.read_text())["report"] for place in sorted(folder.glob("*.json"))]


def pages_told(report: dict[str, Any], key: str) -> set[tuple[str, int]]:
    return {(run[0], run[1] + page) for run in report[key] for page in range(run[2])}


def test_what_a_launch_pack_lacked_is_reported_and_nothing_else(stage: ClientStage) -> None:
    train(stage)
    stage.client("settings", "--fill", "off")
    stage.script(LAUNCH)
    stage.server.stop()  # the report waits on disk
    wait_until(lambda: reports(stage), 20, "the launch is over")
    (report,) = reports(stage)
    assert report["application"] == PROBE.id
    assert set(report) == {
        "bubble_id", "version_id", "application", "window_ms", "seconds", "bytes", "pages_needed", "missed",
        "late",
    }  # fmt: skip
    assert report["late"] == []
    missed = pages_told(report, "missed")
    ours = {content_of(data).hex(): number for number, data in SMALL.items()}
    large = content_of(probe_files()["usr/share/probe/large"]).hex()
    of_probe = {(ours.get(content, content), page) for content, page in missed if content in {*ours, large}}
    assert of_probe == {(large, FAR), (50, 0)}, "what comes with the first page is waited for no more"
    tally = stage.tally()
    assert tally["misses"] == len(missed)
    assert tally["pages_packed"] > 0
    assert report["pages_needed"] == tally["pages_packed"] + len(missed)
    assert 3 <= tally["round_trips"] <= tally["requests"] + 3
    stage.server.start()
    stage.client("refresh")
    wait_until(lambda: not reports(stage), 20, "the server has it")
    (account,) = packs(stage)["accounts"]
    assert account["pages_missed"] == len(missed)


def test_what_a_launch_pack_brought_too_late_is_told_apart(stage: ClientStage) -> None:
    train(stage, behind=True)
    stage.client("settings", "--fill", "off")
    stage.script(f"{LAUNCH}; dd if=large of=/dev/null bs=4096 skip={BEHIND} count=1 2> /dev/null")
    stage.server.stop()
    wait_until(lambda: reports(stage), 20, "the launch is over")
    (report,) = reports(stage)
    large = content_of(probe_files()["usr/share/probe/large"]).hex()
    late = pages_told(report, "late")
    assert (large, BEHIND) in late
    assert late <= {(large, BEHIND + page) for page in range(16)}
    assert all(come == 1000 for *_, come in report["late"])
    assert (large, BEHIND) not in pages_told(report, "missed")
    stage.server.start()
    stage.client("refresh")
    wait_until(lambda: not reports(stage), 20, "the server has it")


def test_who_does_not_want_to_report_sends_nothing(stage: ClientStage) -> None:
    train(stage)
    before = packs(stage)["accounts"]
    stage.client("settings", "--fill", "off", "--reports", "off")
    stage.script(LAUNCH)
    time.sleep(8)
    assert stage.tally()["misses"] > 0, "counted, for this user's own eyes"
    assert not reports(stage)
    assert packs(stage)["accounts"] == before
    assert stage.status()["reports"] == {"on": False, "waiting": 0}
