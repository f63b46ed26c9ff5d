"""The slow link: two network namespaces and `tests/bench/wanlink` between them."""

from __future__ import annotations

import fcntl
import select
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ending import end_process

SERVER_ADDRESS = "198.18.0.2"
_LOCK = Path("/run/lock/millstream-wanlink.lock")


@dataclass(frozen=True, slots=True)
class Link:
    """Both ends: what starts a program at each. `tally` is the file where the relay counts."""

    tally: Path
    relay: subprocess.Popen[str]
    server_prefix: tuple[str, ...] = ("nsenter", "--net=/run/netns/wan-server", "--")
    client_prefix: tuple[str, ...] = ("nsenter", "--net=/run/netns/wan-client", "--")

    def received(self) -> int:
        """Return the bytes on the line, IP headers and all, that the client's interface has received."""
        return int(struct.unpack("=QQ", self.tally.read_bytes())[0])

    def shape(self, mbit: float, rtt_ms: float, loss: float = 0.0) -> None:
        """Change the link while it is up; see `slow_link`."""
        assert self.relay.stdin is not None
        assert self.relay.stdout is not None
        self.relay.stdin.write(f"{mbit} {rtt_ms} {loss}\n")
        self.relay.stdin.flush()
        if self.relay.stdout.readline().strip() != "shaped":
            raise RuntimeError("the slow link does not take another shape")

    def congestion_control(self) -> str:
        """Return how the server's TCP paces itself, for the record."""
        told = subprocess.run(
            [*self.server_prefix, "cat", "/proc/sys/net/ipv4/tcp_congestion_control"],
            check=True,
            capture_output=True,
            text=True,
        )
        return told.stdout.strip()


@contextmanager
def slow_link(mbit: float, rtt_ms: float, loss: float = 0.0) -> Iterator[Link]:
    """Bring the link up for as long as the block lasts; two at once take turns.

    Args:
        mbit: megabits a second, each way.
        rtt_ms: milliseconds for the way there and back.
        loss: share of the packets that get lost, each way.

    Raises:
        RuntimeError: it does not come up (root, /dev/net/tun and iproute2 are needed).
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock, tempfile.TemporaryDirectory(prefix="millstream-wanlink-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("wan-server", "wan-client"):  # what a killed run left
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        tally = Path(folder) / "tally"
        process = subprocess.Popen(
            [  # first of all, as a wire would be: what it measures must not slow it down. It ends with us.
                *("setpriv", "--pdeathsig", "TERM"),
                *("nice", "-n", "-20", sys.executable, Path(__file__).parent / "wanlink", "--tally", tally),
                *("--mbit", str(mbit), "--rtt-ms", str(rtt_ms), "--loss", str(loss), "up"),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            ready = select.select([process.stdout], [], [], 20)[0]
            if not ready or not process.stdout.readline().startswith("link up"):
                raise RuntimeError("the slow link does not come up; it needs root, /dev/net/tun and iproute2")
            yield Link(tally, process)
        finally:
            end_process(process)
