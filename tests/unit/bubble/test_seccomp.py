from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bubble.seccomp import filter_program

PROBE = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
program = bytes.fromhex(sys.argv[1])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program)), 0, 0) == 0, ctypes.get_errno()
def tried(call, *arguments):
    ctypes.set_errno(0)
    result = call(*arguments)
    if result >= 0 and call in (libc.socket,):
        os.close(result)
    return ctypes.get_errno() if result < 0 else 0
print(json.dumps({
    "unshare": tried(libc.unshare, 0x10000000),
    "mount": tried(libc.mount, b"none", b"/", b"", 0, None),
    "ptrace": tried(libc.ptrace, 0, 0, 0, 0),
    "keyctl": tried(libc.syscall, 250, 0, 0),
    "clone3": tried(libc.syscall, 435, 0, 0),
    "bluetooth": tried(libc.socket, 31, 1, 0),
    "vsock": tried(libc.socket, 40, 1, 0),
    "packet": tried(libc.socket, 17, 3, 0),
    "inet": tried(libc.socket, 2, 1, 0),
    "unix": tried(libc.socket, 1, 1, 0),
    "netlink": tried(libc.socket, 16, 3, 0),
    "tiocsti": tried(libc.ioctl, 0, ctypes.c_ulong(0x5412), b"x"),
    "tiocsti_high": tried(libc.ioctl, 0, ctypes.c_ulong(0x100005412), b"x"),
    "clone_newuser": tried(libc.syscall, 56, ctypes.c_long(0x10000011), 0, 0, 0, 0),
}))
"""
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97


def answers(*, nested_namespaces: bool) -> dict[str, int]:
    program = filter_program(nested_namespaces=nested_namespaces)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, program.hex()], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[0])


def test_the_kernel_refuses_what_the_list_refuses():
    assert answers(nested_namespaces=False) == {
        "unshare": EPERM,
        "mount": EPERM,
        "ptrace": EPERM,
        "keyctl": EPERM,
        "clone3": ENOSYS,
        "bluetooth": EAFNOSUPPORT,
        "vsock": EAFNOSUPPORT,
        "packet": EAFNOSUPPORT,
        "inet": 0,
        "unix": 0,
        "netlink": 0,
        "tiocsti": EPERM,
        "tiocsti_high": EPERM,
        "clone_newuser": EPERM,
    }


@pytest.mark.parametrize("call", ["ptrace", "keyctl", "tiocsti"])
def test_nested_namespaces_open_nothing_else(call):
    assert answers(nested_namespaces=True)[call] == EPERM


def test_nested_namespaces_are_possible_where_policy_allows_them():
    assert answers(nested_namespaces=True)["unshare"] == 0
