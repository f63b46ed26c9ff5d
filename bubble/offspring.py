"""How the bubble's own processes are started: view and keeper, which outlive whoever starts them.

`spawn` runs a new interpreter: from anywhere. `fork` continues in a copy of this process, which takes a few
milliseconds where an interpreter with its imports takes a hundred: only from a process of one thread that
was itself forked by the agent's launcher, and has nothing of the user's in its arguments.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import bubble
from bubble import namespaces

_KEPT = (
    "HOME", "PATH", "LANG", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
)  # fmt: skip
"""Variables that these processes get; besides them Millstream's own and Python's."""

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT)


class Offspring(Protocol):
    """A child of this process."""

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""

    def wait(self) -> int:
        """Wait for its end; return its exit status."""

    def kill(self) -> None:
        """End it."""


StartProcess = Callable[[str, dict[str, Any], Sequence[int], int], Offspring]
"""(module, its task, descriptors that it gets, its log) -> the process, in a session of its own. The module's
`main` takes the task."""


def spawn(module: str, task: dict[str, Any], descriptors: Sequence[int], log: int) -> Offspring:
    """Start a module in a new interpreter; it reads its task from its standard input."""
    # By descriptor, not in an argument: the application sees the arguments of its process 1.
    told = memory_file(json.dumps(task).encode())
    try:
        return subprocess.Popen(
            [sys.executable, "-S", "-m", module],
            stdin=told,
            stdout=log,
            stderr=log,
            env=_environment(os.environ),
            cwd="/",
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        os.close(told)


def fork(module: str, task: dict[str, Any], descriptors: Sequence[int], log: int) -> Offspring:
    """Start a module in a copy of this process."""
    program = importlib.import_module(module)
    process = os.fork()
    if process:
        return _Forked(process)
    code = 1
    try:
        gc.freeze()  # what is here was the parent's: its descriptors' numbers may soon be others'
        gc.enable()
        os.setsid()
        environment = _environment(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        namespaces.close_others(descriptors)
        os.chdir("/")
        for number in _CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        namespaces.name_process(module)
        code = program.main(task)
    except BaseException:  # noqa: BLE001 - nothing of the parent's goes on here
        traceback.print_exc()
    finally:
        os._exit(code)


class _Forked:
    """A forked child."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        status = self._look(0)
        assert status is not None
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self._process, signal.SIGKILL)

    def _look(self, options: int) -> int | None:
        if self._status is None:
            process, status = os.waitpid(self._process, options)
            if process:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def memory_file(data: bytes) -> int:
    """Return a descriptor from which `data` can be read."""
    descriptor = os.memfd_create("millstream", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    found = {
        name: value
        for name, value in given.items()
        if name in _KEPT or name.startswith(("MILLSTREAM_", "PYTHON"))
    }
    place = str(Path(bubble.__file__).resolve().parents[1])
    found["PYTHONPATH"] = os.pathsep.join([place, *filter(None, [given.get("PYTHONPATH")])])
    return found
