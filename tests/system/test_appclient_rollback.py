"""Updates take over with the next start; what runs goes on; one can go back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packageformat.application import Application
from tests.packages import BuiltPackage, build_package
from tests.system.appclient_stage import ClientStage, client_stage, little_runtime, noise

CLOCK = Application(id="clock", name="Clock", command="clock")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientStage]:
    folder = tmp_path_factory.mktemp("rollback")
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    with client_stage(folder) as made:
        made.login()
        yield made


def version(folder: Path, number: int) -> BuiltPackage:
    base = build_package(folder, "little", little_runtime(), kind="runtime")
    files = {"usr/bin/clock": b"#!/bin/sh\n", "usr/share/clock": b"%d\n" % number + noise(b"clock", 1 << 20)}
    return build_package(folder, "clock", files, version=str(number), requires=[base], applications=[CLOCK])


def test_what_runs_goes_on_and_one_can_go_back_until_yet_another_version_comes(
    stage: ClientStage, tmp_path: Path
) -> None:
    shown = "head -n 1 /usr/share/clock"
    stage.publish(version(tmp_path, 1))
    stage.client("refresh")
    assert stage.script(shown, application="clock") == "1\n"
    assert "no earlier version" in stage.client("rollback", "clock", code=43).stderr
    running = stage.user.start(
        stage.user.program(
            "appclient", "run", "clock", "--command", "/bin/sh", "--", "-c", f"{shown}; read line; {shown}"
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "1\n"
    stage.publish(version(tmp_path, 2))
    stage.client("refresh")
    assert stage.script(shown, application="clock") == "2\n"
    told, _ = running.communicate("\n", timeout=60)
    assert told == "1\n"  # the old version ran on
    assert json.loads(stage.client("rollback", "clock", "--json").stdout) == {
        "package": "clock",
        "version": "1",
        "published": "2",
    }
    assert stage.script(shown, application="clock") == "1\n"
    stage.client("stop")  # and with another agent
    assert stage.script(shown, application="clock") == "1\n"
    listed = json.loads(stage.client("list", "--json").stdout)
    assert {one["version"] for one in listed if one["id"] == "clock"} == {"1"}
    assert "is 2 again" in stage.client("rollback", "clock", "--undo").stdout
    assert stage.script(shown, application="clock") == "2\n"
    assert "nothing to undo" in stage.client("rollback", "clock", "--undo", code=43).stderr
    stage.client("rollback", "clock")
    stage.publish(version(tmp_path, 3))
    stage.client("refresh")
    assert stage.script(shown, application="clock") == "3\n"
    stage.server.command("packages", "remove", "clock", "--version", "1")
    assert stage.client("rollback", "clock", code=42).returncode == 42  # the server no longer has it
    assert stage.script(shown, application="clock") == "3\n"
