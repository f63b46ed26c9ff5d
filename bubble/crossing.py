"""The last step of a start: one new process in a running bubble, child of whoever calls, and its end.

Everything that can fail has been tried before (entrance.py). What is here runs in `appclient run` itself,
which is started anew each time: so it imports next to nothing.

A forked helper joins the namespaces of the bubble's keeper and forks once more *as a sibling*: so the
application is the caller's own child, with the caller's terminal, signals and exit code. Between joining and
bubblewrap the helper has all capabilities inside the bubble's user namespace; it runs only this module's
code, and exec of bubblewrap as an ordinary user drops them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself brings enum, which takes as long as the rest
import os

from bubble import namespaces

TYPE_CHECKING = False  # importing typing would take as long as the rest
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Any

BWRAP_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
"""Bubblewrap's own. It runs before anything is closed off: a package's variable might be code on the host."""

_INHERITED_SIGNALS = (
    _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGHUP,
)  # fmt: skip
"""What Python ignores or catches, and an application must find as it is by default."""


def cross(
    keeper: int, flags: int, bwrap: str, folder: str, sandbox: int, program: int, command: Sequence[str]
) -> tuple[int, int]:
    """Start `command` in the bubble; return its process id, a child of this process, and a status pipe.

    Args:
        keeper: pidfd of the bubble's process 1.
        flags: the namespaces to join.
        bwrap: path of bubblewrap.
        folder: working folder inside.
        sandbox: descriptor of bubblewrap's arguments.
        program: descriptor of the system call filter.
        command: what to run, as seen inside, and its arguments.

    Raises:
        OSError: the bubble cannot be entered; ESRCH: it is ending.
    """
    status, told = os.pipe()
    inward, outward = os.pipe()
    helper = os.fork()
    if not helper:
        answer = 0
        try:
            for number in _INHERITED_SIGNALS:
                _signal.signal(number, _signal.SIG_DFL)
            namespaces.enter(keeper, flags)
            answer = _exec_as_sibling(bwrap, folder, (sandbox, program, told), command)
        except OSError as error:
            answer = -(error.errno or 5)
        finally:
            os.write(outward, b"%d" % answer)
            os._exit(0)
    os.close(outward)
    os.close(told)
    said = os.read(inward, 32)
    os.close(inward)
    os.waitpid(helper, 0)
    process = int(said or 0)
    if process <= 0:
        os.close(status)
        raise OSError(-process, os.strerror(-process), "the bubble's namespaces")
    return process, status


def _exec_as_sibling(
    bwrap: str, folder: str, descriptors: tuple[int, int, int], command: Sequence[str]
) -> int:
    """Fork, exec bubblewrap there, return the new process. Runs in the helper."""
    sandbox, program, told = descriptors
    argv = [bwrap, "--args", str(sandbox), "--chdir", folder, "--seccomp", str(program)]
    argv += ["--json-status-fd", str(told), "--", *command]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    process = namespaces.fork_sibling()
    if not process:
        try:
            # Nothing that the caller had open is the application's: it might be his home's folder.
            namespaces.close_others(descriptors)
            os.execve(bwrap, argv, BWRAP_ENVIRONMENT)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(127)
    return process


def outcome(child: int, status: int) -> int | None:
    """Wait for the application; return its exit code, 128 + n if signal n ended it.

    Returns:
        None if bubblewrap failed before the application began; it has said why on standard error.
    """
    with _SignalsPassedOn(child):
        _, how = os.waitpid(child, 0)
    records = b""
    while part := os.read(status, 4096):
        records += part
    os.close(status)
    code = os.waitstatus_to_exitcode(how)
    if code > 0 and b'"exit-code"' not in records:
        return None
    return code if code >= 0 else 128 - code


class _SignalsPassedOn:
    """Leaves the terminal's signals to the application, hands it those that are for this process alone."""

    def __init__(self, child: int) -> None:
        self._child = child
        self._before: list[tuple[int, Any]] = []

    def __enter__(self) -> None:
        try:
            for number in (_signal.SIGINT, _signal.SIGQUIT):
                self._before.append((number, _signal.signal(number, _ignore)))
            for number in (_signal.SIGTERM, _signal.SIGHUP):
                self._before.append((number, _signal.signal(number, self._pass_on)))
        except ValueError:
            return  # in another thread than the first there are no signals to catch

    def __exit__(self, *failure: object) -> None:
        for number, earlier in self._before:
            _signal.signal(number, earlier)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for process in _children(self._child) or [self._child]:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue


def _ignore(number: int, frame: FrameType | None) -> None:
    """The terminal has told the application as well."""


def _children(process: int) -> list[int]:
    """Return the children of a process: bubblewrap's is the application."""
    try:
        with open(f"/proc/{process}/task/{process}/children", "rb") as file:  # noqa: PTH123 - no imports
            return [int(number) for number in file.read().split()]
    except OSError:
        return []
