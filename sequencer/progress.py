"""What a packager sees while a capture runs: live on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text
from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.utils import BaseThread

PLAIN_INTERVAL = 5.0
"""Seconds between lines where there is no terminal."""


FOLLOWED: list[type[FileSystemEvent]] = [FileCreatedEvent, FileDeletedEvent, FileMovedEvent]
EMPTY_MAX = 500


class _Tally(FileSystemEventHandler):
    """Counts files as they appear in the upper folder. An approximation: the scan counts exactly."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._empty: set[str] = set()
        self._last = ""

    def on_any_event(self, event: FileSystemEvent) -> None:
        moved = event.event_type == "moved"
        source = os.fsdecode(event.src_path)
        path = os.fsdecode(event.dest_path) if moved else source
        size = -1
        if event.event_type != "deleted":
            with contextlib.suppress(OSError):
                size = Path(path).lstat().st_size
        with self._lock:
            if moved or size < 0:
                self._sizes.pop(source, None)
            if size >= 0:
                self._sizes[path] = size
                self._last = path.removeprefix(self._root)
            if size == 0 and len(self._empty) < EMPTY_MAX:
                self._empty.add(path)  # just made: it is written later

    def read(self) -> tuple[int, int, str]:
        """Return files, bytes, and the last path."""
        with self._lock:
            for path in tuple(self._empty):
                with contextlib.suppress(OSError):
                    self._sizes[path] = Path(path).lstat().st_size
                self._empty.discard(path)
            return len(self._sizes), sum(self._sizes.values()), self._last


class CaptureDisplay:
    """Follows a capture's upper folder. As a context manager it stops on the way out."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._live: Live | None = None
        self._observer: BaseObserver | None = None
        self._tally: _Tally | None = None
        self._hook: Callable[[threading.ExceptHookArgs], object] | None = (
            None  # while we watch: the usual one
        )
        self._stage = ""
        self._began = time.monotonic()
        self._next_line = self._began + PLAIN_INTERVAL

    def __enter__(self) -> CaptureDisplay:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self.unwatch()

    def watch(self, folder: Path) -> None:
        """Count what appears in `folder`; where it cannot be watched, only the stage is shown."""
        self.unwatch()
        # A burst of new folders overflows inotify: then the counts are short until the scan, no more.
        logging.getLogger("watchdog").setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        self._silence()
        tally = _Tally(str(folder))
        try:
            observer = Observer()
            observer.schedule(tally, str(folder), recursive=True, event_filter=FOLLOWED)
            observer.start()
        except (OSError, RuntimeError, LookupError):  # no inotify watches left, or a folder closed to us
            return
        self._tally, self._observer = tally, observer

    def unwatch(self) -> None:
        """Stop counting."""
        if self._observer is not None:
            with contextlib.suppress(OSError, RuntimeError, LookupError):
                self._observer.stop()
                self._observer.join()
            self._observer = None
        if self._hook is not None:
            threading.excepthook = self._hook
            self._hook = None

    def _silence(self) -> None:
        """Let watchdog's threads end without a word; its bookkeeping fails when many folders vanish at once.

        The counts stand still then, until the scan.
        """
        hook = self._hook = threading.excepthook

        def told(failed: threading.ExceptHookArgs) -> None:
            if not isinstance(failed.thread, BaseThread):
                hook(failed)

        threading.excepthook = told

    def pause(self) -> None:
        """Leave the terminal to another display."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def stage(self, text: str) -> None:
        """Say what begins now."""
        self._stage = text
        if self._quiet:
            return
        if self._live is None:
            print(f"[{self._elapsed():5.0f} s] {text}", file=sys.stderr, flush=True)  # noqa: T201
        else:
            self._console.print(f"[dim]{self._elapsed():5.0f} s[/]  {escape(text)}", highlight=False)
        self.tick()

    def tick(self) -> None:
        """Show the counts of this moment; to be called often."""
        if self._quiet:
            return
        files, size, last = self._tally.read() if self._tally else (0, 0, "")
        line = f"{files:,} files, {size / 1e6:,.1f} MB  {last}"
        if self._live is not None:
            width = max(20, self._console.width - 2)
            self._live.update(Text(line if len(line) <= width else line[: width - 1] + "…", style="cyan"))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_INTERVAL
            if files:
                print(f"[{self._elapsed():5.0f} s]   {line}", file=sys.stderr, flush=True)  # noqa: T201

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


class PackDisplay:
    """A bar for each pass over the bytes, on a terminal; elsewhere nothing. A context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:12}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> PackDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes of the pass `name` are through."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=max(1, total))
        self._progress.update(self._tasks[name], completed=done)


class TrainingDisplay:
    """A line for each run that is over, and on a terminal one that moves. A context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._live: Live | None = None
        self._began = time.monotonic()

    def __enter__(self) -> TrainingDisplay:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Say what is over."""
        seconds = time.monotonic() - self._began
        if self._live is not None:
            self._console.print(f"[dim]{seconds:5.0f} s[/]  {escape(text)}", highlight=False)
        elif not self._quiet:
            print(f"[{seconds:5.0f} s] {text}", file=sys.stderr, flush=True)  # noqa: T201

    def tick(self, text: str) -> None:
        """Say how far it is."""
        if self._live is not None:
            self._live.update(Text(text, style="cyan", no_wrap=True, overflow="ellipsis"))
