"""The enclosure of a capture: a forked worker in namespaces of its own, root there and nobody outside.

The worker runs with this process's memory, so it needs no file of ours: a source tree under a closed home
is no obstacle. Its parent talks to it over a `Channel`. Everything in the enclosure ends with the worker, the
worker ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from packageformat.errors import FormatError, MillstreamError
from sequencer import kernel
from sequencer.errors import HostError, InstallError, InstallTimeoutError, RecipeError, StorageError
from sequencer.subids import IDS_NEEDED, SubordinateIds

Message = dict[str, object]
ERRORS: dict[str, type[MillstreamError]] = {
    error.__name__: error
    for error in (HostError, InstallError, InstallTimeoutError, RecipeError, StorageError)
}
MESSAGE_MAX = 256 << 20
DESCRIPTORS_AT_ONCE = 64


class Channel:
    """One end of the talk between a worker and its parent: small messages, large bytes, open files."""

    def __init__(self, words: Connection, files: socket.socket) -> None:
        self._words = words
        self._files = files

    def say(self, **message: object) -> None:
        """Send a message of plain values."""
        self._words.send_bytes(json.dumps(message).encode("ascii"))

    def hear(self) -> Message:
        """Wait for a message.

        Raises:
            EOFError: the other side is gone.
        """
        message = json.loads(self._words.recv_bytes(MESSAGE_MAX))
        if not isinstance(message, dict):
            raise EOFError("not a message")  # noqa: TRY004 - an end that talks nonsense is gone
        return message

    def waits(self, seconds: float) -> bool:
        """Tell whether a message comes within `seconds`."""
        return self._words.poll(seconds)

    def say_bytes(self, data: bytes) -> None:
        """Send bytes."""
        self._words.send_bytes(data)

    def hear_bytes(self) -> bytes:
        """Wait for bytes.

        Raises:
            EOFError: the other side is gone.
        """
        return self._words.recv_bytes(MESSAGE_MAX)

    def give_files(self, descriptors: Sequence[int]) -> None:
        """Hand over open files, at most `DESCRIPTORS_AT_ONCE`."""
        socket.send_fds(self._files, [b"f"], list(descriptors))

    def take_files(self) -> list[int]:
        """Receive open files; they are the caller's to close.

        Raises:
            EOFError: the other side is gone.
        """
        data, descriptors, _, _ = socket.recv_fds(self._files, 1, DESCRIPTORS_AT_ONCE)
        if not data:
            raise EOFError
        return descriptors

    def close(self) -> None:
        """Leave."""
        self._words.close()
        self._files.close()


class Enclosure:
    """A running worker. As a context manager it is killed, with all it started, on the way out."""

    def __init__(self, pid: int, worker: int, channel: Channel) -> None:
        self._pid = pid
        self._worker = worker
        self.channel = channel
        self._ended = False

    def hear(self, deadline: float | None = None) -> Message | None:
        """Return the worker's next message, or None when `deadline` (time.monotonic()) has passed.

        Raises:
            MillstreamError: the worker ended with an error.
        """
        seconds = 3600.0 * 24 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self.channel.waits(seconds):
            return None
        try:
            message = self.channel.hear()
        except (EOFError, OSError) as error:
            raise HostError(
                "the capture's worker was killed", hint="is the memory exhausted? see 'dmesg', then try again"
            ) from error
        if "error" in message:
            kind = ERRORS.get(str(message["error"]))
            if kind is None:
                raise RuntimeError(f"in the capture's worker:\n{message['trace']}")
            raise kind(str(message["text"]), hint=str(message["hint"]))
        return message

    def close(self) -> None:
        """Kill the worker and everything in its namespaces; harmless when it has ended."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._worker, signal.SIGKILL)
        self.channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def __enter__(self) -> Enclosure:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def enclose(
    work: Callable[[Channel], None], ids: SubordinateIds, folder: Path, *, network: bool
) -> Enclosure:
    """Start `work` in namespaces of its own, as root there, in the folder `folder`.

    Args:
        work: runs in the enclosure; its return ends it. It must not import anything new.
        ids: mapped to 0..65535 inside.
        folder: the worker's working folder; the way to it need not be open to the subordinate ids.
        network: whether it shares the host's network; else it has none.

    Raises:
        HostError: the machine does not allow it.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: closed before we started
            stream.flush()
    ours, theirs = Pipe(duplex=True)
    our_files, their_files = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ready_in, ready_out = os.pipe()
    go_in, go_out = os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in (ready_in, go_out):
            os.close(descriptor)
        ours.close()
        our_files.close()
        _become_worker(work, Channel(theirs, their_files), folder, network, ready_out, go_in)
    for descriptor in (ready_out, go_in):
        os.close(descriptor)
    theirs.close()
    their_files.close()
    channel = Channel(ours, our_files)
    try:
        worker = _let_in(pid, ids, ready_in, go_out)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        channel.close()
        raise
    finally:
        os.close(ready_in)
        os.close(go_out)
    return Enclosure(pid, worker, channel)


def _let_in(pid: int, ids: SubordinateIds, ready: int, go: int) -> int:
    """Give the waiting process its ids; return the process id of its worker."""
    refused = os.read(ready, 200)
    if refused != b"ready":
        raise HostError(
            f"no namespaces of our own: {refused.decode('utf-8', 'replace') or 'the worker ended'}",
            hint="allow unprivileged user namespaces (sysctl user.max_user_namespaces, AppArmor)",
        )
    _map_ids("newuidmap", pid, ids.users.first)
    _map_ids("newgidmap", pid, ids.groups.first)
    os.write(go, b"g")
    answer = os.read(ready, 8)
    if len(answer) != 8:
        raise HostError("the capture's worker did not start", hint="is the memory exhausted? see 'dmesg'")
    return int(struct.unpack("<q", answer)[0])


def _map_ids(program: str, pid: int, first: int) -> None:
    command = [program, str(pid), "0", str(first), str(IDS_NEEDED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"{program} refused the subordinate ids: {done.stderr.strip()}",
            hint="see that newuidmap and newgidmap are set-id root or have their file capabilities",
        )


def _become_worker(
    work: Callable[[Channel], None], channel: Channel, folder: Path, network: bool, ready: int, go: int
) -> NoReturn:
    """Enter the namespaces, then run `work` as their first process. Never returns."""
    status = 1
    try:
        kernel.die_with_parent()
        os.setsid()  # Ctrl-C is for the parent, which then ends us
        os.chdir(folder)  # before the mounts are copied: a descriptor would stay with the old ones
        flags = (
            kernel.CLONE_NEWUSER
            | kernel.CLONE_NEWNS
            | kernel.CLONE_NEWPID
            | kernel.CLONE_NEWIPC
            | kernel.CLONE_NEWUTS
        )
        try:
            kernel.unshare(flags if network else flags | kernel.CLONE_NEWNET)
        except OSError as error:
            os.write(ready, str(error.strerror).encode()[:200])
            os._exit(1)
        os.write(ready, b"ready")
        if os.read(go, 1) != b"g":
            os._exit(1)
        worker = os.fork()
        if worker:
            os.write(ready, struct.pack("<q", worker))
            os.close(ready)
            channel.close()
            os.waitpid(worker, 0)
            os._exit(0)
        os.close(ready)
        os.close(go)
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)
        kernel.die_with_parent()  # a change of ids clears it
        os.umask(0o022)
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.set_host_name("capture")
        status = _run(work, channel)
    finally:
        os._exit(status)


def _run(work: Callable[[Channel], None], channel: Channel) -> int:
    try:
        work(channel)
    except FormatError as error:  # the installation made what no package can hold
        hint = "leave it out by [exclude] in the recipe, or install less"
        channel.say(error="InstallError", text=f"cannot be packaged: {error}", hint=hint, trace="")
    except MillstreamError as error:
        channel.say(error=type(error).__name__, text=str(error), hint=error.hint, trace="")
    except OSError as error:
        full = error.errno in (28, 30, 122)  # ENOSPC, EROFS, EDQUOT
        kind = StorageError if full else HostError
        text = f"{error.strerror}: {error.filename or 'in the capture'}"
        hint = StorageError.hint if full else "see the log; the machine refused what a capture needs"
        channel.say(error=kind.__name__, text=text, hint=hint, trace="")
    except (EOFError, BrokenPipeError):
        return 1
    except Exception as error:  # noqa: BLE001 - a bug: the parent tells of it
        channel.say(error="bug", text=str(error), hint="", trace=repr(error) + _places(error))
        return 1
    else:
        return 0
    return 1


def _places(error: BaseException) -> str:
    """Return where `error` came from, without reading source files, which may be out of reach here."""
    places: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"\n  {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return "".join(places)
