"""A display of our own: Xvfb on a free number, with a cookie of its own.

It ends with its `with` block, or with the process that started it. `sequencer.screen` is what looks at it
(or at the user's own display).
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from sequencer.errors import HostError
from sequencer.screen import Screen, Window

__all__ = ["Display", "Screen", "Window"]

_START_S = 20.0
_NUMBERS = (90, 190)
_LOCKS = Path("/tmp")  # noqa: S108 - X's own well-known place
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535


class Display:
    """An X display of our own: `with Display() as display: ... display.environment`.

    Args:
        width: pixels.
        height: pixels.

    Raises:
        HostError: Xvfb is not installed, or does not start.
    """

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        self._size = (width, height)
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._cookie = secrets.token_bytes(16)
        self.number = -1

    def __enter__(self) -> Display:
        program = shutil.which("Xvfb")
        if program is None:
            raise HostError("Xvfb is not installed", hint="apt-get install xvfb")
        if not os.access(_LOCKS, os.W_OK):
            raise HostError(f"{_LOCKS} cannot be written to, as Xvfb must", hint=f"chmod 1777 {_LOCKS}")
        self._folder = Path(tempfile.mkdtemp(prefix="millstream-display-"))
        try:
            self.write_authority(self.authority)
            # Xvfb's own search (-displayfd) locks nothing and takes over another's socket;
            # with a number it takes that number's lock file, or ends at once.
            for number in range(*_NUMBERS):
                if not _answers(_socket_path(number)):
                    self.number = number
                    if self._start(program):
                        return self
                    self._end()
        except BaseException:
            self.close()
            raise
        self.close()
        raise HostError("no X display could be started", hint="run 'Xvfb :90' by hand to see why")

    def _start(self, program: str) -> bool:
        # setpriv: whatever happens to us, the server does not outlive us.
        self._server = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", program, self.name),
                *("-auth", str(self.authority), "-nolisten", "tcp", "-nolisten", "local", "-noreset"),
                *("-screen", "0", f"{self._size[0]}x{self._size[1]}x24"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._server.poll() is None:
            if _answers(self.socket_path):
                return self._server.poll() is None
            time.sleep(0.01)
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """What DISPLAY must say, such as `:99`."""
        return f":{self.number}"

    @property
    def authority(self) -> Path:
        """The cookie's file, readable by us alone; others get theirs from `write_authority`."""
        assert self._folder is not None, "the display is not running"
        return self._folder / "Xauthority"

    @property
    def socket_path(self) -> Path:
        """The display's unix socket."""
        return _socket_path(self.number)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment: DISPLAY and XAUTHORITY."""
        return {"DISPLAY": self.name, "XAUTHORITY": str(self.authority)}

    def write_authority(self, path: Path, owner: tuple[int, int] | None = None) -> None:
        """Write the cookie, which lets its holder connect, to `path` (0600; for `owner`: uid, gid)."""
        entry = struct.pack(">HH18sH16s", 0, 18, b"MIT-MAGIC-COOKIE-1", 16, self._cookie)
        host = socket.gethostname().encode()
        wild = struct.pack(">HH", _FAMILY_WILD, 0) + entry
        local = struct.pack(f">HH{len(host)}s", _FAMILY_LOCAL, len(host), host) + entry
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, local + wild)
            if owner is not None:
                os.fchown(descriptor, *owner)
        finally:
            os.close(descriptor)

    def screen(self) -> Screen:
        """Return a new connection to this display."""
        return Screen(self.name, self.authority)

    def close(self) -> None:
        """End the server and remove its files; harmless when done already."""
        self._end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _end(self) -> None:
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        self.number = -1


def _socket_path(number: int) -> Path:
    return Path(f"/tmp/.X11-unix/X{number}")  # noqa: S108 - X's own well-known place


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
