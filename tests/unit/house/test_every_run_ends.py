"""A test that hangs, a fixture that does, a thread that does: the run ends, and tells where it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard import OUT_OF_TIME

TESTS = Path(__file__).resolve().parents[2]

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print("up", flush=True)
while True:
    time.sleep(1)
"""
OBEDIENT = """
import signal, sys, time
try:
    print("up", flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    print("told", flush=True)
    time.sleep(0.5)
    sys.exit(3)
"""


def guarded(limit_s: float, grace_s: float, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.guard", str(limit_s), str(grace_s), sys.executable, "-c", code],
        cwd=TESTS.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(("code", "status"), [("", 0), ("exit(7)", 7), ("import os; os.abort()", 134)])
def test_a_command_that_ends_tells_its_own_status(code: str, status: int) -> None:
    with guarded(60, 60, code) as guard:
        assert guard.communicate(timeout=60) == ("", "")
    assert guard.returncode == status


def test_a_command_that_lasts_too_long_is_told_to_end() -> None:
    with guarded(2, 60, OBEDIENT) as guard:
        said, errors = guard.communicate(timeout=60)
    assert guard.returncode == OUT_OF_TIME
    assert said == "up\ntold\n"
    assert "have not ended after 2 s" in errors
    assert "python -m tests.guard" in errors.replace(sys.executable, "python")  # among what runs


def test_one_that_does_not_obey_is_killed_with_all_that_it_started() -> None:
    with guarded(2, 2, STUBBORN) as guard:
        said, errors = guard.communicate(timeout=60)  # all have let go of the pipe
    assert guard.returncode == OUT_OF_TIME
    assert said == "up\ntold\n"
    assert "killed" in errors


def test_ctrl_c_reaches_the_command_once_and_its_status_counts() -> None:
    with guarded(60, 60, OBEDIENT) as guard:
        assert guard.stdout is not None and guard.stdout.readline() == "up\n"
        os.killpg(guard.pid, signal.SIGINT)  # as a terminal does
        said, errors = guard.communicate(timeout=60)
    assert (guard.returncode, said, errors) == (3, "told\n", "")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_guard_that_is_ended_takes_the_command_with_it(how: signal.Signals) -> None:
    with guarded(60, 60, OBEDIENT) as guard:
        assert guard.stdout is not None and guard.stdout.readline() == "up\n"
        guard.send_signal(how)
        said, _ = guard.communicate(timeout=60)
    assert said == "told\n"


def run_pytest(folder: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "test_it.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    return subprocess.run(
        [*command, "-c", "/dev/null", *options, folder],
        capture_output=True, text=True, check=False, cwd=folder, timeout=120,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("failing", ["process.wait()", "assert 0", "raise OSError"])
def test_a_fixture_of_a_failed_test_that_waits_for_ever_is_ended(failing: str, tmp_path: Path) -> None:
    body = f"""
import os, subprocess, pytest
@pytest.fixture
def process():
    command = ["tail", "--pid", str(os.getpid()), "-f", "/dev/null"]
    with subprocess.Popen(command) as started:  # waits for it at its end
        yield started
def test_a(process):
    {failing}
def test_b(): pass
"""
    done = run_pytest(tmp_path, body, "--timeout", "1")
    assert "1 failed, 1 passed, 1 error" in done.stdout
    assert done.returncode == 1


def test_a_thread_that_does_not_end_is_told_and_ends_the_run(tmp_path: Path) -> None:
    body = """
import threading
def waits_for_ever(): threading.Event().wait()
def test_a(): threading.Thread(target=waits_for_ever).start()
"""
    done = run_pytest(tmp_path, body, "-o", "faulthandler_timeout=2")
    assert "1 passed" in done.stdout
    assert "waits_for_ever" in done.stderr
    assert done.returncode == 1
