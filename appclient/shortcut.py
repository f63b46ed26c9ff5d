"""The short way of `appclient run`: the agent's launcher does the work, this process starts the application.

Nothing of the command line is read here. The launcher, which has everything imported that a start needs, gets
arguments, environment, working folder and standard descriptors as they are, and does in a process forked for
this start what command_run.py would do here: ask the agent, make the bubble, say what there is to say. At the
end it hands over what is needed to enter the bubble, and the application becomes this process's own child:
its terminal, its signals, its exit code. Whenever anything is unusual (no launcher, a launcher of another
installation, a closed descriptor) the long way is taken, which needs none of this.

What is imported here is what a user waits for: the interpreter's own modules, and the rest while the launcher
works. The messages, each one packet of a unix socket:

    here      start, with descriptors: request, 0, 1, 2, the working folder
    launcher  PROCESS: who works, for Ctrl-C          (or the end of the connection: take the long way)
              =CODE: all is said and done
              >, with descriptors: told, keeper, lock, bubblewrap's arguments, the system call filter

A request, and what is told, are words, each ended by a zero byte.
"""

from __future__ import annotations

import _socket  # the module socket brings enum, selectors and more: half of an interpreter's start
import os
import sys

from appclient.meetingplace import LAUNCHER, runtime_folder

TYPE_CHECKING = False  # importing typing would take as long as the rest
if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_SECONDS = 2.0
"""How long the launcher may take to say who works: it forks, no more."""

_CREDENTIALS_SIZE = 12
_DESCRIPTORS_MAX = 8
_SIGINT = 2
_INTERRUPTED = 130

_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would have to be imported


def identity() -> list[str]:
    """Return what a launcher and who asks it must have in common: one installation."""
    return [sys.executable, _FOLDER]


def start(arguments: Sequence[str]) -> int | None:
    """Start what the command line says; return the exit code, None if that needs the long way."""
    if "MILLSTREAM_DEBUG" in os.environ or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    try:
        link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            return _start(link, arguments)
        finally:
            link.close()
    except OSError:
        return None
    except KeyboardInterrupt:
        return _INTERRUPTED


def _start(link: _socket.socket, arguments: Sequence[str]) -> int | None:
    link.settimeout(ANSWER_SECONDS)
    link.connect(f"{runtime_folder(os.environ, os.geteuid())}/{LAUNCHER}")
    if peer(link)[1] != os.geteuid():
        return None
    umask = os.umask(0o077)
    os.umask(umask)
    variables = [os.fsdecode(name + b"=" + value) for name, value in os.environb.items()]
    request = packed([*identity(), str(umask), str(len(arguments)), *arguments, *variables])
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    send(link, b"start", [request, 0, 1, 2, folder])
    os.close(request)
    os.close(folder)
    said, _ = receive(link)
    if not said:
        return None
    worker = int(said)
    link.settimeout(None)
    from bubble import crossing  # now there is time

    try:
        said, descriptors = receive(link)
    except KeyboardInterrupt:
        os.kill(worker, _SIGINT)
        said, descriptors = receive(link)
        if not said.startswith(b"="):
            return _INTERRUPTED
    if said.startswith(b"="):
        return int(said[1:])
    if len(descriptors) != 5:
        return None
    told, keeper, lock, sandbox, program = descriptors
    words = iter(unpacked(told))
    flags, bwrap, place, bubble = int(next(words)), next(words), next(words), next(words)
    command, watch, *others = ([next(words) for _ in range(int(count))] for count in words)
    company = None
    if watch or others:
        from appclient.company import Company

        company = Company(watch, others)
    try:
        child, status = crossing.cross(keeper, flags, bwrap, place, sandbox, program, command)
        for descriptor in (keeper, lock, sandbox, program):
            os.close(descriptor)
        code = crossing.outcome(child, status)
    finally:
        if company is not None:
            company.end()
    if code is None:
        from appclient import command_run
        from appclient import program as long_way

        return long_way.main(arguments, lambda _: command_run.tell_unmade(bubble, command[0]))
    return code


def peer(link: _socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    told = link.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_SIZE)
    return int.from_bytes(told[:4], sys.byteorder), int.from_bytes(told[4:8], sys.byteorder)


def send(link: _socket.socket, said: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one message."""
    numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
    link.sendmsg([said], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)] if descriptors else [])


def receive(link: _socket.socket) -> tuple[bytes, list[int]]:
    """Return one message and its descriptors; nothing if the other end has gone."""
    room = _socket.CMSG_SPACE(4 * _DESCRIPTORS_MAX)
    try:
        said, controls, _, _ = link.recvmsg(256, room, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    numbers = b"".join(data for _, kind, data in controls if kind == _socket.SCM_RIGHTS)
    return said, [int.from_bytes(numbers[at : at + 4], sys.byteorder) for at in range(0, len(numbers), 4)]


def packed(words: Sequence[str]) -> int:
    """Return a descriptor that holds `words`."""
    descriptor = os.memfd_create("millstream", os.MFD_CLOEXEC)
    left = memoryview(b"".join(os.fsencode(word) + b"\0" for word in words))
    while left:
        left = left[os.write(descriptor, left) :]
    return descriptor


def unpacked(descriptor: int) -> list[str]:
    """Return the words that a descriptor holds, and close it."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return [os.fsdecode(word) for word in data.split(b"\0")[:-1]]
