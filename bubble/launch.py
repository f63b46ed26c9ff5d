"""Start an application in a bubble, or in the one that runs already.

start()  ── lock ──┬─ no bubble yet: view process + keeper (process 1 of the bubble), then enter
                   └─ bubble runs: enter
            enter = join the keeper's namespaces, bubblewrap, application: the caller's own child
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from bubble import hostreach
from bubble.beginning import (
    RECORD,
    UPPER_LOCK,
    Running,
    compose,
    find,
    memory_file,
    policy_digest,
    upper_lock,
)
from bubble.entrance import Entry, GoneError, enter
from bubble.errors import BubbleBusyError, LaunchError
from bubble.guests import guests
from bubble.host import Host, probe
from bubble.identity import HostAnswers, Person, identity_files
from bubble.identity import environment as bubble_environment
from bubble.sandbox import (
    Document,
    Place,
    Reach,
    bwrap_arguments,
    environment_arguments,
    socket_environment,
)
from bubble.seccomp import filter_program
from bubble.spec import BubbleSpec, decode_spec, encode_spec
from bubble.xauthority import authority_for, display_number
from packageformat.policy import Policy

__all__ = ["BubbleSpec", "Host", "decode_spec", "encode_spec", "is_running", "probe", "start"]


ENDING_PATIENCE = 10.0
"""Seconds that a bubble which has been killed may take to end before a start gives up."""


def start(
    spec: BubbleSpec,
    argv: Sequence[str],
    *,
    files: Sequence[Path] = (),
    environment: Mapping[str, str],
    cwd: Path | None = None,
) -> int:
    """Run `argv` in the bubble of `spec` as a child of the caller, and return its exit code.

    Joins the bubble if it runs, else makes it. Returns when the application's first process ends; the
    bubble lives on as long as anything in it does. While it waits, SIGINT and SIGQUIT are left to the
    application (the terminal sends them to both), SIGTERM and SIGHUP are passed on.

    Args:
        spec: the bubble.
        argv: the command, as seen inside, and its arguments.
        files: files that the user named, bound in at their own paths.
        environment: the caller's, of which only harmless variables reach the application.
        cwd: working folder, if it is visible inside; else the home.

    Returns:
        The exit code, 128 + n if signal n ended it.

    Raises:
        NoUserNamespacesError, NoFuseError, OverlayError: the host lacks something.
        LaunchError: the command is not in the bubble, or a part of the bubble failed.
        BubbleBusyError: an ending bubble does not let go of the user's changes.
    """
    if not argv:
        raise LaunchError("no command to start", hint="name an application")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise LaunchError("bubblewrap is not installed", hint="install the package 'bubblewrap'")
    who = hostreach.person()
    named = hostreach.files_named(files)
    try:
        for folder in (spec.state, spec.home, spec.runtime):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(spec.state / "lock"):  # the new process holds it too, until it becomes bubblewrap
            child, status = _enter(spec, who, argv, bwrap, named, environment, cwd)
    except OSError as error:
        raise LaunchError(
            f"the bubble cannot be started: {error.filename or spec.state}: {error.strerror}",
            hint="check the disk and the permissions",
        ) from error
    return _await(child, status, argv[0])


def _enter(
    spec: BubbleSpec,
    who: Person,
    argv: Sequence[str],
    bwrap: str,
    named: Mapping[Place, tuple[int, int]],
    environment: Mapping[str, str],
    cwd: Path | None,
) -> tuple[int, int]:
    """Find or make the bubble and start `argv` in it; return its process and bubblewrap's status pipe."""
    while True:
        running, keeper = find(spec.state / RECORD) or compose(spec, who, environment)
        try:
            return _join(running, keeper, spec, who, argv, bwrap, named, environment, cwd)
        except GoneError:
            # Its process 1 has been killed and waits for others to end, one in a read for instance.
            if not select.select([keeper], [], [], ENDING_PATIENCE)[0]:
                raise
        finally:
            os.close(keeper)


