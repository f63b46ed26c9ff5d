"""An ordinary user for the tests that must not be root, and /dev/fuse opened for them while they run.

    with demonstration_account() as user:
        user.run(user.program("appclient", "status"))

Both are undone at the end: the user, its home and its processes go, and the last user of `open_fuse`
gives /dev/fuse the mode that it had. Needs root. Several test runs may use both at once.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
FUSE_DEVICE = Path("/dev/fuse")
_FUSE_LOCK = Path("/run/millstream-tests-fuse-mode")


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user: no subordinate ids, no groups but its own, an empty home."""

    name: str
    uid: int
    gid: int
    home: Path
    python: str  # an interpreter that this user may execute
    python_path: str  # what it needs beside that to import the five folders and their dependencies

    @property
    def runtime(self) -> Path:
        """The user's XDG_RUNTIME_DIR, mode 0700."""
        return self.home / ".runtime"

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command line that runs one of the three programs as this user."""
        return [self.python, "-m", name, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Return a clean login environment and nothing of the caller's."""
        kept = {name: os.environ[name] for name in ("LANG", "MILLSTREAM_DEBUG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.runtime),
            **({"PYTHONPATH": self.python_path} if self.python_path else {}),
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }

    def start(self, argv: Sequence[str], *, environment: dict[str, str] | None = None, **how: Any) -> Any:
        """Start `argv` as this user, in its home; return the subprocess.Popen."""
        how.setdefault("cwd", self.home)
        return subprocess.Popen(
            list(argv),
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            env=self.environment() if environment is None else environment,
            **how,
        )

    def run(
        self, argv: Sequence[str], *, timeout: float = 120, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` as this user to its end, in its home, and return what it said.

        Output goes through files, so that a program that leaves something running behind it
        (the agent, a view) does not keep this call waiting.
        """
        with (
            _scratch(stdin) as source,
            _scratch() as out,
            _scratch() as err,
            self.start(
                argv, environment=self.environment(**environment), stdin=source, stdout=out, stderr=err
            ) as process,
        ):
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return subprocess.CompletedProcess(list(argv), code, _text(out), _text(err))

    def processes(self) -> list[int]:
        """Return the ids of this user's live processes."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == self.uid and "\nState:\tZ" not in (folder / "status").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def end_processes(self, seconds: float = 10) -> None:
        """Kill what this user still runs; it is ours, for we made the user."""
        end = time.monotonic() + seconds
        while (running := self.processes()) and time.monotonic() < end:
            for process in running:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)


@contextmanager
def demonstration_account(prefix: str = "millstream-demo") -> Iterator[Account]:
    """Make an ordinary user, open /dev/fuse to it, and undo both.

    Raises:
        PermissionError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise PermissionError("only root can make a demonstration user: run the system tests as root")
    name = f"{prefix}-{secrets.token_hex(3)}"
    _retried(["useradd", "--create-home", "--user-group", "--shell", "/bin/sh", name])
    try:
        entry = pwd.getpwnam(name)
        home = Path(entry.pw_dir)
        home.chmod(0o700)
        (home / ".runtime").mkdir(mode=0o700)
        os.chown(home / ".runtime", entry.pw_uid, entry.pw_gid)
        python, python_path = _interpreter(entry.pw_uid, entry.pw_gid)
        account = Account(name, entry.pw_uid, entry.pw_gid, home, python, python_path)
        with open_fuse():
            try:
                yield account
            finally:
                account.end_processes()
    finally:
        shutil.rmtree(Path("/home") / name, ignore_errors=True)
        _retried(["userdel", "--remove", "--force", name], tolerated=(6, 12))


@contextmanager
def open_fuse() -> Iterator[None]:
    """Let every user open /dev/fuse (as ordinary distributions do) until the last of its users leaves."""
    with _FUSE_LOCK.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _recorded(lock):  # else a run before us was killed: its record is the true mode
                lock.write(oct(stat.S_IMODE(FUSE_DEVICE.stat().st_mode)))
                lock.flush()
            FUSE_DEVICE.chmod(0o666)
        except BlockingIOError:
            pass
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield
        finally:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                FUSE_DEVICE.chmod(int(_recorded(lock) or "0o666", 8))
                lock.truncate(0)


def _recorded(lock: Any) -> str:
    lock.seek(0)
    return str(lock.read()).strip()


def _interpreter(uid: int, gid: int) -> tuple[str, str]:
    """Return a Python that `uid` may execute and the PYTHONPATH under which it finds everything.

    The virtual environment's own interpreter may lie in root's home; then the distribution's of the
    same version does as well.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    path = f"{REPOSITORY}:{sysconfig.get_path('purelib')}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            subprocess.run(
                [python, "-c", "import asyncio, aiohttp, zstandard, packageformat, bubble, appclient"],
                user=uid,
                group=gid,
                extra_groups=[],
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, path
    from samples.demonstration import installed_programs  # a copy that everybody can read

    return str(installed_programs() / "python"), ""


def _retried(argv: list[str], *, tolerated: tuple[int, ...] = ()) -> None:
    """Run a shadow tool; another run of the tests may hold /etc/passwd's lock for a moment."""
    for _ in range(50):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode == 0 or done.returncode in tolerated:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _scratch(text: str = "") -> Any:
    descriptor = os.memfd_create("millstream-test")
    file = os.fdopen(descriptor, "w+b")
    file.write(text.encode())
    file.flush()
    file.seek(0)
    return file


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))
