"""A trial of a package: its applications started in a bubble, until the first window or the exit."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bubble.beginning import RECORD, find
from bubble.cachefile import CacheFolder
from bubble.errors import LaunchError
from bubble.launch import BubbleSpec, encode_spec, is_running, probe
from packageformat.application import Application
from packageformat.stack import bubble_id
from sequencer.display import Display
from sequencer.localsupply import LocalSupplier, supply, write_view_image
from sequencer.packagefile import PackageFile
from sequencer.screen import Screen, Window

WINDOW_S = 120.0
EXIT_S = 60.0
"""Seconds that an application has for its window, or for its answer."""
END_S = 10.0
OUTPUT_MAX = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one application did."""

    application: str
    command: tuple[str, ...]
    holds: bool
    seconds: float  # to the first window, or to the exit
    told: str  # the window's title, or what it printed
    picture: Path | None = None


def arguments_of(command: str, document: str = "") -> list[str]:
    """Return the words of an Exec line, its field codes filled in (Desktop Entry Specification).

    Args:
        command: the line.
        document: the path that `%f`, `%F`, `%u` and `%U` stand for, at the end if none of them is there; no
            document if empty. Other field codes are left out.

    Raises:
        LaunchError: it is not a command line.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LaunchError(
            f"not a command line: {command!r}", hint="correct the application's Exec line"
        ) from error
    plain: list[str] = []
    taken = not document
    for word in words:
        if len(word) == 2 and word[0] == "%" != word[1]:
            if word[1] in "fFuU" and not taken:
                plain.append(document)
                taken = True
        else:
            plain.append(word.replace("%%", "%"))
    if not taken:
        plain.append(document)
    if not words or not plain:
        raise LaunchError(f"an empty command line: {command!r}", hint="correct the application's Exec line")
    return plain


def try_package(
    files: Sequence[PackageFile], scratch: Path, checks: Mapping[str, str], pictures: Path | None
) -> list[Outcome]:
    """Start each application of the topmost package in a bubble over the whole stack.

    Args:
        files: the stack, bottom first.
        scratch: an existing folder on a local disk; what is made there is removed.
        checks: command lines for console applications, by id; without one, the command with --version.
        pictures: a folder for pictures of the windows, or None.

    Raises:
        NoUserNamespacesError, NoFuseError, OverlayError, LaunchError: this machine cannot run a bubble.
    """
    applications = files[-1].package.manifest.applications
    if not applications:
        return []
    probe().require()
    with contextlib.ExitStack() as stack:
        display: Display | None = None
        if any(not application.terminal for application in applications):
            display = stack.enter_context(Display())
        outcomes: list[Outcome] = []
        for application in applications:
            with room_in(scratch) as room, supplied(files, room) as spec:
                if application.terminal or display is None:
                    outcomes.append(_try_console(application, checks.get(application.id, ""), spec, room))
                else:
                    outcomes.append(_try_window(application, spec, display, pictures))
                end_bubble(spec)
        return outcomes


@contextmanager
def room_in(scratch: Path) -> Iterator[Path]:
    """Give a new folder in `scratch`, removed on the way out."""
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=scratch))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, onerror=_open_and_retry)


def _open_and_retry(_: object, path: str, __: object) -> None:
    """An overlay's work folder is closed even to its owner."""
    with contextlib.suppress(OSError):
        Path(path).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def supplied(files: Sequence[PackageFile], room: Path, cache: Path | None = None) -> Iterator[BubbleSpec]:
    """Give a bubble's description whose blocks come from the package files.

    They go through `cache`, or a cache in `room`.
    """
    image = room / "view"
    write_view_image(files, image)
    (room / "state").mkdir()
    with tempfile.TemporaryDirectory(prefix="millstream-") as runtime:  # short: it holds sockets
        spec = BubbleSpec(
            bubble_id=bubble_id([file.package.version_id for file in files]),
            view_image=image,
            cache=cache or room / "cache",
            supplier=Path(runtime) / "supply",
            supplier_restart=(),
            state=room / "state",
            home=room / "home",
            runtime=Path(runtime) / "run",
            policy=files[-1].package.manifest.policy,
        )
        with supply(spec.supplier, image, LocalSupplier(files, CacheFolder(spec.cache))):
            yield spec


