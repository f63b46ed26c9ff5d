"""What a demonstration needs of the machine, and how it is put back: programs, a user, /dev/fuse.

Used by `samples/quickstart`, by the system tests, the benchmark and `tests/show`. Root may make and
unmake a user; anybody else is his own demonstration user, in a home folder of its own.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from samples.lock import locked

CLONE = Path(__file__).resolve().parent.parent
FUSE_DEVICE = Path("/dev/fuse")
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"
_FUSE_LOCK = Path("/run/millstream-tests-fuse-mode")


def root() -> bool:
    """Whether this process may make users and change /dev/fuse."""
    return os.geteuid() == 0


def cache_folder(name: str) -> Path:
    """Return where things made once are kept; for root it is one that every user can read."""
    if root():
        return Path("/var/cache") / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / name


def installed_programs(folder: Path | None = None) -> Path:
    """Install Millstream where every user can read it, unless it is there as it is now; return its `bin`.

    The clone itself may lie under a folder that others cannot enter, and its interpreter may too. Two source
    trees that are tested at once need a folder each: MILLSTREAM_DEMONSTRATION names another one.
    """
    told = os.environ.get("MILLSTREAM_DEMONSTRATION")
    place = folder or (Path(told) if told else cache_folder("millstream-demonstration"))
    subprocess.run([CLONE / "samples" / "setup", "--installed", place], check=True, stdin=subprocess.DEVNULL)
    return place / "bin"


@dataclass(frozen=True, slots=True)
class DemonstrationUser:
    """A user without any rights of his own. `runtime` is his XDG_RUNTIME_DIR."""

    name: str
    uid: int
    gid: int
    home: Path
    runtime: Path
    made: bool
    """Whether the account was made for this and will be deleted."""

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return a fresh login's environment, and `more`."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/bash",
            "PATH": _SEARCH_PATH,
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.runtime),
            **(more or {}),
        }

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start `argv` as this user, in his home, with `environment` added to a fresh login's.

        `prefix` runs as the caller and starts the rest, such as `ip netns exec NAME`.
        """
        words = [str(word) for word in argv]
        how: dict[str, Any] = {"cwd": self.home, "start_new_session": True, "stdin": subprocess.DEVNULL}
        how |= {"text": True, "umask": 0o022} | options
        if self.made and prefix:
            as_user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--"]
            words = [*prefix, *as_user, *words]
        elif self.made:
            how |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        started: subprocess.Popen[str] = subprocess.Popen(words, env=self.environment(environment), **how)
        return started

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout_s: float = 120,
        check: bool = False,
        prefix: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` as this user to its end; its output is in the result.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout_s` (and was killed).
            RuntimeError: `check`, and it did not end with 0; the message holds what it said.
        """
        # Files, not pipes: what a program leaves running behind it (the agent) does not keep us waiting.
        with _scratch() as given, _scratch() as out, _scratch() as err:
            given.write(stdin)
            given.seek(0)
            process = self.popen(
                argv, environment=environment, prefix=prefix, stdin=given, stdout=out, stderr=err
            )
            try:
                process.wait(timeout_s)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                raise
            output, errors = _text(out), _text(err)
        if check and process.returncode:
            said = (errors.strip() or output.strip())[-2000:]
            raise RuntimeError(f"{' '.join(map(str, argv))} ended with {process.returncode}: {said}")
        return subprocess.CompletedProcess(list(map(str, argv)), process.returncode, output, errors)

    def processes(self) -> list[int]:
        """Return the ids of all processes of this user (of a made account: all are the demonstration's)."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if (
                        entry.stat().st_uid == self.uid
                        and "\nState:\tZ" not in (entry / "status").read_text()
                    ):
                        found.append(int(entry.name))
        return found

    def command_lines(self) -> Iterator[tuple[int, list[bytes]]]:
        """Give the processes of this user with their arguments, as far as they have not ended since."""
        for process in self.processes():
            with suppress(OSError):
                yield process, Path(f"/proc/{process}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")

    def named(self, name: str) -> list[int]:
        """Return the processes of this user that have given themselves that name, such as "bubble.view"."""
        return [process for process, words in self.command_lines() if words == [name.encode()]]

    def agents(self) -> list[int]:
        """Return this user's agents."""
        return [
            process for process, words in self.command_lines() if b"appclient" in words and b"agent" in words
        ]

    def end_processes(self, grace_s: float = 3.0) -> None:
        """End what still runs of a made account: politely, after `grace_s` seconds not."""
        if not self.made or self.uid == 0:
            return
        for step, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            deadline = time.monotonic() + patience_s
            while (left := self.processes()) and time.monotonic() < deadline:
                for process in left:
                    with suppress(ProcessLookupError):
                        os.kill(process, step)
                time.sleep(0.05)

    def give(self, path: Path) -> Path:
        """Make `path` this user's; return it."""
        if self.made:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return path


