"""The only door to mount(2), unshare(2), setns(2) and their kin. Everything raises OSError.

All of it is called in processes of one thread: a namespace of users cannot be left or entered otherwise.
It is on the way of every start (crossing.py), so it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False  # importing typing would take as long as the rest
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
_CLONE_PARENT = 0x0000_8000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_MNT_FORCE = 1
_SIGCHLD = 17
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10

# Numbers that every architecture shares (since Linux 5.x), and clone's, which differs.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_DESCRIPTOR_MAX = (1 << 32) - 1

_TRIES = 500  # of openat2; beside a process that does nothing but rename, one in ten fails

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock: for clone


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """Move this process (CLONE_NEWPID: its next children) to new namespaces."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(process: int, flags: int) -> None:
    """Move this process to the namespaces `flags` of the process whose pidfd `process` is."""
    _check(_libc.setns(ctypes.c_int(process), ctypes.c_int(flags)), "setns")


def map_own_ids(uid: int, gid: int) -> None:
    """In a fresh user namespace, let the user and group be known by the numbers they have outside."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "wb", buffering=0) as file:  # noqa: PTH123 - see above
            file.write(text.encode())


def mount(source: str, target: Path | str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system, or change how one is mounted."""
    _check(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            kind.encode(),
            ctypes.c_ulong(flags),
            options.encode() if options else None,
        ),
        f"mount {kind or source} on {target}",
    )


def mount_overlay(lower: Path, upper: Path, work: Path, target: Path) -> None:
    """Mount an overlay with `userxattr`. Paths of any characters are fine: they go by descriptors."""
    descriptors = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (lower, upper, work)]
    try:
        places = [f"/proc/self/fd/{descriptor}" for descriptor in descriptors]
        options = f"lowerdir={places[0]},upperdir={places[1]},workdir={places[2]},userxattr"
        mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, options)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def stay_visible_to_owner() -> None:
    """Let the user who owns this process's user namespace enter it: unshare made it private."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends; it ends now if that is no longer `parent`."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(0)


def abort_fuse(place: Path) -> None:
    """Have the kernel answer whoever waits for a FUSE file system, mounted here, that nobody serves any more.

    Raises:
        OSError: the kernel does not. That it is busy is not among it: it is not to be unmounted.
    """
    try:
        _check(_libc.umount2(os.fsencode(place), _MNT_FORCE), f"umount2({place})")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise


def name_process(name: str) -> None:
    """Let this process be known as `name`: it was forked, and shows the arguments of the one it came from.

    An application sees the arguments of its bubble's process 1.
    """
    _check(_libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "prctl(PR_SET_NAME)")
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - see above
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[45]), int(fields[46])  # where the kernel reads /proc/PID/cmdline
    if start and end - start > len(name):
        place = (ctypes.c_char * (end - start)).from_address(start)
        place.raw = name.encode().ljust(end - start, b"\0")


def bring_up_loopback() -> None:
    """Give a fresh network namespace its 127.0.0.1."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(door, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(door, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def open_within(folder: int, path: bytes, flags: int = os.O_PATH, *, links: bool = True) -> int:
    """Open `path` as if `folder` were the root: no link and no `..` leads out of it.

    Whether a `..` led out, the kernel cannot tell while anything on the machine is renamed or mounted: it
    says EAGAIN then, and is asked again.

    Args:
        folder: descriptor of the folder.
        path: relative or absolute, both meant from `folder`.
        flags: of open(2).
        links: whether symbolic links are followed (inside) or refused (ELOOP).
    """
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS if links else _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, resolve)
    name = path if links else path.lstrip(b"/") or b"."
    for _ in range(_TRIES):
        opened: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(folder), name, how, ctypes.c_size_t(len(how))
        )
        if opened >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(opened, os.fsdecode(path))


def copy_mount(place: int) -> int:
    """Return a descriptor of a new mount, not placed yet, of a file or folder and what is mounted in it."""
    return _check(
        _libc.syscall(
            ctypes.c_long(_SYS_OPEN_TREE),
            ctypes.c_int(place),
            b"",
            ctypes.c_uint(_OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE),
        ),
        "open_tree",
    )


def place_mount(tree: int, target: int) -> None:
    """Place a mount that `copy_mount` made on the file or folder whose descriptor `target` is."""
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT),
            ctypes.c_int(tree),
            b"",
            ctypes.c_int(target),
            b"",
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH),
        ),
        "move_mount",
    )


def fork_sibling() -> int:
    """Fork like fork(2), but the new process becomes a child of this process's parent.

    In the new process nothing of Python's own bookkeeping is done: it must call exec or _exit at once.
    """
    machine = os.uname().machine
    number = _SYS_CLONE.get(machine)
    if number is None:
        raise OSError(38, "unknown architecture", machine)
    zero = ctypes.c_long(0)
    flags = ctypes.c_long(_CLONE_PARENT | _SIGCHLD)
    return _check(_held.syscall(ctypes.c_long(number), flags, zero, zero, zero, zero), "clone")


def close_others(kept: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not in `kept`."""
    low = 3
    for descriptor in sorted(number for number in set(kept) if number > 2):
        if low < descriptor:
            _close_range(low, descriptor - 1)
        low = descriptor + 1
    _close_range(low, _DESCRIPTOR_MAX)


def _close_range(first: int, last: int) -> None:
    _check(
        _held.syscall(
            ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)
        ),
        "close_range",
    )
