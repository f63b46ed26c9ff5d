"""Makes a bubble that does not run yet, and finds one that does. The caller holds `state/lock`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bubble import hostreach, runtimefolder
from bubble.dbusproxy import start_proxy
from bubble.errors import BubbleBusyError, LaunchError, NoFuseError, NoUserNamespacesError, OverlayError
from bubble.identity import Person
from bubble.keeper import KeeperTask
from bubble.mountpoints import MOUNT_FILES, MOUNT_FOLDERS
from bubble.offspring import Offspring, StartProcess
from bubble.sandbox import (
    Reach,
    granted_documents,
    inside,
    namespace_flags,
    pinned_folders,
    pinned_runtime,
    standing,
)
from bubble.spec import BubbleSpec
from bubble.view import ViewTask
from packageformat.encoding import encode
from packageformat.errors import MillstreamError
from packageformat.hashing import digest
from packageformat.policy import Policy, policy_value

RECORD = "running.json"
"""In the bubble's folder while it runs."""

UPPER_LOCK = "upper.lock"

UPPER_PATIENCE = 10.0
"""Seconds to wait for an ending bubble to let go of the user's changes."""

COMPOSE_PATIENCE = 30.0
"""Seconds that the namespaces and mounts of a new bubble may take."""

_LOG_MAX = 1 << 20
_detached: list[Offspring] = []  # views and proxies: to be reaped if they end before us


@dataclass(frozen=True, slots=True)
class Running:
    """The record of a running bubble."""

    process: int  # the keeper's id on the host
    started: int  # its start, clock ticks since boot: tells it from a later process with that id
    boot: str  # the boot that both belong to
    flags: int  # namespaces to join
    folder: str  # runtime folder
    policy: str  # policy_digest of what it was made by
    documents: list[tuple[str, str, str]]  # mount, path inside, and real path of each document folder


def find(record: Path) -> tuple[Running, int] | None:
    """Return the running bubble of a record and a pidfd of its keeper, None if it does not run."""
    try:
        running = Running(**json.loads(record.read_text()))
        if running.boot != _boot():
            return None
        keeper = os.pidfd_open(running.process)
    except (OSError, ValueError, TypeError):
        return None
    # The descriptor is of one process for ever; only now is it certain whose start time this is.
    if _start_time(running.process) == running.started and not select.select([keeper], [], [], 0)[0]:
        return running, keeper
    os.close(keeper)
    return None


