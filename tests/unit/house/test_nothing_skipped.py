"""A run in which a test was not run is not green."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[2] / "conftest.py"


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ("def test_a(): pass", 0, False),
        ("import pytest\ndef test_a(): pytest.skip('no')\ndef test_b(): pass", 1, True),
        ("import pytest\n@pytest.mark.skip\ndef test_a(): pass\ndef test_b(): pass", 1, True),
        ("import pytest\n@pytest.mark.xfail\ndef test_a(): assert 0\ndef test_b(): pass", 1, True),
        ("import pytest\npytest.importorskip('nothing_of_this_name')\ndef test_a(): pass", 1, True),
        ("def test_a(): assert 0", 1, False),
    ],
)
def test_only_a_run_of_everything_ends_with_0(body: str, status: int, named: bool, tmp_path: Path) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(body)
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", tmp_path],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    assert ("NOT RUN" in done.stdout) is named