def _try_console(application: Application, check: str, spec: BubbleSpec, room: Path) -> Outcome:
    argv = arguments_of(check) if check else [*arguments_of(application.command), "--version"]
    began = time.monotonic()
    output = room / "output"
    child = start_inside(spec, argv, os.environ, output)
    code = await_exit(child, EXIT_S)
    seconds = time.monotonic() - began
    text = " ".join(output.read_text("utf-8", "replace")[:OUTPUT_MAX].split())
    told = text if code == 0 else f"{'no end' if code is None else f'exit code {code}'}: {text}"
    return Outcome(application.id, tuple(argv), code == 0, seconds, told)


def _try_window(
    application: Application, spec: BubbleSpec, display: Display, pictures: Path | None
) -> Outcome:
    argv = arguments_of(application.command)
    environment = {**os.environ, **display.environment}
    environment.pop("WAYLAND_DISPLAY", None)
    with display.screen() as screen:
        screen.forget()
        began = time.monotonic()
        output = spec.view_image.with_name("output")
        child = start_inside(spec, argv, environment, output)

        def has_ended() -> bool:
            # A first process may leave others behind that show the window.
            code = child.poll()
            return code is not None and (code != 0 or not is_running(spec.state))

        window = screen.first_window(WINDOW_S, has_ended)
        seconds = time.monotonic() - began
        picture = _picture(application, screen, window, pictures)
        ended = child.poll()
        if ended is None:
            child.terminate()
            await_exit(child, END_S)
    if window is not None:
        return Outcome(application.id, tuple(argv), True, seconds, window.title, picture)
    text = " ".join(output.read_text("utf-8", "replace")[-400:].split())
    told = f"no window; {'still running' if ended is None else f'exit code {ended}'}: {text}"
    return Outcome(application.id, tuple(argv), False, seconds, told)


def _picture(
    application: Application, screen: Screen, window: Window | None, pictures: Path | None
) -> Path | None:
    if window is None or pictures is None:
        return None
    pictures.mkdir(parents=True, exist_ok=True)
    screen.wait_drawn(window, END_S)
    path = pictures / f"{application.id}.png"
    screen.screenshot(path)
    return path


def start_inside(
    spec: BubbleSpec,
    argv: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    files: Sequence[Path] = (),
) -> subprocess.Popen[bytes]:
    """Start `argv` in the bubble in a process of its own; its output goes to the file `output`.

    `files` are seen inside, at their own paths.
    """
    with output.open("wb") as written:
        child = subprocess.Popen(
            [sys.executable, "-m", "sequencer.trialstart", str(len(files)), *map(str, files), *argv],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            env=dict(environment),
            start_new_session=True,
        )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin as told:
        told.write(encode_spec(spec).encode())
    return child


def await_exit(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Return the child's exit code; after `seconds` it is killed, and None returned."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return None


def end_bubble(spec: BubbleSpec, patience: float = END_S) -> None:
    """Wait until nothing runs in the bubble any more; what runs on after `patience` seconds is killed.

    Raises:
        LaunchError: it does not end even so.
    """
    for seconds, forced in ((patience, False), (END_S, True)):
        found = find(spec.state / RECORD)
        if found is not None:
            with contextlib.suppress(ProcessLookupError):
                if forced:  # process 1 takes all others with it
                    signal.pidfd_send_signal(found[1], signal.SIGKILL)
            os.close(found[1])
        deadline = time.monotonic() + seconds
        while is_running(spec.state):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        else:
            return
    raise LaunchError(f"the bubble in {spec.state} does not end", hint="look for a process in state D")