def compose(
    spec: BubbleSpec,
    who: Person,
    environment: Mapping[str, str],
    start_process: StartProcess,
    meanwhile: Callable[[Path], None],
) -> tuple[Running, int]:
    """Make the bubble of `spec`: its view, its namespaces, its mounts. Return it and its keeper's pidfd.

    `start_process` starts view and keeper; while they work, `meanwhile` is called with the runtime folder.

    Raises:
        NoUserNamespacesError, NoFuseError, OverlayError, LaunchError, BubbleBusyError: see `launch.start`.
    """
    _reap_detached()
    _sweep(spec)
    upper, work = spec.state / "upper", spec.state / "work"
    for place in (upper, work):
        place.mkdir(exist_ok=True, mode=0o700)
    upper.chmod(0o755)  # the bubble's root folder
    folder = spec.runtime / secrets.token_hex(4)
    reach = hostreach.reach(spec, who, folder, environment)
    documents = granted_documents(spec.policy, reach, hostreach.documents_asked(spec))
    paths = [place.path for place in documents]
    _check_places(upper, [str(reach.home), *map(str, paths)])
    _check_places(
        spec.home, [str(path.relative_to(reach.home)) for path in paths if inside(path, [reach.home])]
    )
    pins = _pins(spec, who, folder, reach, paths)
    with ExitStack() as undo:
        changes = upper_lock(spec.state / UPPER_LOCK)
        undo.callback(os.close, changes)
        runtimefolder.sweep(spec.runtime, time.time())
        alive = runtimefolder.make(folder)
        undo.callback(os.close, alive)
        failed = undo.enter_context(ExitStack())
        failed.callback(runtimefolder.remove, folder)
        log = os.open(_log_of(spec), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, log)
        kept = [changes, alive]
        if spec.policy.dbus_session and (address := hostreach.session_bus(environment, who.uid)):
            proxy, proxy_life = start_proxy(spec.policy, address, folder / "bus", log)
            _detached.append(proxy)
            undo.callback(os.close, proxy_life)
            kept.append(proxy_life)
        view_door, keeper_door = socket.socketpair()
        control, keeper_control = socket.socketpair()
        undo.enter_context(control)
        with view_door, keeper_door, keeper_control:
            real = [str(place.real) for place in documents]
            told = _keeper_task(spec, folder, real, pins, keeper_door, keeper_control, kept)
            keeper = start_process("bubble.keeper", asdict(told), [told.door, told.control, *kept], log)
            seen = _view_task(spec, folder, view_door, kept[:2])
            _detached.append(start_process("bubble.view", asdict(seen), [seen.door, *seen.kept], log))
        meanwhile(folder)
        process, mounted = _await_keeper(spec, control, keeper)
        running = Running(
            process,
            _start_time(process),
            _boot(),
            namespace_flags(spec.policy),
            str(folder),
            policy_digest(spec.policy),
            [
                (str(folder / "shared/documents" / str(n)), str(documents[n].path), str(documents[n].real))
                for n in mounted
            ],
        )
        record = spec.state / RECORD
        scratch = record.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(running)) + "\n")
        scratch.replace(record)
        try:
            descriptor = os.pidfd_open(process)
        except OSError as error:
            raise LaunchError(f"the bubble ended at once: {error.strerror}") from error
        failed.pop_all()
        return running, descriptor


def _sweep(spec: BubbleSpec) -> None:
    """Remove what an earlier bubble left whose view was killed: the view removes it otherwise."""
    record = spec.state / RECORD
    with suppress(OSError, ValueError, TypeError):
        folder = Path(Running(**json.loads(record.read_text())).folder)
        if folder.parent == spec.runtime:
            runtimefolder.remove(folder)
    record.unlink(missing_ok=True)


def _view_task(spec: BubbleSpec, folder: Path, door: socket.socket, kept: list[int]) -> ViewTask:
    return ViewTask(
        bubble_id=spec.bubble_id.hex(),
        image=str(spec.view_image),
        cache=str(spec.cache),
        supplier=str(spec.supplier),
        supplier_restart=list(spec.supplier_restart),
        folder=str(folder),
        figures=str(spec.state / "view.json"),
        door=door.fileno(),
        kept=kept,
        streamed=spec.streamed,
        orders=[str(place) for place in spec.orders],
    )


def _pins(
    spec: BubbleSpec, who: Person, folder: Path, reach: Reach, documents: Sequence[Path]
) -> list[tuple[str, str, bool]]:
    """Return what nobody in the bubble may rename, as the keeper wants it."""
    folders = pinned_folders(spec.policy, reach.home, documents)
    found = [(*standing(folder, reach.home, path), True) for path in folders]
    found += [
        (folder / "shared/run", Path(name), is_folder)
        for name, is_folder in pinned_runtime(spec.policy, who.uid)
    ]
    return [(str(base.relative_to(folder)), str(path), is_folder) for base, path, is_folder in found]


def policy_digest(policy: Policy) -> str:
    """Return what tells two policies apart."""
    return digest(encode(policy_value(policy))).hex()


def _keeper_task(
    spec: BubbleSpec,
    folder: Path,
    documents: list[str],
    pins: list[tuple[str, str, bool]],
    door: socket.socket,
    control: socket.socket,
    kept: list[int],
) -> KeeperTask:
    return KeeperTask(
        flags=namespace_flags(spec.policy),
        folder=str(folder),
        upper=str(spec.state / "upper"),
        work=str(spec.state / "work"),
        home=str(spec.home),
        documents=documents,
        pins=pins,
        x11=spec.policy.x11,
        lock=str(spec.state / "lock"),
        record=str(spec.state / RECORD),
        control=control.fileno(),
        door=door.fileno(),
        kept=kept,
    )


