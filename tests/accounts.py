"""An ordinary user who runs the programs from this clone, for the tests that must not be root.

    with demonstration_account() as user:
        user.run(user.program("appclient", "status"))

The user and /dev/fuse's mode are samples/demonstration.py's, and are undone as there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples.demonstration import DemonstrationUser, demonstration_user, installed_programs, open_fuse_device

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user: no subordinate ids, no groups but its own, an empty home."""

    user: DemonstrationUser
    python: str  # an interpreter that this user may execute
    python_path: str  # what it needs beside that to import the five folders and their dependencies

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @property
    def uid(self) -> int:
        """The user's id."""
        return self.user.uid

    @property
    def gid(self) -> int:
        """The id of the user's own group."""
        return self.user.gid

    @property
    def home(self) -> Path:
        """The user's home folder, mode 0700."""
        return self.user.home

    @property
    def runtime(self) -> Path:
        """The user's XDG_RUNTIME_DIR, mode 0700."""
        return self.user.runtime

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command line that runs one of the three programs as this user."""
        return [self.python, "-m", name, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Return a clean login environment and nothing of the caller's."""
        return self.user.environment(self._added(more))

    def start(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, **how: Any
    ) -> subprocess.Popen[str]:
        """Start `argv` as this user, in its home."""
        return self.user.popen(argv, environment=self._added(environment or {}), **{"text": None, **how})

    def run(
        self, argv: Sequence[str], *, timeout: float = 120, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` as this user to its end, in its home, and return what it said."""
        return self.user.run(argv, environment=self._added(environment), stdin=stdin, timeout_s=timeout)

    def processes(self) -> list[int]:
        """Return the ids of this user's live processes."""
        return self.user.processes()

    def named(self, name: str) -> list[int]:
        """Return those that have given themselves that name, such as "bubble.view"."""
        return self.user.named(name)

    def end_processes(self) -> None:
        """End what this user still runs; it is ours, for we made the user."""
        self.user.end_processes(grace_s=0.5)

    def _added(self, more: Mapping[str, str]) -> dict[str, str]:
        debug = {name: os.environ[name] for name in ("MILLSTREAM_DEBUG",) if name in os.environ}
        path = {"PYTHONPATH": self.python_path} if self.python_path else {}
        return {**debug, **path, "PYTHONDONTWRITEBYTECODE": "1", **more}


@contextmanager
def demonstration_account(prefix: str = "millstream-demo") -> Iterator[Account]:
    """Make an ordinary user, open /dev/fuse to it, and undo both.

    Raises:
        PermissionError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("only root can make a demonstration user: run the system tests as root")
    with ExitStack() as undo:
        undo.enter_context(open_fuse_device())
        user = undo.enter_context(demonstration_user(f"{prefix}-{secrets.token_hex(3)}"))
        yield Account(user, *_interpreter(user, undo))


def _interpreter(user: DemonstrationUser, undo: ExitStack) -> tuple[str, str]:
    """Return a Python that `user` may execute and the PYTHONPATH under which it finds everything.

    The virtual environment's own interpreter may lie in root's home; then the distribution's of the
    same version does as well. The clone itself may lie where that user cannot go: then the programs as
    installed for everybody serve, with a copy of the tests' own modules.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    path = f"{REPOSITORY}:{sysconfig.get_path('purelib')}"
    trial = "import asyncio, aiohttp, zstandard, packageformat, bubble, appclient, tests.smallbubble"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            done = user.run(
                [python, "-c", trial], environment={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python, path
    copy = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="millstream-tests-")))
    copy.chmod(0o755)
    for folder in ("tests", "samples"):
        shutil.copytree(
            REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "vectors")
        )
    return str(installed_programs() / "python"), str(copy)
