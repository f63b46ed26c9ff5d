"""Subordinate ids: the range of user and group ids that this user may give away (subuid(5))."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sequencer.errors import HostError

IDS_NEEDED = 65536
FIRST_ID = 100_000
"""Where useradd begins to give out ranges (login.defs, SUB_UID_MIN)."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """A range of ids that belongs to a user."""

    first: int
    count: int

    def __post_init__(self) -> None:
        if self.first <= 0 or self.count <= 0 or self.first + self.count > 1 << 32:
            raise ValueError(f"not a range of ids: {self.first}+{self.count}")


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """What the namespaces of a capture map from 0 on."""

    users: IdRange
    groups: IdRange


def ranges_of(text: str, names: Iterable[str]) -> list[IdRange]:
    """Return the ranges that `text` (/etc/subuid) gives to a user known by one of `names`."""
    wanted = set(names)
    found: list[IdRange] = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) != 3 or (wanted and parts[0] not in wanted):
            continue
        if parts[1].isdigit() and parts[2].isdigit() and int(parts[1]) > 0 and int(parts[2]) > 0:
            found.append(IdRange(int(parts[1]), int(parts[2])))
    return found


def free_range(texts: Iterable[str]) -> IdRange:
    """Return a range that neither of `texts` (/etc/subuid, /etc/subgid) has given to anybody."""
    ends = [taken.first + taken.count for text in texts for taken in ranges_of(text, ())]
    first = max([FIRST_ID, *ends])
    return IdRange(-(-first // IDS_NEEDED) * IDS_NEEDED if ends else first, IDS_NEEDED)


def find_subordinate_ids() -> tuple[SubordinateIds, str]:
    """Return this user's ranges, and a line about what was set up for it (empty: nothing).

    For root a range is allocated when it has none; an ordinary user is told what an administrator must do.

    Raises:
        HostError: newuidmap is missing, or there is no range of 65,536 ids.
    """
    for program in ("newuidmap", "newgidmap"):
        if shutil.which(program) is None:
            raise HostError(
                f"{program} is missing: without it an installer could only run as you",
                hint="have an administrator run: apt-get install uidmap",
            )
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    found = _look(name, uid)
    if found is not None:
        return found, ""
    proposed = free_range(_read(path) for path in ("/etc/subuid", "/etc/subgid"))
    last = proposed.first + proposed.count - 1
    arguments = ["--add-subuids", f"{proposed.first}-{last}", "--add-subgids", f"{proposed.first}-{last}"]
    command = ["usermod", *arguments, name]
    if uid != 0:
        raise HostError(
            f"the user {name} has no range of {IDS_NEEDED} subordinate ids",
            hint=f"have an administrator run: {' '.join(command)}",
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _look(name, uid)
    if done.returncode != 0 or found is None:
        raise HostError(
            f"could not give root a range of subordinate ids: {done.stderr.strip()}",
            hint=f"run: {' '.join(command)}",
        )
    return found, f"gave root the subordinate ids {proposed.first}-{last} (/etc/subuid, /etc/subgid)"


def _look(name: str, uid: int) -> SubordinateIds | None:
    ranges: list[IdRange] = []
    for path in ("/etc/subuid", "/etc/subgid"):
        large = [one for one in ranges_of(_read(path), (name, str(uid))) if one.count >= IDS_NEEDED]
        if not large:
            return None
        ranges.append(large[0])
    return SubordinateIds(ranges[0], ranges[1])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
