"""The sequencer's one door to namespaces, mounts and capabilities (unshare(2), mount(2), prctl(2))."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_SIGINT = 2
_PR_CAPBSET_DROP = 24
_SIGKILL = 9
_LAST_CAPABILITY = 63

# What dpkg, rpm, pip and `make install` need: owners, modes, file capabilities, other users, chroot.
INSTALLER_CAPABILITIES = frozenset(
    {
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        18,  # SYS_CHROOT
        31,  # SETFCAP
    }
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.syscall.restype = ctypes.c_long

_SYS_PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41  # asm/unistd_64.h, asm-generic


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` (CLONE_NEW*) names.

    Raises:
        OSError: the kernel refuses.
    """
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount `source` on `target` (mount(2)).

    Raises:
        OSError: the kernel refuses.
    """
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) if kind else None,
        flags,
        os.fsencode(options) if options else None,
    )
    _check(result, target)


def unmount(target: str) -> None:
    """Take a mount away at once; whoever still uses it keeps it (umount2(2), MNT_DETACH).

    Raises:
        OSError: there is none.
    """
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), target)


def enter_root(folder: str) -> None:
    """Make `folder`, a mount point, the root of this mount namespace; the old root is gone.

    Raises:
        OSError: the kernel refuses.
    """
    os.chdir(folder)
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), b".", b"."), folder)
    _check(_libc.umount2(b".", MNT_DETACH), folder)
    os.chdir("/")


def set_host_name(name: str) -> None:
    """Name this UTS namespace.

    Raises:
        OSError: the kernel refuses.
    """
    text = os.fsencode(name)
    _check(_libc.sethostname(text, len(text)), "sethostname")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")


def end_with_parent() -> None:
    """Have the kernel interrupt this process (SIGINT) when its parent ends. Forgotten by a change of user."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, _SIGINT, 0, 0, 0), "prctl")


def bound_capabilities(kept: frozenset[int]) -> None:
    """Take all capabilities but `kept` out of the bounding set: what is executed next has no others."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL past the kernel's last one
