"""The worker's side of a capture: base folder, overlay, and commands inside it.

Runs in the enclosure, as root of its user namespace. An overlay is composed over the base; a command gets it
as its root folder, in a mount namespace of its own, with a minimal /dev and few capabilities.
"""

# Raw file names in a mount namespace, where Path adds nothing:
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH110, PTH112, PTH114, PTH120, PTH123, PTH208, PTH211
from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from sequencer import kernel
from sequencer.hostconfig import INSIDE, HostConfig

ROOM = "/tmp"  # noqa: S108 - in a mount namespace of our own: a tmpfs that only the worker sees
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line for /bin/sh inside a capture."""

    line: str
    environment: tuple[tuple[str, str], ...]
    log: int  # descriptor of the log, for what it prints


@dataclass(frozen=True, slots=True)
class Room:
    """A composed root folder: `merged` shows `upper` over `lowers` (topmost first)."""

    merged: str
    upper: str
    lowers: tuple[str, ...]


def furnish(folders: Sequence[tuple[str, str]]) -> None:
    """Make the worker's own view: each folder (relative to here) bound at ROOM/NAME.

    Raises:
        OSError: the kernel refuses.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    kernel.mount("room", ROOM, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    for path, name in folders:
        os.mkdir(f"{ROOM}/{name}")
        os.fchdir(here)
        kernel.mount(path, f"{ROOM}/{name}", flags=kernel.MS_BIND)
    os.close(here)
    os.chdir(ROOM)


def open_room(name: str, upper: str, work: str, lowers: Sequence[str]) -> Room:
    """Compose an overlay over `lowers`, topmost first, at ROOM/`name`.

    Raises:
        OSError: the kernel refuses: the file system below cannot hold an upper, or overlays are not allowed.
    """
    merged = f"{ROOM}/{name}"
    for folder in (merged, upper, work):
        os.makedirs(folder, exist_ok=True)
    if not os.listdir(upper):
        below = os.lstat(lowers[-1])
        os.chmod(upper, stat.S_IMODE(below.st_mode))
        os.chown(upper, below.st_uid, below.st_gid)
        os.utime(upper, ns=(below.st_mtime_ns, below.st_mtime_ns))
    options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},userxattr"
    kernel.mount("overlay", merged, "overlay", 0, options)
    return Room(merged, upper, tuple(lowers))


def close_room(room: Room) -> None:
    """Take the overlay away; its upper stays."""
    kernel.unmount(room.merged)


def borrow(host: HostConfig, files: Sequence[tuple[str, bytes, int]]) -> None:
    """Lay out what the capture borrows, ready to be bound (`files`: name, content, mode)."""
    for folder in ("borrowed", "borrowed/files", "apt"):
        os.mkdir(f"{ROOM}/{folder}")
    for name, content in host.apt.items():
        _write(f"{ROOM}/apt/{name}", content)
    for folder in ("apt.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d", "auth.conf.d"):
        os.makedirs(f"{ROOM}/apt/{folder}", exist_ok=True)
    _write(f"{ROOM}/borrowed/certificates.pem", host.certificates)
    _write(f"{ROOM}/borrowed/pip.conf", host.pip)
    _write(f"{ROOM}/borrowed/resolv.conf", host.name_servers)
    _write(f"{ROOM}/borrowed/hosts", b"127.0.0.1 localhost capture\n::1 localhost\n")
    for name, content, mode in files:
        _write(f"{ROOM}/borrowed/files/{name}", content)
        os.chmod(f"{ROOM}/borrowed/files/{name}", mode)


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def run(room: Room, command: Command) -> int:
    """Run `command` with `room` as its root folder; return its status, as a shell would tell it.

    Whatever it leaves running is killed. Only for the first process of a process namespace.
    """
    child = os.fork()
    if child == 0:
        _execute(room, command)
    status = 1
    while True:
        ended, how = os.waitpid(-1, 0)
        if ended == child:
            code = os.waitstatus_to_exitcode(how)
            status = code if code >= 0 else 128 - code
            break
    end_all()
    return status


def end_all() -> None:
    """Kill everything in this process namespace but this first process."""
    assert os.getpid() == 1, "only in a process namespace of our own: elsewhere this ends the machine"
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ChildProcessError, ProcessLookupError):
        pass


def _execute(room: Room, command: Command) -> NoReturn:
    try:
        os.setsid()
        kernel.unshare(kernel.CLONE_NEWNS)
        _mount_inside(room.merged)
        kernel.enter_root(room.merged)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(command.log, 1)
        os.dup2(command.log, 2)
        os.closerange(3, 4096)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        kernel.bound_capabilities(kernel.INSTALLER_CAPABILITIES)
        os.execve("/bin/sh", ["sh", "-e", "-c", command.line], dict(command.environment))  # noqa: S606
    except OSError as error:
        os.write(command.log, f"cannot start: {error.strerror}: {error.filename}\n".encode())
    finally:
        os._exit(126)


def _mount_inside(root: str) -> None:
    for folder in ("dev", "proc", "sys", "run", "tmp"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    kernel.mount("dev", f"{root}/dev", "tmpfs", kernel.MS_NOSUID, "mode=0755,size=1m")
    for device in DEVICES:
        os.close(os.open(f"{root}/dev/{device}", os.O_CREAT | os.O_WRONLY, 0o666))
        kernel.mount(f"/dev/{device}", f"{root}/dev/{device}", flags=kernel.MS_BIND)
    os.mkdir(f"{root}/dev/pts")
    kernel.mount(
        "devpts", f"{root}/dev/pts", "devpts", kernel.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620"
    )
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    os.mkdir(f"{root}/dev/shm")  # noqa: S108
    kernel.mount("shm", f"{root}/dev/shm", "tmpfs", kernel.MS_NOSUID, "mode=1777")  # noqa: S108
    for link, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{link}")
    kernel.mount("proc", f"{root}/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV)
    kernel.mount("run", f"{root}/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    os.makedirs(f"{root}{INSIDE}")
    os.makedirs(f"{root}/run/lock")
    if not os.path.isdir(f"{ROOM}/borrowed"):
        return
    _bind(f"{ROOM}/borrowed", f"{root}{INSIDE}", read_only=True)
    if os.path.isdir(f"{root}/etc/apt"):
        _bind(f"{ROOM}/apt", f"{root}/etc/apt", read_only=False)
    for name in ("resolv.conf", "hosts"):
        place = f"{root}/etc/{name}"
        if os.path.islink(place) or not os.path.exists(place):
            if os.path.islink(place):
                os.unlink(place)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        _bind(f"{ROOM}/borrowed/{name}", place, read_only=True)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    kernel.mount(source, target, flags=kernel.MS_BIND)
    if read_only:
        flags = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("none", target, flags=flags)
