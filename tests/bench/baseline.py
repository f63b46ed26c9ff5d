"""An application on plain folders of the host, under the same composition as a bubble's."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from samples.visit import Launch
from tests.packagefiles import open_package
from tests.stage import Stage

OUT_OF_TIME = "runs out of time, "
"""How the message begins of what might have come later."""

_TOUCHED = 2 << 30
"""Bytes of memory, more than any launch takes; at most a quarter of what is free."""

Brought = Callable[[], AbstractContextManager[Sequence[Path]]]
"""Makes the lower folders (topmost first) appear, for as long as its block lasts."""


@contextmanager
def shown(tree: Path, place: Path) -> Iterator[Path]:
    """Show `tree`, which may lie behind folders that the user cannot enter, at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", "-o", "ro", tree, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def first_window(
    on: Stage,
    application: str,
    lowers: Sequence[Path],
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    prepare: Callable[[], None] = lambda: None,
    bring: Brought | None = None,
) -> float:
    """Return the seconds to the first window of `application` on `lowers`.

    Args:
        on: the stage; its display and user are used.
        application: the sample.
        lowers: where its files will be, topmost first.
        environment: added to a fresh login's.
        timeout_s: how long to wait for a window.
        prepare: called when everything waits for the start signal: empties page caches, for one.
        bring: makes the lower folders appear; the clock runs from before that.

    Raises:
        RuntimeError: no window came; the message says what the application said.
    """
    with run(on, _command(on, application), lowers, environment) as (begin, launch):
        prepare()
        touch_memory()
        with on.display.screen() as screen:
            started = time.monotonic()
            with bring() if bring is not None else _nothing():
                try:
                    begin()
                    left = timeout_s - (time.monotonic() - started)
                    window = screen.first_window(left, ended=lambda: launch.process.poll() is not None)
                    if window is None:
                        took = time.monotonic() - started
                        late = OUT_OF_TIME if launch.process.poll() is None else ""
                        raise RuntimeError(
                            f"{application}: {late}no window in {took:.0f} s: {launch.output()[-1000:]}"
                        )
                    return round(window.mapped_at - started, 3)
                finally:
                    launch.end()
    raise AssertionError("unreachable")


@contextmanager
def run(
    on: Stage, command: Sequence[str], lowers: Sequence[Path], environment: Mapping[str, str]
) -> Iterator[tuple[Callable[[], None], Launch]]:
    """Have `command` ready to start on `lowers`; yields what starts it, and its process."""
    program = on.folder / "overlaid.py"
    shutil.copyfile(Path(__file__).parent / "overlaid.py", program)
    scratch = on.user.home / "native"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    on.user.give(scratch)
    with (on.folder / "native.log").open("w+") as log:
        process = on.user.popen(
            [
                *(on.programs / "python", program, ":".join(map(str, lowers)), scratch),
                *(on.user.runtime / "Xauthority", *command),
            ],
            environment={"DISPLAY": on.display.name, **environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        launch = Launch(process, time.monotonic(), log)
        try:
            deadline = time.monotonic() + 30
            while "ready" not in launch.output():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the baseline does not start: {launch.output()[-1000:]}")
                time.sleep(0.01)

            def begin() -> None:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.close()

            yield begin, launch
        finally:
            launch.end()
            shutil.rmtree(scratch, ignore_errors=True)


def drop_page_cache() -> None:
    """Empty the page cache of the machine."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def touch_memory() -> None:
    """Have the machine's free memory ready to be used.

    A virtual machine gets memory from its host when it touches it for the first time, or again after the host
    took it back: a program that is given such pages takes a third longer (inkscape: 0.57 s of a processor
    instead of 0.43). Whether it is depends on what ran before: this comes before every start that is timed.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = min(_TOUCHED, free // 4)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass


def _command(on: Stage, application: str) -> list[str]:
    """Return the words of the application's command, from its package, without field codes."""
    applications = open_package(on.package(application)).package.manifest.applications
    found = next(
        (one for one in applications if one.id in {application, f"{application}.desktop"}), applications[0]
    )
    return [word for word in found.command.replace('"', "").split() if not word.startswith("%")]


@contextmanager
def _nothing() -> Iterator[Sequence[Path]]:
    yield ()