def _scratch() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="replace")


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@contextmanager
def demonstration_user(name: str = "millstream-demo", uid: int | None = None) -> Iterator[DemonstrationUser]:
    """A user for as long as the block lasts; then his processes, his account and his home are gone.

    Two at once under one name take turns. What an earlier, killed run left of the account is removed first.
    `uid` asks for a certain id.
    Not root: the caller himself, with a home and a runtime folder of the block's own.
    """
    if not root():
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            home, runtime = Path(folder) / "home", Path(folder) / "run"
            for place in (home, runtime):
                place.mkdir(mode=0o700)
            caller = pwd.getpwuid(os.getuid())
            yield DemonstrationUser(caller.pw_name, caller.pw_uid, caller.pw_gid, home, runtime, made=False)
        return
    with locked(Path(f"/run/lock/{name}.lock")):
        _delete_user(name)
        asked = [] if uid is None else ["--uid", str(uid)]
        _run(
            *("useradd", "--create-home", "--shell", "/bin/bash", "--comment", "Millstream demonstration"),
            *asked,
            name,
        )
        try:
            account = pwd.getpwnam(name)
            home, runtime = Path(account.pw_dir), Path(f"/run/user/{account.pw_uid}")
            home.chmod(0o700)
            runtime.parent.mkdir(mode=0o755, exist_ok=True)
            runtime.mkdir(mode=0o700, exist_ok=True)
            os.chown(runtime, account.pw_uid, account.pw_gid)
            yield DemonstrationUser(name, account.pw_uid, account.pw_gid, home, runtime, made=True)
        finally:
            _delete_user(name)


def _delete_user(name: str) -> None:
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return
    home, runtime = Path(account.pw_dir), Path(f"/run/user/{account.pw_uid}")
    user = DemonstrationUser(name, account.pw_uid, account.pw_gid, home, runtime, made=True)
    user.end_processes()
    shutil.rmtree(runtime, ignore_errors=True)
    shutil.rmtree(Path("/tmp") / f"millstream-{account.pw_uid}", ignore_errors=True)
    _run("userdel", name)
    if home.parts[:2] == ("/", "home") and home.name == name:
        shutil.rmtree(home, ignore_errors=True)


def _run(*words: str) -> None:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")


@contextmanager
def open_fuse_device() -> Iterator[bool]:
    """Let every user open /dev/fuse for as long as the block lasts, if root must; yields whether it had to.

    Ordinary distributions have it so always. Holders of a shared lock count; the last one puts the old
    mode back, also after holders that were killed: the old mode stands in the lock's file.
    """
    if not root() or not FUSE_DEVICE.exists():
        yield False
        return
    with _FUSE_LOCK.open("a+") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _recorded(lock):
                lock.write(oct(stat.S_IMODE(FUSE_DEVICE.stat().st_mode)))
                lock.flush()
            FUSE_DEVICE.chmod(int(_recorded(lock), 8) | 0o666)
        fcntl.flock(lock, fcntl.LOCK_SH)
        own = int(_recorded(lock) or "0o666", 8)
        try:
            yield own & 0o666 != 0o666
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                FUSE_DEVICE.chmod(int(_recorded(lock) or "0o666", 8))
                lock.truncate(0)


def _recorded(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip()
