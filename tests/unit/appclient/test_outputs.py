"""An output that cannot be written is the user's problem, told in one line, and no bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from appclient.errors import CacheError
from appclient.program import _DISK


def test_an_output_that_cannot_be_written_is_no_bug(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "appclient", "status"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=home,
            timeout=60,
        )
    assert done.returncode == _DISK == CacheError.exit_code
    assert done.stderr.startswith("appclient: cannot write the output: No space left on device; ")
    assert done.stderr.count("\n") == 1
