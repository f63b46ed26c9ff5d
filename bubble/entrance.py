"""Looks whether a running bubble can be entered with a command, and brings in the files that the user named.

A forked helper joins the namespaces of the bubble's keeper for that; what then enters is crossing.py's.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bubble import namespaces
from bubble.errors import LaunchError
from bubble.mountplace import open_real, place_in

SEARCH_PATH = (
    b"/usr/local/sbin", b"/usr/local/bin", b"/usr/sbin", b"/usr/bin", b"/sbin", b"/bin", b"/usr/local/games",
    b"/usr/games",
)  # fmt: skip


class GoneError(LaunchError):
    """The bubble was ending when it was to be entered; nothing has been started."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A file that the user named: what it is, and where it appears inside."""

    source: Path  # on the host, without links
    identity: tuple[int, int]  # its device and inode when it was decided about
    place: Path  # folder of the bubble's runtime folder: root, home or shared/...
    path: Path  # relative to `place`


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be started inside."""

    command: Sequence[str]
    guests: Sequence[Guest]
    folder: Path  # the bubble's runtime folder
    home: Path
    sockets: Sequence[Path] = ()  # files below `folder` that bubblewrap needs to mount on


def make_ready(keeper: int, flags: int, entry: Entry) -> None:
    """Look for the command of `entry` in the bubble, and show the named files there.

    Args:
        keeper: pidfd of the bubble's process 1.
        flags: the namespaces to join.
        entry: what is to be started.

    Raises:
        GoneError: the bubble is ending; its pidfd tells when it has.
        LaunchError: the bubble cannot be entered, or the command does not exist in it.
    """
    inward, outward = os.pipe()
    helper = os.fork()
    if not helper:
        answer: dict[str, Any] = {}
        try:
            os.close(inward)
            _make_ready(keeper, flags, entry)
        except LaunchError as error:
            answer = {"error": str(error), "hint": error.hint}
        except OSError as error:
            answer = {
                "error": f"the bubble cannot be entered: {error.filename}: {error.strerror}",
                "gone": error.errno == errno.ESRCH,
            }
        except BaseException as error:  # noqa: BLE001 - another process waits for the answer
            answer = {"error": f"the bubble cannot be entered: {error!r}"}
        os.write(outward, json.dumps(answer).encode())
        os._exit(0)
    os.close(outward)
    with os.fdopen(inward, "rb") as pipe:
        told = pipe.read()
    os.waitpid(helper, 0)
    answer = json.loads(told) if told else {"error": "the bubble cannot be entered: the helper died"}
    if answer.get("gone"):
        raise GoneError(answer["error"])
    if "error" in answer:
        raise LaunchError(answer["error"], hint=answer.get("hint"))


def _make_ready(keeper: int, flags: int, entry: Entry) -> None:
    """Join and prepare. Runs in the helper."""
    namespaces.enter(keeper, flags)
    root = os.open(entry.folder / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _check_command(root, entry)
    for guest in entry.guests:
        _bind(guest)
    for place in entry.sockets:
        os.close(place_in(place.parent, Path(place.name), is_folder=False))


def _check_command(root: int, entry: Entry) -> None:
    """Look for the command inside, links followed as the application would see them."""
    command = os.fsencode(entry.command[0])
    if b"/" in command:
        if Path(os.fsdecode(command)).is_relative_to(entry.home):
            return  # lies in a folder that is mounted there later
        candidates = [command]
    else:
        candidates = [folder + b"/" + command for folder in SEARCH_PATH]
    failure = errno.ENOENT
    for candidate in candidates:
        try:
            descriptor = namespaces.open_within(root, candidate)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EAGAIN):
                failure = error.errno
            continue
        mode = os.fstat(descriptor).st_mode
        os.close(descriptor)
        if stat.S_ISREG(mode) and mode & 0o111:
            return
        failure = errno.EACCES
    name = os.fsdecode(command)
    if failure == errno.ENOENT:
        raise LaunchError(
            f"there is no command {name!r} in the bubble", hint="check the package's application entry"
        )
    raise LaunchError(f"the command {name!r} cannot be run in the bubble: {os.strerror(failure)}")


def _bind(guest: Guest) -> None:
    """Mount a named file at its place inside, unless it is there already. No link leads out on the way.

    Descriptors are left to the helper's end, which is near.
    """
    try:
        source, is_folder = _source(guest)
        target = place_in(guest.place, guest.path, is_folder=is_folder)
        there = os.fstat(target)
        if (there.st_dev, there.st_ino) != guest.identity:
            namespaces.place_mount(namespaces.copy_mount(source), target)
    except OSError as error:
        raise LaunchError(
            f"{guest.source} cannot be shown in the bubble: {error.strerror}",
            hint="put it into one of your document folders and try again",
        ) from error


def _source(guest: Guest) -> tuple[int, bool]:
    """Return a descriptor of a named file, the one that was decided about, and whether it is a folder."""
    source = open_real(guest.source)
    here = os.fstat(source)
    if (here.st_dev, here.st_ino) != guest.identity:
        raise OSError(errno.ESTALE, "it has just been replaced by another", str(guest.source))
    return source, stat.S_ISDIR(here.st_mode)
