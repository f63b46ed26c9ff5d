"""What else brings an application over a link, each with its best options: the competition.

Every peer shows the same files (`images`) as lower folders of the same composition as native (`baseline`).
The clock runs from before its first command: what it must download or mount first is part of it. Before that
its caches are emptied, the page cache is dropped, the server's files are read once (a server in use has them
in memory), and so are the peer's own programs (a machine in use has them, too).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import images as forms
from tests.bench.baseline import OUT_OF_TIME
from tests.bench.images import Images
from tests.bench.link import SERVER_ADDRESS, Link
from tests.bench.plainserver import PlainServer, wait_for
from tests.ending import end_process
from tests.stage import Stage

DAV_PORT = 8081
LIMIT_S = 120.0
"""A peer that shows no window in this time has run out of time, and is reported as that."""

_AS_USER = ("setpriv", f"--reuid={forms.UID}", f"--regid={forms.UID}", "--clear-groups", "--")
_RCLONE = (
    *("--config", "/dev/null", "--allow-other", "--read-only", "--vfs-cache-mode", "full"),
    *("--dir-cache-time", "1000h", "--attr-timeout", "1000h", "--poll-interval", "0"),
    *("--vfs-fast-fingerprint", "--no-checksum", "--use-server-modtime", "--vfs-read-wait", "0"),
    *("--dir-perms", "0755", "--file-perms", "0755", "--uid", str(forms.UID), "--gid", str(forms.UID)),
)
"""Everything cached for ever, nothing checked twice."""

_BY_FILE = ("--vfs-read-chunk-size", "1M", "--vfs-read-chunk-size-limit", "16M", "--buffer-size", "0")
_BY_BLOCK = ("--vfs-read-chunk-size", "1M", "--vfs-read-chunk-size-limit", "1M", "--buffer-size", "0")
_IMAGE_READAHEAD_SECTORS = 256


@dataclass(frozen=True, slots=True)
class Ground:
    """What a peer stands on. `place` is its own folder, empty, which the user can read."""

    on: Stage
    link: Link
    server: PlainServer
    images: Images
    place: Path

    def url(self, form: str) -> str:
        """Return where the plain server shows a form."""
        path = (self.images.folder / form).relative_to(self.server.root)
        return f"{self.server.url}/{path}"

    def client(self, *words: str | Path, as_user: bool = False) -> None:
        """Run a command at the client's end.

        Raises:
            RuntimeError: it failed; the message holds what it said.
        """
        done = subprocess.run(
            [*self.link.client_prefix, *(_AS_USER if as_user else ()), *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-1000:]}")

    @contextmanager
    def mounted(self, target: Path, *words: str | Path, as_user: bool = False) -> Iterator[None]:
        """Run a command that mounts at `target` at the client's end, for as long as the block lasts."""
        target.mkdir(exist_ok=True)
        if as_user:
            os.chown(target, forms.UID, forms.UID)
        with (self.place / f"{target.name}.log").open("w+") as log:
            process = subprocess.Popen(
                [*self.link.client_prefix, *(_AS_USER if as_user else ()), *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                deadline = time.monotonic() + LIMIT_S
                while not _is_mounted(target):
                    if process.poll() is not None:
                        log.seek(0)
                        raise RuntimeError(f"{words[0]} mounts nothing: {log.read()[-1000:]}")
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{words[0]}: {OUT_OF_TIME}no mount in {LIMIT_S:.0f} s")
                    time.sleep(0.002)
                yield
            finally:
                subprocess.run(["umount", "-l", target], check=False, capture_output=True)
                end_process(process)


@dataclass(frozen=True, slots=True)
class Peer:
    """One competitor. `served` are the forms that its server holds, `programs` what it is made of."""

    name: str
    served: tuple[str, ...]
    programs: tuple[str, ...]
    lowers: tuple[str, ...]
    """Folders in the ground's place where the files appear, topmost first."""

    bring: Callable[[Ground], AbstractContextManager[None]]
    serve: Callable[[Ground], AbstractContextManager[None]] | None = None
    """A server of its own, running before the clock does."""

    def warm(self, ground: Ground) -> None:
        """Read what the server holds and the peer's programs into the page cache."""
        places = [str(ground.images.folder / form) for form in self.served]
        places += [found for program in self.programs if (found := shutil.which(program))]
        subprocess.run(
            ["find", *places, "-type", "f", "-exec", "cat", "{}", "+"], check=True, stdout=subprocess.DEVNULL
        )

    def folders(self, ground: Ground) -> Sequence[Path]:
        """Return the lower folders that `bring` makes appear."""
        return [ground.place / name for name in self.lowers]


@contextmanager
def _archive(ground: Ground) -> Iterator[None]:
    tree = ground.place / "tree"
    tree.mkdir()
    os.chown(tree, forms.UID, forms.UID)
    script = 'curl -sSf "$1" | zstd -dcq --long=27 | tar -C "$2" -xpf -'
    ground.client(
        *("bash", "-o", "pipefail", "-ec", script, "bash", ground.url(forms.ARCHIVE), tree), as_user=True
    )
    yield


@contextmanager
def _dav_server(ground: Ground) -> Iterator[None]:
    process = subprocess.Popen(
        [
            *(*ground.link.server_prefix, "rclone", "serve", "webdav", ground.images.tree),
            *("--config", "/dev/null", "--read-only", "--dir-cache-time", "1000h"),
            *("--addr", f"{SERVER_ADDRESS}:{DAV_PORT}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(ground.link, process, DAV_PORT)
        yield
    finally:
        end_process(process)


@contextmanager
def _rclone(ground: Ground) -> Iterator[None]:
    """Files over WebDAV, the kindest protocol that rclone speaks here: one request lists a folder with sizes.

    It carries no symbolic links: those come first, as a small archive, in a layer of their own. By `mount2`:
    over `mount` overlayfs reads no file (its answer to getxattr is EIO).
    """
    mount, links = ground.place / "mount", ground.place / "links"
    with ground.mounted(
        mount,
        *("rclone", "mount2", ":webdav:", mount, "--webdav-url", f"http://{SERVER_ADDRESS}:{DAV_PORT}/"),
        *("--webdav-vendor", "other", "--cache-dir", ground.place / "cache", *_RCLONE, *_BY_FILE),
    ):
        links.mkdir()
        os.chown(links, forms.UID, forms.UID)
        script = 'curl -sSf "$1" | zstd -dcq | tar -C "$2" -xpf -'
        ground.client(
            *("bash", "-o", "pipefail", "-ec", script, "bash", ground.url(forms.LINKS), links), as_user=True
        )
        yield


@contextmanager
def _image(ground: Ground, form: str, kind: str) -> Iterator[None]:
    """One file over an HTTP mount, and the kernel's own driver on it."""
    mount, tree = ground.place / "mount", ground.place / "tree"
    url = ground.url(form)
    with ground.mounted(
        mount,
        *(
            "rclone",
            "mount",
            ":http:",
            mount,
            "--http-url",
            f"{url.rsplit('/', 1)[0]}/",
            "--include",
            f"/{form}",
        ),
        *("--cache-dir", ground.place / "cache", *_RCLONE, *_BY_BLOCK),
    ):
        tree.mkdir()
        device = _output("losetup", "--find", "--show", "--read-only", mount / form)
        try:
            _output("blockdev", "--setra", str(_IMAGE_READAHEAD_SECTORS), device)
            _output("mount", "-t", kind, "-o", "ro,nosuid,nodev", device, tree)
            try:
                yield
            finally:
                _output("umount", "-l", tree)
        finally:
            _output("losetup", "--detach", device)


@contextmanager
def _casync(ground: Ground) -> Iterator[None]:
    tree = ground.place / "tree"
    with ground.mounted(
        tree,
        *("casync", "mount", f"--store={ground.url(forms.STORE)}", ground.url(forms.INDEX), tree),
        as_user=True,
    ):
        yield


PEERS = {
    peer.name: peer
    for peer in (
        Peer("archive", (forms.ARCHIVE,), ("curl", "zstd", "tar", "bash"), ("tree",), _archive),
        Peer(
            *("rclone", (forms.LINKS, forms.TREE), ("rclone", "curl", "zstd", "tar", "bash")),
            *(("links", "mount"), _rclone, _dav_server),
        ),
        Peer(
            *("squashfs", (forms.SQUASHFS,), ("rclone", "losetup", "mount"), ("tree",)),
            lambda ground: _image(ground, forms.SQUASHFS, "squashfs"),
        ),
        Peer(
            *("erofs", (forms.EROFS,), ("rclone", "losetup", "mount"), ("tree",)),
            lambda ground: _image(ground, forms.EROFS, "erofs"),
        ),
        Peer("casync", (forms.INDEX, forms.STORE), ("casync", "curl"), ("tree",), _casync),
    )
}


def _is_mounted(target: Path) -> bool:
    """Whether something is mounted there, even if it answers its own user alone."""
    return f" {target} " in Path("/proc/self/mountinfo").read_text()


def _output(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout.strip()
