"""What this host lets an ordinary user do, tried out in a process of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bubble import fuse, namespaces
from bubble.errors import LaunchError, NoFuseError, NoUserNamespacesError, OverlayError


@dataclass(frozen=True, slots=True)
class Host:
    """What works here; for what does not, `reason` says why in the host's own words."""

    userns: bool
    fuse: bool
    overlay: bool
    bwrap: bool
    reason: str = ""
    folder: Path | None = None  # where the overlay was tried

    def require(self) -> None:
        """Do nothing if a bubble can run here.

        Raises:
            NoUserNamespacesError, NoFuseError, OverlayError, LaunchError: the first thing that is missing.
        """
        if not self.bwrap:
            raise LaunchError("bubblewrap is not installed", hint="install the package 'bubblewrap'")
        if not self.userns:
            raise NoUserNamespacesError(f"this host refuses user namespaces: {self.reason}")
        if not self.fuse:
            raise NoFuseError(f"{fuse.DEVICE} cannot be used: {self.reason}")
        if not self.overlay:
            raise OverlayError(f"no overlay can be mounted over {self.folder}: {self.reason}")


def probe(folder: Path | None = None) -> Host:
    """Try what a bubble needs and return what works. Changes nothing, leaves nothing.

    Args:
        folder: where uppers would lie; None tries a temporary folder.
    """
    bwrap = shutil.which("bwrap") is not None
    parent = folder
    while parent is not None and not parent.is_dir():
        parent = parent.parent
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=parent) as scratch:
        inward, outward = os.pipe()
        process = os.fork()
        if not process:
            os.close(inward)
            answer = _tried(Path(scratch))
            os.write(outward, answer.encode())
            os._exit(0)
        os.close(outward)
        with os.fdopen(inward, "rb") as pipe:
            step, _, reason = pipe.read().decode().partition("\n")
        os.waitpid(process, 0)
    passed = {"namespaces": 0, "fuse": 1, "overlay": 2, "": 3}.get(step, 0)
    return Host(passed > 0, passed > 1, passed > 2, bwrap, reason, folder or parent)


def require_once(folder: Path, memory: Path) -> None:
    """Do nothing if a bubble can run here, or could when this was asked before, since the machine started.

    Args:
        folder: where uppers would lie.
        memory: file that tells.

    Raises:
        NoUserNamespacesError, NoFuseError, OverlayError, LaunchError: the first thing that is missing.
    """
    works = f"{Path('/proc/sys/kernel/random/boot_id').read_text()}{folder}\n"
    with suppress(OSError, ValueError):
        if memory.read_text() == works:
            return
    probe(folder).require()
    with suppress(OSError):
        memory.write_text(works)


def _tried(scratch: Path) -> str:
    """Return the step that failed and why, or nothing. Runs in a process of its own."""
    step = "namespaces"
    try:
        uid, gid = os.getuid(), os.getgid()
        for name in ("lower", "upper", "work", "root"):
            (scratch / name).mkdir()
        namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
        namespaces.map_own_ids(uid, gid)
        namespaces.mount("none", "/", "", namespaces.MS_REC | namespaces.MS_PRIVATE)
        step = "fuse"
        os.close(fuse.open_device())
        step = "overlay"
        namespaces.mount_overlay(scratch / "lower", scratch / "upper", scratch / "work", scratch / "root")
    except Exception as error:  # noqa: BLE001 - another process waits for the answer
        return f"{step}\n{getattr(error, 'strerror', None) or error}"
    return "\n"
