"""`python -m bubble.keeper`: makes a bubble's namespaces and mounts, then is its process 1 to the end.

Started by launch.py, detached from the application that is started. The first half runs outside the new
process namespace and reports each step that the host refuses; the second half is the bubble's init: it
reaps what nobody else does, and ends, and the bubble with it, when no other process is left inside.
Nothing of an application's ever runs here.
"""

from __future__ import annotations

import _thread
import array
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bubble import acquaintance, fuse, namespaces
from bubble.mountplace import open_real, pin

LOCK_PATIENCE = 0.02
"""Seconds between two looks at a bubble that seems empty while somebody is about to enter it."""


SHARED_SIZE = "25%"
"""Of the memory, at most, for a bubble's /tmp, /run and /dev/shm together."""

HOST_FOLDERS = ("fonts", "local-fonts", "fonts-cache")
HOST_FILES = ("Xauthority", "pulse-cookie")
"""What bubblewrap mounts on in /run/host."""


@dataclass(frozen=True, slots=True)
class KeeperTask:
    """What the launching process tells the keeper, as JSON on its standard input."""

    flags: int  # namespaces to make
    folder: str  # the bubble's runtime folder, with view, root, shared, home
    upper: str
    work: str
    home: str  # the private home
    documents: list[str]  # document folders, paths without links
    pins: list[tuple[str, str, bool]]  # what nobody inside may rename: base, path in it, whether a folder
    x11: bool  # whether there is a place for a display's socket
    lock: str  # file whose lock a process holds while it enters
    record: str  # file that says that the bubble runs; removed at the end
    control: int  # socket to the launching process
    door: int  # socket to the view
    kept: list[int]  # descriptors to keep open to the end


class _RefusedError(Exception):
    """A step that the host refuses; `args` are the step and the OSError."""


def main(told: dict[str, Any] | None = None) -> int:
    """Make the bubble and keep it. `told`, or what standard input says, is the task."""
    task = KeeperTask(**(json.load(sys.stdin) if told is None else told))
    control = socket.socket(fileno=task.control)
    door = socket.socket(fileno=task.door)
    try:
        documents = _compose(task, door)
        process = os.fork()
    except _RefusedError as refused:
        step, error = refused.args
        _tell(control, {"refused": step, "errno": error.errno or 0, "text": _text(step, error)})
        return 1
    if process:
        _tell(control, {"process": process, "documents": documents})
        return 0
    try:
        with suppress(OSError):
            os.setsid()
        _settle(task)
    except (_RefusedError, OSError) as refused:
        error = refused.args[1] if isinstance(refused, _RefusedError) else refused
        _tell(control, {"refused": "proc", "errno": error.errno or 0, "text": _text("proc", error)})
        os._exit(1)
    _tell(control, {"ready": True})
    control.close()
    _keep(task, door)
    os._exit(0)


def _step(name: str, error: OSError) -> _RefusedError:
    return _RefusedError(name, error)


def _text(step: str, error: OSError) -> str:
    text = str(error.strerror or error)
    return f"{error.filename}: {text}" if step == "mounts" and error.filename else text


def _compose(task: KeeperTask, door: socket.socket) -> list[int]:
    """Make the namespaces and everything that is mounted in them.

    Returns:
        The numbers of the document folders that could be mounted.
    """
    uid, gid = os.getuid(), os.getgid()
    folder = Path(task.folder)
    try:
        namespaces.unshare(task.flags)
        namespaces.map_own_ids(uid, gid)
        # Slaves of the host's mounts: a medium that is taken out goes here too; nothing goes back.
        namespaces.mount("none", "/", "", namespaces.MS_REC | namespaces.MS_SLAVE)
    except OSError as error:
        raise _step("namespaces", error) from error
    try:
        device = fuse.open_device()
    except OSError as error:
        raise _step("fuse", error) from error
    try:
        options = fuse.mount_options(device, uid, gid)
        flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_RDONLY
        namespaces.mount("millstream", folder / "view", "fuse.millstream", flags, options)
    except OSError as error:
        raise _step("fuse mount", error) from error
    try:
        door.sendmsg([b"F"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [device]))])
        os.close(device)
        os.stat(folder / "view")  # noqa: PTH116 - waits for INIT
    except OSError as error:
        raise _step("view", error) from error
    try:
        namespaces.mount_overlay(folder / "view", Path(task.upper), Path(task.work), folder / "root")
    except OSError as error:
        raise _step("overlay", error) from error
    try:
        _mount_shared(task, folder)
        return _mount_documents(folder, task.documents)
    except OSError as error:
        raise _step("mounts", error) from error


