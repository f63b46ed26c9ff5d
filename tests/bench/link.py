"""The slow link: two network namespaces and `tests/bench/wanlink` between them."""

from __future__ import annotations

import fcntl
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_ADDRESS = "198.18.0.2"
_LOCK = Path("/run/lock/millstream-wanlink.lock")


@dataclass(frozen=True, slots=True)
class Link:
    """Both ends: what starts a program at each."""

    server_prefix: tuple[str, ...] = ("nsenter", "--net=/run/netns/wan-server", "--")
    client_prefix: tuple[str, ...] = ("nsenter", "--net=/run/netns/wan-client", "--")

    def received(self) -> int:
        """Return the bytes, IP headers and all, that the client's interface has received."""
        told = subprocess.run(
            ["ip", "-netns", "wan-client", "-s", "-j", "link", "show", "wan0"],
            check=True,
            capture_output=True,
            text=True,
        )
        return int(json.loads(told.stdout)[0]["stats64"]["rx"]["bytes"])


@contextmanager
def slow_link(mbit: float, rtt_ms: float) -> Iterator[Link]:
    """Bring the link up for as long as the block lasts; two at once take turns.

    Raises:
        RuntimeError: it does not come up (root, /dev/net/tun and iproute2 are needed).
    """
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("wan-server", "wan-client"):  # what a killed run left
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / "wanlink"),
                "--mbit",
                str(mbit),
                "--rtt-ms",
                str(rtt_ms),
                "up",
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            ready = select.select([process.stdout], [], [], 20)[0]
            if not ready or not process.stdout.readline().startswith("link up"):
                raise RuntimeError("the slow link does not come up; it needs root, /dev/net/tun and iproute2")
            yield Link()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
