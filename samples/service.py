"""A stream server for a while: made in a folder, started on a free port, ended with the block.

Used by `samples/quickstart`, by the system tests, the benchmark and `tests/show`; drives the program
`streamserver` exactly as an administrator would.
"""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_READY_S = 30.0


class Service:
    """A running server: `with Service(folder, programs) as service: service.url`.

    Args:
        folder: where it keeps everything; made by `streamserver init` if it is empty.
        program: the `streamserver` program.
        host: address to listen on. Anything but loopback gets a certificate of its own making.
        prefix: what starts the server, such as `ip netns exec NAME`.
        log: where its access log goes; nowhere by default.
        fingerprint: SHA-256 of its certificate, where the folder is there already.
    """

    def __init__(
        self,
        folder: Path,
        program: Path,
        *,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        log: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        self.folder, self._program, self._host = folder, program, host
        self._prefix, self._log = list(prefix), log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.port = 0
        self.fingerprint = fingerprint
        """SHA-256 of the certificate, as `init` told it; empty without one."""

    def __enter__(self) -> Service:
        if not self.folder.exists() or not any(self.folder.iterdir()):
            self.initialise()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def initialise(self) -> None:
        """Make the folder of a new server."""
        own = [] if self._host.startswith("127.") else ["--self-signed", self._host]
        told = self.command("init", *own)
        found = re.search(r"(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}|\b[0-9a-f]{64}\b", told)
        self.fingerprint = found.group(0) if own and found else ""

    def start(self) -> None:
        """Start serving, on the port of before if there was one.

        Raises:
            RuntimeError: it is not ready after half a minute; the message holds what it said.
        """
        listen = f"{self._host}:{self.port}"
        with (self._log or Path("/dev/null")).open("a") as log:
            self._process = subprocess.Popen(
                [*self._prefix, str(self._program), "serve", str(self.folder), "--listen", listen, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if select.select([self._process.stdout], [], [], 0.2)[0]:
                line = self._process.stdout.readline()
                if line.startswith("{"):
                    told = json.loads(line)
                    if told.get("event") == "serving":
                        self.url = str(told["url"])
                        self.port = int(self.url.rsplit(":", 1)[1].rstrip("/"))
                        return
        self.stop()
        raise RuntimeError(f"streamserver is not ready after {_READY_S:.0f} s: see {self._log or 'its log'}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it; return its exit status (None: it did not run)."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
        return process.returncode

    def command(self, *words: str | Path, stdin: str = "", timeout_s: float = 600) -> str:
        """Run one administrator's command on this server's folder; return what it said.

        The first word is the command; the folder is put behind it, or behind its sub-command.

        Raises:
            RuntimeError: it did not end with 0; the message holds what it said.
        """
        done = self.attempt(*words, stdin=stdin, timeout_s=timeout_s)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def attempt(
        self, *words: str | Path, stdin: str = "", timeout_s: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run one administrator's command on this server's folder, whatever comes of it."""
        return subprocess.run(
            [str(self._program), *map(str, words), "--dir", str(self.folder)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def publish(self, packages: Sequence[Path], group: str) -> None:
        """Import `packages` (bottom first) and let `group` run the last."""
        for package in packages:
            self.command("import", package)
        self.entitle(self.package_name(packages[-1]), group)

    def entitle(self, package: str, group: str) -> None:
        """Let `group` run `package`."""
        self.command("entitle", package, group)

    def person(self, user: str, password: str, *groups: str) -> None:
        """Make a user with a password, in `groups` (made if they are not there)."""
        self.command("user", "add", user, "--password-stdin", stdin=password + "\n")
        for group in groups:
            self.attempt("group", "add", group)
            self.command("group", "join", group, user)

    def packages(self) -> list[dict[str, Any]]:
        """Return what `streamserver packages list --json` says, a line for each package."""
        return [json.loads(line) for line in self.command("packages", "list", "--json").splitlines()]

    @staticmethod
    def package_name(package: Path) -> str:
        """Return the name in the file name NAME_VERSION.ovp."""
        return package.name.split("_", 1)[0]
