"""An installation as its builder follows it: its log, its steps, its end, and what the worker found."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from packageformat.tree import Tree, decode_tree
from sequencer.enclosure import Enclosure, Message
from sequencer.errors import InstallError, InstallTimeoutError, StorageError
from sequencer.progress import CaptureDisplay
from sequencer.recipe import Recipe
from sequencer.scan import Findings
from sequencer.workfolder import WorkFolder

LOG_TAIL = 3
"""Lines of the log that an error repeats."""

ROOM_MIN = 1 << 16
"""Free bytes of a disk that counts as full."""

LINE_MAX = 90
"""Characters of a command that are shown."""

OFFLINE_SIGNS = (
    "Could not resolve",
    "Temporary failure",
    "Name or service not known",
    "Network is unreachable",
    "Unable to locate package",
    "Failed to establish a new connection",
    "No matching distribution",
)


@dataclass(frozen=True, slots=True)
class Captured:
    """What the worker found."""

    tree: Tree
    findings: Findings
    missing: dict[str, list[str]]
    contents: tuple[str, ...]
    installed: dict[str, str]


class InstallLog:
    """The file that keeps what the commands print."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(
                path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error.strerror}", hint="choose another --output"
            ) from error

    def __enter__(self) -> InstallLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def tail(self) -> str:
        """Return the last lines, joined to one."""
        size = os.fstat(self.descriptor).st_size
        text = os.pread(self.descriptor, 4096, max(0, size - 4096)).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-LOG_TAIL:])[-400:]


def follow(
    worker: Enclosure,
    recipe: Recipe,
    work: WorkFolder,
    folder: Path,
    display: CaptureDisplay,
    log: InstallLog,
) -> Captured:
    """Follow the worker to the end of its scan."""
    deadline = time.monotonic() + recipe.build.timeout_s
    scanning = False
    line = ""
    while True:
        message = worker.hear(time.monotonic() + 0.25)
        display.tick()
        if message is None:
            if not scanning and time.monotonic() > deadline:
                raise InstallTimeoutError(
                    f"the installer did not end within {recipe.build.timeout_s} s: {line}; log: {log.path}"
                )
            continue
        if "failed" in message:
            raise _install_error(message, recipe, log, folder)
        if "scanned" in message:
            return _captured(worker, message)
        stage = str(message["stage"])
        scanning = stage == "scan"
        line = _short(str(message["line"]))
        if message.get("ready"):
            work.close(folder)
            display.watch(folder / "upper")
        if stage == "command":
            display.stage(f"[{message['number']}/{message['count']}] {line}")
        elif stage != "compose":
            display.stage(f"{stage} {line}".strip())


def _install_error(
    message: Message, recipe: Recipe, log: InstallLog, folder: Path
) -> InstallError | StorageError:
    tail = log.tail()
    if os.strerror(errno.ENOSPC) in tail or _is_full(folder):
        return StorageError(
            f"no room for what the installer writes: {folder.parent}: {_short(str(message['line']))}",
            hint=f"free space there, or set XDG_CACHE_HOME to a folder with room (log: {log.path})",
        )
    text = f"the installer failed with status {message['status']}: {_short(str(message['line']))}"
    hint = f"read the log {log.path}, correct the recipe, then build again"
    offline = any(sign in tail for sign in OFFLINE_SIGNS)
    if offline and not (recipe.build.network or recipe.build.bootstrap):
        hint = "it wants the network: say build.network = true in the recipe"
    return InstallError(f"{text} ({tail})" if tail else text, hint=hint)


def _is_full(folder: Path) -> bool:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < ROOM_MIN or (status.f_files > 0 and status.f_favail == 0)


def _short(line: str) -> str:
    """Return a command as one line that fits a terminal."""
    words = " ".join(line.split())
    return words if len(words) <= LINE_MAX else f"{words[: LINE_MAX - 1]}…"


def _captured(worker: Enclosure, message: Message) -> Captured:
    findings, missing = message["findings"], message["missing_libraries"]
    contents, installed = message["contents"], message["installed"]
    assert isinstance(findings, dict)
    assert isinstance(missing, dict)
    assert isinstance(contents, list)
    assert isinstance(installed, dict)
    tree = decode_tree(worker.channel.hear_bytes())
    return Captured(tree, Findings(**findings), missing, tuple(contents), installed)
