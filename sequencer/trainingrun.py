"""One run of training: an application in a bubble, on a display of our own, until it shows its window."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bubble.launch import BubbleSpec, is_running
from packageformat.application import Application
from sequencer.display import Display
from sequencer.errors import TrainingError
from sequencer.firsttouch import RunKind
from sequencer.trial import WINDOW_S, arguments_of, await_exit, end_bubble, start_inside

CLOSE_S = 5.0
"""Seconds that an application has to close its window, which lets it write its settings."""

LOCALE, SIZE = "en_US.UTF-8", (1280, 800)

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """What to run."""

    name: str
    kind: RunKind
    fresh: bool = True  # an empty home and no changes
    document: Path | None = None
    locale: str = LOCALE
    size: tuple[int, int] = SIZE
    network: bool = True  # as the package's policy says


@dataclass(frozen=True, slots=True)
class Shown:
    """A first window: seconds of the monotonic clock."""

    began: float
    mapped_at: float


@contextmanager
def shown(
    application: Application,
    step: Step,
    spec: BubbleSpec,
    room: Path,
    environment: Mapping[str, str],
    tick: Callable[[float], None],
) -> Iterator[Shown]:
    """Start the application; the block runs when it shows its window, which is closed behind it.

    Args:
        application: what to start.
        step: how.
        spec: its bubble.
        room: for what it says.
        environment: what comes to the run's own.
        tick: is told often when it began, until the window.

    Raises:
        TrainingError: there is no window.
    """
    if not step.network:
        spec = replace(spec, policy=replace(spec.policy, network=False))
    if step.fresh:
        remove(spec.state.parent)
        remove(spec.home)
    spec.state.mkdir(parents=True, exist_ok=True)
    output = room / "output"
    argv = arguments_of(application.command, str(step.document or ""))
    with Display(*step.size) as display, display.screen() as screen:
        inside = {**_environment(step.locale, display.environment), **environment}
        screen.forget()
        began = time.monotonic()
        child = start_inside(spec, argv, inside, output, [step.document] if step.document else [])
        try:

            def has_ended() -> bool:
                tick(began)
                code = child.poll()
                return code is not None and (code != 0 or not is_running(spec.state))

            window = screen.first_window(WINDOW_S, has_ended)
            if window is None:
                raise _no_window(application, step, child.poll(), output)
            yield Shown(began, window.mapped_at)
            screen.ask_to_close(window)
            _await_end(spec)
        finally:
            if child.poll() is None:
                child.terminate()
                await_exit(child, CLOSE_S)
            end_bubble(spec, patience=1.0)


def _await_end(spec: BubbleSpec) -> None:
    """Wait until an application that was asked to close has gone, for a while."""
    end = time.monotonic() + CLOSE_S
    while is_running(spec.state) and time.monotonic() < end:
        time.sleep(POLL_S)


def _no_window(application: Application, step: Step, code: int | None, output: Path) -> TrainingError:
    try:
        said = " ".join(output.read_text("utf-8", "replace")[-400:].split())
    except OSError:
        said = ""
    how = f"it ended with {code}" if code is not None else f"it runs, but for {WINDOW_S:.0f} s shows none"
    return TrainingError(
        f"{application.id} shows no window ({step.name}): {how}{f': {said}' if said else ''}",
        hint="try 'sequencer verify', correct the recipe, or build with --no-train",
    )


def _environment(locale: str, display: Mapping[str, str]) -> dict[str, str]:
    """Return what the run's environment is: nothing of the packager's own session."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LC_")
        and name not in ("LANGUAGE", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "GTK_THEME")
        and not name.startswith("XDG_CURRENT_")
    }
    return {**ours, **display, "LANG": locale}


def remove(folder: Path) -> None:
    """Remove what a bubble left, if anything; an overlay's work folder is closed even to its owner."""
    if not folder.exists():
        return
    for place in folder.glob("*/work/work"):
        place.chmod(0o700)
    shutil.rmtree(folder)
