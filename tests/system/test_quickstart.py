"""The quickstart, as a newcomer starts it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from samples.demonstration import CLONE
from tests.ending import end_process
from tests.pictures import is_drawn
from tests.stage import package_cache

QUICKSTART = CLONE / "samples" / "quickstart"
USER = "millstream-demo"


def _user_is_there() -> bool:
    return any(user.pw_name == USER for user in pwd.getpwall())


@pytest.mark.timeout(1200)  # sequencing for the first time
def test_it_ends_with_a_screenshot_and_leaves_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    done = subprocess.run(
        [QUICKSTART, "--json", "--invisible", "--packages", package_cache(), "--output", picture],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["holds"] is True
    assert 0 < told["bytes_received"] < told["bytes_packaged"] / 2
    assert is_drawn(picture)
    assert not _user_is_there()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_undoes_what_it_did(asked: signal.Signals) -> None:
    with subprocess.Popen(
        [QUICKSTART, "--json", "--invisible", "--packages", package_cache()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if "signed in" in line:
                    os.killpg(process.pid, asked)
            assert process.wait(60) == 130, said
        finally:
            end_process(process)
    assert "stopped; nothing is left running" in said[-1]
    assert "Traceback" not in "".join(said)
    assert not _user_is_there()