def _join(
    running: Running,
    keeper: int,
    spec: BubbleSpec,
    who: Person,
    argv: Sequence[str],
    bwrap: str,
    named: Mapping[Place, tuple[int, int]],
    environment: Mapping[str, str],
    cwd: Path | None,
) -> tuple[int, int]:
    """Start `argv` in a running bubble."""
    host = hostreach.host_answers()
    if running.policy != policy_digest(spec.policy):
        raise BubbleBusyError(
            "this application runs by a policy that has been changed since",
            hint="close all its windows, then start it again",
        )
    folder = Path(running.folder)
    documents = [Document(*map(Path, paths)) for paths in running.documents]
    reach = hostreach.reach(spec, who, folder, environment, documents)
    _write_identity(spec, who, host, folder)
    _write_xauthority(spec, who, folder, environment)
    display = environment.get("DISPLAY", "")
    inward, outward = os.pipe()
    # By descriptor, not in arguments: the application sees the processes of its bubble.
    variables = bubble_environment(
        who, host, spec.policy, environment, socket_environment(spec.policy, reach, display)
    )
    told = [*bwrap_arguments(spec.policy, reach), *environment_arguments(variables)]
    sandbox = memory_file(b"".join(os.fsencode(argument) + b"\0" for argument in told))
    program = memory_file(filter_program(nested_namespaces=spec.policy.nested_namespaces))
    try:
        entry = Entry(
            bwrap=bwrap,
            arguments=[
                "--args",
                str(sandbox),
                "--chdir",
                _working_folder(spec.policy, reach, named, cwd),
                "--seccomp",
                str(program),
                "--json-status-fd",
                str(outward),
            ],
            command=argv,
            guests=guests(spec.policy, reach, folder, named),
            folder=folder,
            home=reach.home,
            descriptors=(sandbox, program, outward),
            sockets=(folder / "shared/x11" / reach.x11.name,) if spec.policy.x11 and reach.x11 else (),
        )
        child = enter(keeper, running.flags, entry)
    except BaseException:
        os.close(inward)
        raise
    finally:
        os.close(outward)
        os.close(program)
        os.close(sandbox)
    return child, inward


def is_running(state: Path) -> bool:
    """Return whether the bubble whose folder is `state` runs, or has not let go of its upper yet.

    Waits for a start that is under way, and a little for a bubble that is just ending.
    """
    if not state.is_dir():
        return False
    with _locked(state / "lock"):
        found = find(state / RECORD)
        if found is not None:
            os.close(found[1])
            return True
        try:
            os.close(upper_lock(state / UPPER_LOCK, patience=2.0))
        except BubbleBusyError:
            return True
        return False


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Hold the lock of everybody who enters a bubble or ends it."""
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_identity(spec: BubbleSpec, who: Person, host: HostAnswers, folder: Path) -> None:
    """Write the bubble's /etc files. Those of a running bubble change in place: they are mounted."""
    for name, data in identity_files(who, host, spec.policy, spec.bubble_id).items():
        place = folder / "etc" / name
        if not place.exists() or place.read_bytes() != data:
            write_in_place(place, data)


def write_in_place(place: Path, data: bytes) -> None:
    """Write a file that may be mounted, and read at this moment: it is never shorter than both contents."""
    try:
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb", 0) as file:
            file.write(data)
            file.truncate()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error


def _write_xauthority(spec: BubbleSpec, who: Person, folder: Path, environment: Mapping[str, str]) -> None:
    number = display_number(environment.get("DISPLAY", ""))
    data = b""
    if spec.policy.x11 and number is not None:
        data = authority_for(hostreach.xauthority(who, environment), number)
    write_in_place(folder / "Xauthority", data)


def _working_folder(policy: Policy, reach: Reach, named: Iterable[Place], cwd: Path | None) -> str:
    """Return `cwd` if it is the same folder inside, else the home."""
    shown = [document.path for document in reach.documents]
    shown += [place.path for place in named if place.real.is_dir()]
    if policy.home == "full":
        shown.append(reach.home)
    if cwd is not None and any(cwd.is_relative_to(place) for place in shown):
        return str(cwd)
    return str(reach.home)


def _await(child: int, status: int, command: str) -> int:
    """Wait for the application; return its exit code.

    Raises:
        LaunchError: bubblewrap failed before the application began; it has said why on standard error.
    """
    with os.fdopen(status, "rb") as pipe:
        with _signals_passed_on(child):
            _, how = os.waitpid(child, 0)
        records = pipe.read()
    code = os.waitstatus_to_exitcode(how)
    if code > 0 and b'"exit-code"' not in records:
        raise LaunchError(f"{command}: bubblewrap could not set up the sandbox (its message is above)")
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_passed_on(child: int) -> Iterator[None]:
    """Leave the terminal's signals to the application, hand it those that are for this process alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ignore(number: int, frame: FrameType | None) -> None:
        """The terminal has told the application as well."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in _children(child) or [child]:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    before: dict[signal.Signals, Any] = {}
    wanted: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: ignore,
        signal.SIGQUIT: ignore,
        signal.SIGTERM: pass_on,
        signal.SIGHUP: pass_on,
    }
    try:
        for number, handler in wanted.items():
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _children(process: int) -> list[int]:
    """Return the children of a process: bubblewrap's is the application."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]