def _mount_shared(task: KeeperTask, folder: Path) -> None:
    """Mount what all sandboxes of the bubble have in common.

    The three are shared mounts: a file that a later start brings is mounted here, and appears in the
    sandboxes that run already, whose mounts are slaves of these.
    """
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    namespaces.mount("tmpfs", folder / "shared", "tmpfs", flags, f"mode=0700,size={SHARED_SIZE}")
    namespaces.mount(task.home, folder / "home", "", namespaces.MS_BIND | namespaces.MS_REC)
    for name, mode in (("tmp", 0o1777), ("shm", 0o1777), ("run", 0o755)):
        place = folder / "shared" / name
        place.mkdir()
        place.chmod(mode)
    lock = folder / "shared/run/lock"
    lock.mkdir()
    lock.chmod(0o1777)
    for base, path, is_folder in task.pins:
        pin(folder / base, Path(path), is_folder=is_folder)
    for name in HOST_FOLDERS:
        (folder / "shared/host" / name).mkdir(parents=True)
    for name in HOST_FILES:
        (folder / "shared/host" / name).touch()
    _show_read_only(folder / "shared/host", folder / "shared/run/host")
    if task.x11:
        (folder / "shared/x11").mkdir()
        _show_read_only(folder / "shared/x11", folder / "shared/tmp/.X11-unix")
    for name in ("root", "shared", "home"):
        namespaces.mount("none", folder / name, "", namespaces.MS_SHARED | namespaces.MS_REC)


def _show_read_only(source: Path, place: Path) -> None:
    """Bind a folder in which mount points are made where the application sees it, and cannot write."""
    place.mkdir()
    namespaces.mount(str(source), place, "", namespaces.MS_BIND)
    flags = namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY
    namespaces.mount("none", place, "", flags | namespaces.MS_NOSUID | namespaces.MS_NODEV)


def _mount_documents(folder: Path, documents: list[str]) -> list[int]:
    """Mount the document folders side by side, each by a descriptor that no link led to.

    One that is gone or has become a link since it was looked at is left out: a bubble does without.
    """
    mounted = []
    (folder / "shared/documents").mkdir()
    for number, path in enumerate(documents):
        place = folder / "shared/documents" / str(number)
        place.mkdir()
        try:
            source = open_real(Path(path))
            target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            namespaces.place_mount(namespaces.copy_mount(source), target)
        except OSError as error:
            _log(f"{path} is not shown in the bubble: {error.strerror}")
        else:
            mounted.append(number)
    return mounted


def _settle(task: KeeperTask) -> None:
    """Become the bubble's process 1."""
    namespaces.stay_visible_to_owner()
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    try:
        namespaces.mount("proc", "/proc", "proc", flags)
        if task.flags & namespaces.CLONE_NEWNET:
            namespaces.bring_up_loopback()
    except OSError as error:
        raise _step("proc", error) from error
    os.chdir("/")
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    namespaces.close_others([task.control, task.door, *task.kept])


def _keep(task: KeeperTask, door: socket.socket) -> None:
    """Reap and wait until nobody else is in the bubble, or its view has died."""
    inward, outward = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(outward, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        _reap()
        with suppress(BlockingIOError):
            os.read(inward, 4096)
        inhabitant = _inhabitant()
        if inhabitant is None:
            if _leave(task):
                return
            time.sleep(LOCK_PATIENCE)
            continue
        try:
            process = os.pidfd_open(inhabitant)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(inward, select.POLLIN)
            poll.register(process, select.POLLIN)
            poll.register(door.fileno(), select.POLLIN)
            for number, _ in poll.poll():
                if number != door.fileno():
                    continue
                word, descriptors, _, _ = socket.recv_fds(door, 1, 1)
                if not word:
                    _log("the view has died: the bubble ends")
                    # The pusher may hold /dev/fuse, waiting for a page that only the view would have given.
                    with suppress(OSError):
                        namespaces.abort_fuse(Path(task.folder) / "view")
                    return  # the record stays: the next start sweeps up by it
                for names in descriptors:  # a thread: a child would be an inhabitant, which it waits for
                    try:
                        _thread.start_new_thread(acquaintance.meet, (names, str(Path(task.folder) / "view")))
                    except RuntimeError:  # the user may have no more threads: the files will be read instead
                        os.close(names)
        finally:
            os.close(process)


def _leave(task: KeeperTask) -> bool:
    """Take the record away if nobody is in the bubble nor about to enter it; return whether that is so."""
    lock = os.open(task.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _inhabitant() is not None:
            return False
        Path(task.record).unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _inhabitant() -> int | None:
    """Return the id of a process in the bubble other than this one, None if there is none alive."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if not name.isdigit() or name == "1":
            continue
        try:
            state = Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2][:1]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            return int(name)
    return None


def _tell(control: socket.socket, record: dict[str, object]) -> None:
    with suppress(OSError):
        control.sendall(json.dumps(record).encode() + b"\n")


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} keeper: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
