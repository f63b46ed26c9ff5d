"""One user's side of a demonstration: signs in, starts applications, sees their windows.

Drives the program `appclient` exactly as that user would, with nothing of the caller's environment.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from samples.demonstration import DemonstrationUser
from sequencer.display import Display
from sequencer.screen import Screen, Window


@dataclass(slots=True)
class Launch:
    """A started application; `seconds` lie between its start and the mapping of `window`, its first."""

    process: subprocess.Popen[str]
    started: float
    said: IO[str]
    window: Window | None = None
    seconds: float | None = None

    def output(self) -> str:
        """Return what it has written so far."""
        self.said.flush()
        return os.pread(self.said.fileno(), 1 << 20, 0).decode(errors="replace")

    def end(self, grace_s: float = 5.0) -> int:
        """Ask it to end, then make it; return its exit status."""
        for step in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, step)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(grace_s)
        self.said.close()
        return self.process.wait(grace_s)


@dataclass(frozen=True, slots=True)
class Received:
    """What the client has had from the server: stored bytes, blocks, and blocks that somebody waited for."""

    bytes: int
    blocks: int
    faults: int


class Visit:
    """What one user does on this machine.

    Args:
        user: who.
        programs: the folder that holds `appclient`.
        environment: added to a fresh login's, such as a display's.
        prefix: what starts each program, such as `ip netns exec NAME`.
    """

    def __init__(
        self,
        user: DemonstrationUser,
        programs: Path,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.user, self._program, self.prefix = user, programs / "appclient", list(prefix)
        self._environment = dict(environment or {})
        self._display: Display | None = None

    def use(self, display: Display) -> None:
        """Show windows on `display`: the user gets its cookie."""
        authority = self.user.runtime / "Xauthority"
        display.write_authority(authority, (self.user.uid, self.user.gid))
        self._environment |= {"DISPLAY": display.name, "XAUTHORITY": str(authority)}
        self._display = display

    def add_environment(self, more: Mapping[str, str]) -> None:
        """Add `more` to what this user's programs see, such as a display that is not ours."""
        self._environment |= more

    def remove_environment(self, *names: str) -> None:
        """Take back what `add_environment` added."""
        for name in names:
            self._environment.pop(name, None)

    def appclient(
        self, *words: str | Path, stdin: str = "", timeout_s: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `appclient` with `words` to its end.

        Raises:
            RuntimeError: `check`, and it did not end with 0.
        """
        return self.user.run(
            [self._program, *words],
            environment=self._environment,
            prefix=self.prefix,
            stdin=stdin,
            timeout_s=timeout_s,
            check=check,
        )

    def login(self, url: str, name: str, password: str, fingerprint: str = "") -> None:
        """Sign in to the server at `url`, accepting its certificate by `fingerprint` if it needs that."""
        accept = ["--accept-fingerprint", fingerprint] if fingerprint else []
        self.appclient("login", url, "--user", name, "--password-stdin", *accept, stdin=password + "\n")

    def status(self) -> dict[str, Any]:
        """Return what `appclient status --json` says."""
        return dict(json.loads(self.appclient("status", "--json").stdout))

    def received(self) -> Received:
        """Return what all bubbles of this user have had from the server."""
        tallies = self.status()["bubbles"].values()
        return Received(
            bytes=sum(int(tally["bytes_received"]) for tally in tallies),
            blocks=sum(int(tally["blocks_fetched"]) for tally in tallies),
            faults=sum(int(tally["faults_served"]) for tally in tallies),
        )

    def start(self, application: str, *files: str | Path) -> Launch:
        """Start `application` on `files` and return at once."""
        said = _scratch()
        started = time.monotonic()
        process = self.user.popen(
            [self._program, "run", application, *files],
            environment=self._environment,
            prefix=self.prefix,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        return Launch(process, started, said)

    def launch(
        self, application: str, *files: str | Path, screen: Screen | None = None, timeout_s: float = 180
    ) -> Launch:
        """Start `application` and wait for its first window on the display in use (or on `screen`).

        Raises:
            RuntimeError: it ended, or `timeout_s` seconds passed, without one; the message says what it said.
        """
        assert screen is not None or self._display is not None, "there is no display"
        own = self._display.screen() if screen is None and self._display is not None else None
        looking = screen or own
        assert looking is not None
        looking.forget()
        launch = self.start(application, *files)
        try:
            launch.window = looking.first_window(timeout_s, ended=lambda: launch.process.poll() is not None)
        finally:
            if own is not None:
                own.close()
            if launch.window is None:
                waited, said, status = (
                    time.monotonic() - launch.started,
                    launch.output(),
                    launch.process.poll(),
                )
                launch.end()
        if launch.window is None:
            status_text = "it still ran" if status is None else f"it ended with {status}"
            raise RuntimeError(
                f"{application} showed no window in {waited:.0f} s ({status_text}): {said[-2000:].strip()}"
            )
        launch.seconds = launch.window.mapped_at - launch.started
        return launch

    def converse(self, application: str, *files: str | Path, typed: str = "", timeout_s: float = 180) -> str:
        """Run a console application on a terminal, type `typed` at once, and return what it wrote.

        Raises:
            RuntimeError: it did not end with 0 in time; the message says what it wrote.
        """
        ours, theirs = pty.openpty()
        try:
            process = self.user.popen(
                [self._program, "run", application, *files],
                environment={**self._environment, "TERM": "xterm"},
                prefix=self.prefix,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)
        said = b""
        deadline = time.monotonic() + timeout_s
        try:
            os.write(ours, typed.encode())
            while time.monotonic() < deadline:
                if select.select([ours], [], [], 0.2)[0]:
                    try:
                        said += os.read(ours, 65536)
                    except OSError:  # EIO: nobody has the other end any more
                        break
                elif process.poll() is not None:
                    break
            process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        finally:
            os.close(ours)
        text = said.decode(errors="replace").replace("\r\n", "\n")
        if process.returncode:
            raise RuntimeError(f"{application} ended with {process.returncode}: {text[-2000:]}")
        return text

    def settle(self, timeout_s: float = 20) -> None:
        """Wait until the agent has all that it has some time after a login: its launcher."""
        deadline = time.monotonic() + timeout_s
        while not (self.user.runtime / "millstream/launcher.sock").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the agent has no launcher")
            time.sleep(0.02)

    def leave(self) -> None:
        """End the agent, as at a logout."""
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            self.appclient("stop", timeout_s=20)


def _scratch() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="replace")
