"""A real server with small packages, and an ordinary user with a client: what the client's tests share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import shake_256
from pathlib import Path
from typing import Any

from packageformat.application import Application, Icon
from packageformat.policy import Policy
from tests.accounts import REPOSITORY, Account, demonstration_account
from tests.ending import end_process
from tests.packages import PUBLISHER, BuiltPackage, Kind, Node, build_package

PASSWORD = "correct horse"
TOOLS = ("dash", "cat", "ls", "sha256sum", "sleep", "touch", "rm", "head", "stat", "id", "dd")
"""Programs of this machine that the little runtime is made of."""

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


@dataclass
class Server:
    """A stream server of its own, on a port that it keeps."""

    folder: Path
    process: subprocess.Popen[str] | None = None
    port: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder.with_suffix(".log")

    @property
    def url(self) -> str:
        scheme = "https" if (self.folder / "certificate.pem").exists() else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def command(self, *words: str | Path, stdin: str = "") -> str:
        """Run a command of the server's; its folder comes from the environment."""
        done = subprocess.run(
            [sys.executable, "-m", "streamserver", *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=60,
            env={**os.environ, "MILLSTREAM_SERVER": str(self.folder)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamserver", "serve", str(self.folder),
                 "--listen", f"127.0.0.1:{self.port}", "--json"],
                stdout=subprocess.PIPE, stderr=log, text=True, cwd=REPOSITORY,
            )  # fmt: skip
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.port = int(told["url"].rpartition(":")[2])

    def stop(self) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            assert end_process(process, 15) == 0

    def person(self, name: str, *groups: str) -> None:
        self.command("user", "add", name, "--password-stdin", stdin=PASSWORD + "\n")
        for group in groups:
            self.command("group", "join", group, name)

    def served(self) -> list[dict[str, Any]]:
        """Return what the access log says of objects that were read."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [told for told in map(json.loads, lines) if told["path"].startswith("/v1/objects/")]


@dataclass
class ClientStage:
    """A user, a server, and where their files are."""

    user: Account
    server: Server
    folder: Path

    def client(
        self, *arguments: str | Path, stdin: str = "", code: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = self.user.run(self.user.program("appclient", *map(str, arguments)), stdin=stdin, **environment)
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, (done.returncode, done.stdout, done.stderr, self.agent_log())
        if done.returncode and code and arguments[0] not in ("cache", "run"):
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done

    def script(self, text: str, *, code: int | None = 0, application: str = "probe") -> str:
        """Run a shell script in the application's bubble; return what it printed."""
        return self.client("run", application, "--command", "/bin/sh", "--", "-c", text, code=code).stdout

    def login(self, name: str = "ann", *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        arguments = ("login", self.server.url, "--user", name, "--password-stdin", *more)
        return self.client(*arguments, stdin=PASSWORD + "\n", code=code)

    def status(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.client("status", "--json").stdout)
        return value

    def tally(self, package: str = "probe") -> dict[str, Any]:
        for tally in self.status()["bubbles"].values():
            if tally["package"].split(" ")[0] == package:
                found: dict[str, Any] = tally
                return found
        raise LookupError(package)

    def publish(self, built: BuiltPackage, group: str = "everybody") -> None:
        self.server.command("import", built.path)
        if built.manifest.kind == "application":
            self.server.command("entitle", built.manifest.name, group)

    def forget(self) -> None:
        """End the agent and all bubbles; nothing is left of the client."""
        self.user.end_processes()
        for name in (".cache", ".local", ".config"):
            shutil.rmtree(self.user.home / name, ignore_errors=True)
        shutil.rmtree(self.user.runtime / "millstream", ignore_errors=True)

    def agent_log(self) -> str:
        log = self.user.home / ".local/state/millstream/agent.log"
        return log.read_text() if log.exists() else ""

    @property
    def cache(self) -> Path:
        return self.user.home / ".cache/millstream"

    def agents(self) -> list[int]:
        return self.user.user.agents()


def little_runtime() -> dict[str, bytes | Node]:
    """Return the files of a runtime of a shell and a few tools, taken from this machine."""
    files: dict[str, bytes | Node] = {}
    for tool in TOOLS:
        source = Path(shutil.which(tool) or f"/bin/{tool}").resolve()
        files[f"usr/bin/{tool}"] = source.read_bytes()
        for line in subprocess.run(["ldd", source], capture_output=True, text=True).stdout.splitlines():
            words = line.replace("=>", "").split()
            path = next((word for word in words if word.startswith("/")), None)
            if path is not None:
                real = Path(path)
                files["usr" + str(Path(path)) if not path.startswith("/usr") else path[1:]] = (
                    real.read_bytes()
                )
    files["usr/bin/sh"] = Node(Kind.SYMLINK, mode=0o777, target=b"dash")
    for name in ("bin", "lib", "lib64"):
        files[name] = Node(Kind.SYMLINK, mode=0o777, target=f"usr/{name}".encode())
    return files


def noise(seed: bytes, size: int) -> bytes:
    """Return bytes that do not compress, the same each time."""
    return shake_256(seed).digest(size)


def probe_files() -> dict[str, bytes | Node]:
    """Return the files of the package that the tests run: a program, a large file, many small ones."""
    files: dict[str, bytes | Node] = {
        "usr/bin/probe": b'#!/bin/sh\necho "probe:$#"; for each in "$@"; do cat "$each"; done\n',
        "usr/share/probe/large": noise(b"large", 6 << 20),
        "usr/share/icons/probe.png": Node(Kind.SYMLINK, mode=0o777, target=b"real.png"),
        "usr/share/icons/real.png": PNG,
    }
    for number in range(200):
        files[f"usr/share/probe/small/{number}"] = noise(b"small %d" % number, 1000 + 97 * number)
    return files


PROBE = Application(
    id="org.example.Probe",
    name="The Probe",
    command="probe %F",
    comment="Looks around",
    icon="probe",
    icons=(Icon(b"usr/share/icons/probe.png", 48),),
    categories=("Utility",),
    mime_types=("text/plain",),
)


@contextmanager
def client_stage(folder: Path, *, tls: bool = False) -> Iterator[ClientStage]:
    """Set up a server that publishes `probe` to `ann` (and nothing to `bob`), and a user."""
    folder.chmod(0o755)
    server = Server(folder / "server")
    server.command("init", *(("--self-signed", "127.0.0.1") if tls else ()))
    server.command("trust", "add", PUBLISHER.hex())
    server.command("group", "add", "everybody")
    server.person("ann", "everybody")
    server.person("bob")
    runtime = build_package(folder, "little", little_runtime(), kind="runtime")
    probe = build_package(
        folder, "probe", probe_files(), requires=[runtime], applications=[PROBE], policy=Policy()
    )
    server.start()
    try:
        with demonstration_account("millstream-client") as user:
            stage = ClientStage(user, server, folder)
            stage.publish(runtime)
            stage.publish(probe)
            yield stage
    finally:
        server.stop()


def wait_until(question: Any, seconds: float = 20, what: str = "") -> None:
    """Wait until `question()` is true."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def kill(process: int) -> None:
    """Kill a process of the test's own user as a crash would."""
    os.kill(process, signal.SIGKILL)
