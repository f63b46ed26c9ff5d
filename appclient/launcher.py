"""`python -m appclient.launcher`: has all imported that starts an application, and forks for each start.

The agent starts it and holds the other end of its standard input: it ends when the agent does. It has one
thread and does nothing but accept and fork; what the forked process does is command_run's, with the
arguments, the environment and the standard descriptors of the `appclient run` that asked (shortcut.py, where
the messages stand). View and keeper are forked from there: they, and the application, depend on neither.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from appclient import command_run, program
from appclient.commandfolders import own_folders
from appclient.shortcut import identity, packed, peer, receive, send, unpacked
from bubble import hostreach, namespaces
from bubble.launch import Threshold
from bubble.seccomp import filter_program

_REQUEST_SECONDS = 10.0
_BACKLOG = 64
_NAMESPACES = ("ipc", "mnt", "net", "pid", "user", "uts")
_RIGHTS = ("Uid:", "Gid:", "Groups:", "CapEff:", "NoNewPrivs:", "Seccomp:")


def main() -> int:
    """Serve starts until the agent ends."""
    namespaces.name_process("millstream launcher")
    place = own_folders().launcher_socket
    _warm_up()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    place.unlink(missing_ok=True)
    listener.bind(str(place))
    place.chmod(0o600)
    inode = place.stat().st_ino
    listener.listen(_BACKLOG)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked here
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(0, select.POLLIN)
    while all(number == listener.fileno() for number, _ in poll.poll()):
        with suppress(OSError):
            link, _ = listener.accept()
            with link:
                if not os.fork():
                    listener.close()
                    _work(link)
    with suppress(FileNotFoundError):
        if place.stat().st_ino == inode:
            place.unlink()
    return 0


def _warm_up() -> None:
    """Have in memory what the first start would have to load."""
    hostreach.person()  # the name service's libraries
    for nested in (False, True):
        filter_program(nested_namespaces=nested)
    program.parser_of(["run"]).parse_known_args(["run", "anything", "any file"])
    gc.collect()
    gc.freeze()


def _work(link: socket.socket) -> None:
    """Do one start, in a process of its own; never returns."""
    code: object = 1
    try:
        gc.disable()  # not for so short a life
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the agent may have been told to ignore it
        os.setsid()
        link.settimeout(_REQUEST_SECONDS)
        _, descriptors = receive(link)
        request, *standard, folder = descriptors
        words = unpacked(request)
        known = len(identity())
        process, user = peer(link)
        if words[:known] != identity() or user != os.geteuid() or not _alike(process):
            os._exit(0)
        umask, count, *more = words[known:]
        send(link, b"%d" % os.getpid())
        os.umask(int(umask))
        os.fchdir(folder)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(folder)
        _take_environment(more[int(count) :])
        try:
            code = program.main(
                more[: int(count)], partial(command_run.hand_over, take=partial(_hand_over, link))
            )
        except SystemExit as end:  # argparse's way to say that it has said all
            code = end.code
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        send(link, b"=%d" % (code if isinstance(code, int) else code is not None))
    finally:
        os._exit(0)


def _hand_over(link: socket.socket, threshold: Threshold, words: list[str]) -> None:
    """Give everything to who asked; that is all."""
    told = packed(words)
    send(link, b">", [told, threshold.keeper, threshold.lock, threshold.sandbox, threshold.program])
    os._exit(0)


def _take_environment(variables: list[str]) -> None:
    """Have another process's environment; where Millstream lies stays known."""
    python_path = os.environ.get("PYTHONPATH")
    os.environ.clear()
    for variable in variables:
        name, _, value = variable.partition("=")
        with suppress(ValueError, OSError):  # a name that only exec(2) accepts
            os.environ[name] = value
    if python_path is not None:
        os.environ.setdefault("PYTHONPATH", python_path)


def _alike(process: int) -> bool:
    """Return whether `process` sees the same machine as this one, with the same rights.

    One in a network namespace or a container of its own, or with another group, must start things itself.
    """
    try:
        return all(
            os.readlink(f"/proc/{process}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115
            for name in _NAMESPACES
        ) and _rights(str(process)) == _rights("self")
    except OSError:
        return False


def _rights(process: str) -> list[str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(_RIGHTS)]


if __name__ == "__main__":
    sys.exit(main())
