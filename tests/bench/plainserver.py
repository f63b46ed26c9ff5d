"""A plain HTTP server (nginx) at the far end of the link, and how long a plain download from it takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.link import SERVER_ADDRESS, Link
from tests.ending import end_process

PORT = 8080
_HEADERS = 40 + 12
"""Bytes of IP and TCP in each packet of at most 1500."""

_SEGMENT = 1500 - _HEADERS
_FLOOR_FILE, _FLOOR_BYTES = "floor", 512 << 20

_CONFIGURATION = """
user root; worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; autoindex on; sendfile on; tcp_nopush on;
    keepalive_requests 1000000; keepalive_timeout 600s;
    types {{ }} default_type application/octet-stream;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen {address}:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class PlainServer:
    """A running nginx. `url` ends without a slash; everything under `root` is there."""

    link: Link
    root: Path
    url: str

    def download(self, line_bytes: int) -> float:
        """Return the seconds that curl takes, connection included, to get so many bytes on the line.

        Raises:
            RuntimeError: it does not arrive.
        """
        size = max(1, line_bytes * _SEGMENT // 1500)
        done = subprocess.run(
            [
                *(*self.link.client_prefix, "curl", "--silent", "--show-error", "--fail"),
                *("--range", f"0-{size - 1}", "--output", "/dev/null"),
                *("--write-out", "%{json}", f"{self.url}/{_FLOOR_FILE}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        told = json.loads(done.stdout or "{}")
        if done.returncode or told.get("size_download") != size:
            raise RuntimeError(f"a plain download failed: {done.stderr.strip() or told}")
        return float(told["time_total"])


@contextmanager
def plain_server(link: Link, root: Path, folder: Path) -> Iterator[PlainServer]:
    """Serve `root` for as long as the block lasts; `folder` is for the server's own files.

    Raises:
        RuntimeError: nginx is not there, or does not start.
    """
    if shutil.which("nginx") is None:
        raise RuntimeError("nginx is not installed; run samples/setup --bench")
    folder.mkdir(parents=True, exist_ok=True)
    floor = root / _FLOOR_FILE
    if not floor.exists():
        made = root / f".{_FLOOR_FILE}-{os.getpid()}"
        with made.open("wb") as file:
            for _ in range(_FLOOR_BYTES >> 20):
                file.write(os.urandom(1 << 20))
        made.rename(floor)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, address=SERVER_ADDRESS, port=PORT, root=root), encoding="utf-8"
    )
    process = subprocess.Popen(
        [*link.server_prefix, "nginx", "-c", configuration, "-e", folder / "error.log"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(link, process, PORT)
        yield PlainServer(link, root, f"http://{SERVER_ADDRESS}:{PORT}")
    finally:
        end_process(process)


def wait_for(link: Link, process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until something answers at `port` of the server's end.

    Raises:
        RuntimeError: nothing does after 20 s, or the process ended.
    """
    deadline = time.monotonic() + 20
    probe = f"import socket; socket.create_connection(({SERVER_ADDRESS!r}, {port}), 2)"
    while time.monotonic() < deadline and process.poll() is None:
        done = subprocess.run([*link.client_prefix, "python3", "-c", probe], capture_output=True, check=False)
        if not done.returncode:
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers at port {port} of the server's end")
