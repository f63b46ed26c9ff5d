"""Each sample: sequenced, served, streamed to a client that has nothing, run by a user without rights."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.packagefiles import open_package
from tests.pictures import is_drawn
from tests.stage import SAMPLE_NAMES, Stage


@pytest.mark.timeout(3600)  # sequencing LibreOffice for the first time
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_sample_streams_to_an_empty_client_and_shows_itself(
    on_stage: Stage, name: str, tmp_path: Path
) -> None:
    packages = on_stage.publish(name)
    on_stage.forget()
    on_stage.sign_in()
    applications = open_package(packages[-1]).package.manifest.applications
    application = next((one for one in applications if one.id == name), applications[0])
    if application.terminal:
        said = on_stage.visit.converse(application.id, typed="Millstream\n\x04", timeout_s=300)
        assert len(said.strip()) > 2 * len("Millstream")
    else:
        launch = on_stage.visit.launch(name, timeout_s=300)
        try:
            assert launch.window is not None
            with on_stage.display.screen() as screen:
                assert screen.wait_drawn(launch.window, 120)
                time.sleep(1)
                screen.screenshot(tmp_path / "screen.png")
            assert is_drawn(tmp_path / "screen.png")
        finally:
            launch.end()
    received = on_stage.visit.received().bytes
    packaged = sum(package.stat().st_size for package in packages)
    assert 0 < received < packaged
