"""The system calls that no application in a bubble may make: a list like Flatpak's, as a BPF program.

The only door to libseccomp (pyseccomp). Source of the list: flatpak's `common/flatpak-run.c`,
`setup_seccomp`, with the reasons that stand there.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from functools import cache
from typing import Any

import pyseccomp

from bubble.errors import LaunchError

REFUSED = (
    "syslog",  # the kernel's log
    "uselib",  # obsolete
    "acct",
    "quotactl",
    "add_key", "keyctl", "request_key",  # keyrings know no namespaces
    "move_pages", "mbind", "get_mempolicy", "set_mempolicy", "migrate_pages",  # scary and unneeded
    "perf_event_open",
    "ptrace",
    "bpf", "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "open_by_handle_at", "swapon", "swapoff", "reboot", "settimeofday", "clock_settime",
)  # fmt: skip
"""EPERM, whatever the policy."""

NESTING = ("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot")
"""EPERM, unless the policy allows nested namespaces."""

UNKNOWN = (
    "clone3",  # its flags lie in memory, where a filter cannot look: callers fall back to clone
    "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
)  # fmt: skip
"""ENOSYS, unless the policy allows nested namespaces."""

FAMILIES = (socket.AF_UNSPEC, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Address families that a socket may have; any other is EAFNOSUPPORT."""

_CLONE_NEWUSER = 0x1000_0000
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_LOW_HALF = 0xFFFF_FFFF


@cache
def filter_program(*, nested_namespaces: bool) -> bytes:
    """Return the BPF program that bubblewrap loads right before the application.

    Raises:
        LaunchError: libseccomp is missing or refuses.
    """
    try:
        return _export(_filter(nested_namespaces=nested_namespaces))
    except OSError as error:
        raise LaunchError(
            f"the system call filter cannot be made: {error}", hint="install libseccomp2"
        ) from error


def _filter(*, nested_namespaces: bool) -> Any:
    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if platform.machine() == "x86_64":
        made.add_arch(pyseccomp.Arch.X86)  # 32-bit programs run under the same list
    refuse = pyseccomp.ERRNO(errno.EPERM)
    for name in REFUSED if nested_namespaces else (*REFUSED, *NESTING):
        _add(made, refuse, name)
    if not nested_namespaces:
        for name in UNKNOWN:
            _add(made, pyseccomp.ERRNO(errno.ENOSYS), name)
        newuser = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_NEWUSER, _CLONE_NEWUSER)
        _add(made, refuse, "clone", newuser)
    for request in (_TIOCSTI, _TIOCLINUX):  # typing into the user's terminal
        _add(made, refuse, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, _LOW_HALF, request))
    unsupported = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    allowed = sorted(int(family) for family in FAMILIES)
    for family in range(allowed[-1]):
        if family not in allowed:
            _add(made, unsupported, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    _add(made, unsupported, "socket", pyseccomp.Arg(0, pyseccomp.GT, allowed[-1]))
    return made


def _add(made: Any, action: int, name: str, *arguments: Any) -> None:
    try:
        made.add_rule(action, name, *arguments)
    except OSError as error:
        if error.errno not in (errno.EFAULT, errno.EDOM, errno.EINVAL):  # unknown here: nothing to refuse
            raise


def _export(made: Any) -> bytes:
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()