def _await_keeper(spec: BubbleSpec, control: socket.socket, keeper: Offspring) -> tuple[int, list[int]]:
    """Return the id of the bubble's process 1 when the bubble stands, and the documents that were mounted."""
    control.settimeout(COMPOSE_PATIENCE)
    process = 0
    documents: list[int] = []
    ready = False
    try:
        with control.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                if "refused" in told:
                    keeper.wait()
                    raise _refusal(spec, told)
                process = int(told.get("process", process))
                documents = told.get("documents", documents)
                ready = told.get("ready", ready)
                if process and ready:
                    keeper.wait()
                    return process, documents
    except TimeoutError as error:
        keeper.kill()
        keeper.wait()
        raise LaunchError(
            f"the bubble did not stand within {COMPOSE_PATIENCE:.0f} s; its log is {_log_of(spec)}"
        ) from error
    keeper.wait()
    raise LaunchError(f"the bubble's keeper died; its log is {_log_of(spec)}")


def _refusal(spec: BubbleSpec, told: dict[str, Any]) -> MillstreamError:
    """Return the error for a step that the host refused."""
    step, text = told["refused"], told["text"]
    if step == "namespaces":
        return NoUserNamespacesError(f"this host refuses user namespaces: {text}")
    if step == "fuse":
        return NoFuseError(f"/dev/fuse cannot be used: {text}")
    if step == "fuse mount" and told["errno"] == errno.ENOENT:
        step = "view"  # it takes the runtime folder with it when it ends, here before the keeper got that far
    if step == "fuse mount":
        return NoFuseError(f"no file system can be mounted in {spec.runtime}: {text}")
    if step == "overlay":
        return OverlayError(f"no overlay can be mounted over {spec.state}: {text}")
    if step == "proc":
        return NoUserNamespacesError(
            f"this host refuses a /proc of its own to a bubble: {text}",
            hint="a container that hides parts of /proc cannot run bubbles: run on the host itself",
        )
    if step == "view":
        return LaunchError(
            f"the bubble's view died: {_last_line(_log_of(spec))}", hint="start the application again"
        )
    return LaunchError(f"the bubble cannot be put together: {text}")


def upper_lock(place: Path, patience: float = UPPER_PATIENCE) -> int:
    """Return the locked lock of the user's changes. View and keeper hold it while the overlay exists.

    Raises:
        BubbleBusyError: it is held for longer than `patience` seconds.
    """
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise BubbleBusyError(
                    f"an earlier run of this application has not ended yet ({place})"
                ) from None
            time.sleep(0.01)
        else:
            return descriptor


def _check_places(upper: Path, places: Sequence[str]) -> None:
    """Refuse an upper in which the application has put a link where the bubble mounts something."""
    for place in [*map(os.fsdecode, (*MOUNT_FOLDERS, *MOUNT_FILES)), *places]:
        path = upper
        for part in Path(place.lstrip("/")).parts:
            path = path / part
            try:
                mode = path.lstat().st_mode
            except OSError:
                break
            if stat.S_ISLNK(mode):
                raise LaunchError(
                    f"the application has put a link at /{path.relative_to(upper)}, where its bubble needs "
                    "a place of its own",
                    hint="run 'appclient reset' for this application",
                )


def _log_of(spec: BubbleSpec) -> Path:
    """Return the bubble's log, begun anew when it has grown too large."""
    place = spec.state / "bubble.log"
    with suppress(OSError):
        if place.stat().st_size > _LOG_MAX:
            place.replace(place.with_suffix(".log.1"))
    return place


def _last_line(place: Path) -> str:
    try:
        lines = place.read_text(errors="replace").splitlines()
    except OSError:
        return "no log"
    return lines[-1] if lines else "no log"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(process: int) -> int:
    """Return when a process started, in clock ticks since boot; -1 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1


def _reap_detached() -> None:
    _detached[:] = [process for process in _detached if process.poll() is None]
