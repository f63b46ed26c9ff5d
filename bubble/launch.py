"""Start an application in a bubble, or in the one that runs already.

start() = approach() ── lock ──┬─ no bubble yet: view + keeper (process 1 of the bubble), then look inside
                               └─ bubble runs: look inside
        + cross()    join the keeper's namespaces, bubblewrap, application: the caller's own child

The two halves may be two processes: the agent's launcher, which has all of this in memory, does the first for
`appclient run`, which does the second.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bubble import hostreach
from bubble.beginning import (
    RECORD,
    UPPER_LOCK,
    Running,
    compose,
    find,
    policy_digest,
    upper_lock,
)
from bubble.crossing import cross, outcome
from bubble.entrance import Entry, GoneError, make_ready
from bubble.errors import BubbleBusyError, LaunchError
from bubble.guests import guests
from bubble.host import Host, probe, require_once
from bubble.identity import HostAnswers, Person, identity_files
from bubble.identity import environment as bubble_environment
from bubble.offspring import StartProcess, memory_file, spawn
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

__all__ = [
    "BubbleSpec", "Host", "Threshold", "approach", "decode_spec", "encode_spec", "is_running", "probe",
    "require_once", "start", "unmade_sandbox",
]  # fmt: skip


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
    while True:
        with approach(spec, argv, files=files, environment=environment, cwd=cwd) as threshold:
            try:
                child, status = threshold.cross()
            except OSError as error:
                if error.errno == errno.ESRCH and threshold.wait_for_end():
                    continue
                raise LaunchError(
                    f"the bubble cannot be entered: {error.filename}: {error.strerror}"
                ) from error
        code = outcome(child, status)
        if code is None:
            raise LaunchError(unmade_sandbox(argv[0]))
        return code


def unmade_sandbox(command: str) -> str:
    """Return what to say when bubblewrap failed before `command` began."""
    return f"{command}: bubblewrap could not set up the sandbox (its message is above)"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bubble that stands and is locked, with everything that a start in it needs. To be closed."""

    keeper: int  # pidfd of its process 1
    flags: int  # namespaces to join
    lock: int  # descriptor that holds the lock of everybody who enters or ends the bubble
    sandbox: int  # descriptor of bubblewrap's arguments
    program: int  # descriptor of the system call filter
    bwrap: str
    folder: str  # working folder inside
    command: Sequence[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for descriptor in (self.lock, self.keeper, self.sandbox, self.program):
            os.close(descriptor)

    def cross(self) -> tuple[int, int]:
        """Start the command; see `crossing.cross`."""
        return cross(
            self.keeper, self.flags, self.bwrap, self.folder, self.sandbox, self.program, self.command
        )

    def wait_for_end(self) -> bool:
        """Return whether the bubble, which is ending, has ended in time."""
        return bool(select.select([self.keeper], [], [], ENDING_PATIENCE)[0])


def approach(
    spec: BubbleSpec,
    argv: Sequence[str],
    *,
    files: Sequence[Path] = (),
    environment: Mapping[str, str],
    cwd: Path | None = None,
    start_process: StartProcess = spawn,
) -> Threshold:
    """Find or make the bubble of `spec` and prepare the start of `argv` in it.

    Arguments and errors are those of `start`; `start_process` starts the bubble's own processes.
    """
    if not argv:
        raise LaunchError("no command to start", hint="name an application")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise LaunchError("bubblewrap is not installed", hint="install the package 'bubblewrap'")
    who = hostreach.person()
    named = hostreach.files_named(files)

    def write_files(folder: Path) -> None:
        _write_identity(spec, who, hostreach.host_answers(), folder)
        _write_xauthority(spec, who, folder, environment)

    try:
        for folder in (spec.state, spec.home, spec.runtime):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as undo:
            lock = _lock(spec.state / "lock")  # the new process holds it too, until it becomes bubblewrap
            undo.callback(os.close, lock)
            while True:
                found = find(spec.state / RECORD)
                if found is not None and found[0].policy == policy_digest(spec.policy):
                    write_files(Path(found[0].folder))
                running, keeper = found or compose(spec, who, environment, start_process, write_files)
                try:
                    threshold = _threshold(
                        running, keeper, lock, bwrap, spec, who, argv, named, environment, cwd
                    )
                except GoneError:
                    # Its process 1 has been killed and waits for others to end, one in a read for instance.
                    ended = select.select([keeper], [], [], ENDING_PATIENCE)[0]
                    os.close(keeper)
                    if not ended:
                        raise
                except BaseException:
                    os.close(keeper)
                    raise
                else:
                    undo.pop_all()
                    return threshold
    except OSError as error:
        raise LaunchError(
            f"the bubble cannot be started: {error.filename or spec.state}: {error.strerror}",
            hint="check the disk and the permissions",
        ) from error


def _threshold(
    running: Running,
    keeper: int,
    lock: int,
    bwrap: str,
    spec: BubbleSpec,
    who: Person,
    argv: Sequence[str],
    named: Mapping[Place, tuple[int, int]],
    environment: Mapping[str, str],
    cwd: Path | None,
) -> Threshold:
    """Prepare the start of `argv` in a running bubble."""
    host = hostreach.host_answers()
    if running.policy != policy_digest(spec.policy):
        raise BubbleBusyError(
            "this application runs by a policy that has been changed since",
            hint="close all its windows, then start it again",
        )
    folder = Path(running.folder)
    documents = [Document(*map(Path, paths)) for paths in running.documents]
    reach = hostreach.reach(spec, who, folder, environment, documents)
    display = environment.get("DISPLAY", "")
    # By descriptor, not in arguments: the application sees the processes of its bubble.
    variables = bubble_environment(
        who, host, spec.policy, environment, socket_environment(spec.policy, reach, display)
    )
    told = [*bwrap_arguments(spec.policy, reach), *environment_arguments(variables)]
    entry = Entry(
        command=argv,
        guests=guests(spec.policy, reach, folder, named),
        folder=folder,
        home=reach.home,
        sockets=(folder / "shared/x11" / reach.x11.name,) if spec.policy.x11 and reach.x11 else (),
    )
    chosen = _working_folder(spec.policy, reach, named, cwd)
    filtering = filter_program(nested_namespaces=spec.policy.nested_namespaces)
    make_ready(keeper, running.flags, entry)
    return Threshold(
        keeper=keeper,
        flags=running.flags,
        lock=lock,
        sandbox=memory_file(b"".join(os.fsencode(argument) + b"\0" for argument in told)),
        program=memory_file(filtering),
        bwrap=bwrap,
        folder=chosen,
        command=argv,
    )


def is_running(state: Path) -> bool:
    """Return whether the bubble whose folder is `state` runs, or has not let go of its upper yet.

    Waits for a start that is under way, and a little for a bubble that is just ending.
    """
    if not state.is_dir():
        return False
    lock = _lock(state / "lock")
    try:
        found = find(state / RECORD)
        if found is not None:
            os.close(found[1])
            return True
        try:
            os.close(upper_lock(state / UPPER_LOCK, patience=2.0))
        except BubbleBusyError:
            return True
        return False
    finally:
        os.close(lock)


def _lock(place: Path) -> int:
    """Return a descriptor that holds the lock of everybody who enters a bubble or ends it."""
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
