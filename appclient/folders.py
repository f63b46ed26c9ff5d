"""Where the client keeps what: the XDG folders, the sockets and the mount points."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appclient.errors import CacheError, storage_error
from appclient.meetingplace import LAUNCHER, runtime_folder


@dataclass(frozen=True, slots=True)
class Folders:
    """The client's folders. All but `data` are the client's alone and are never visible in a bubble."""

    cache: Path  # what can be fetched again: files, versions, views
    state: Path  # what cannot: bubbles (copy-on-write layers), homes, trust, statistics, the log
    config: Path  # sign-in: server, pins, token
    runtime: Path  # sockets and mount points, gone after a restart of the machine
    data: Path  # XDG_DATA_HOME: desktop entries and icons

    @property
    def own(self) -> tuple[Path, ...]:
        """The folders that no application may see."""
        return (self.cache, self.state, self.config, self.runtime)

    @property
    def files(self) -> Path:
        """File contents, by content id (bubble.cachefile)."""
        return self.cache / "files"

    @property
    def versions(self) -> Path:
        """Heads of packages: everything before the blocks, by version id and object digest."""
        return self.cache / "versions"

    def whole_mark(self, version: bytes) -> Path:
        """The mark of a version that is wholly in the cache (heads.py), for commands that only look."""
        return self.versions / version.hex() / "whole"

    @property
    def views(self) -> Path:
        """View images, by bubble id."""
        return self.cache / "views"

    @property
    def bubbles(self) -> Path:
        """Copy-on-write layers, by bubble id."""
        return self.state / "bubbles"

    @property
    def homes(self) -> Path:
        """Private homes (homes.py)."""
        return self.state / "homes"

    @property
    def log(self) -> Path:
        """What the agent did."""
        return self.state / "agent.log"

    @property
    def agent_socket(self) -> Path:
        """Where commands talk to the agent."""
        return self.runtime / "agent.sock"

    @property
    def supplier_socket(self) -> Path:
        """Where views ask for blocks."""
        return self.runtime / "supply.sock"

    @property
    def launcher_socket(self) -> Path:
        """Where `run` finds the agent's launcher."""
        return self.runtime / LAUNCHER

    @property
    def host_memory(self) -> Path:
        """Says that bubbles can run on this machine, since it was started."""
        return self.runtime / "host"

    @property
    def agent_lock(self) -> Path:
        """Held by the one agent of this user."""
        return self.runtime / "agent.lock"

    def prepare(self) -> None:
        """Make the folders, closed to everybody else.

        Raises:
            CacheError: one cannot be made, or belongs to somebody else.
        """
        for folder in self.own:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                status = folder.lstat()
            except OSError as error:
                raise storage_error("making the folder", folder, error) from error
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise CacheError(
                    f"{folder} is not a folder of yours",
                    hint="remove it, or set XDG_RUNTIME_DIR and the other XDG folders to yours",
                )
            if folder == self.runtime and status.st_mode & 0o077:
                folder.chmod(0o700)


def folders_of(environment: Mapping[str, str], user: int) -> Folders:
    """Return the folders of the user `user` (numeric id) under the XDG rules.

    Raises:
        CacheError: there is no home.
    """
    home = environment.get("HOME", "")
    if not home.startswith("/"):
        raise CacheError("HOME is not set to a folder", hint="set HOME to your home folder")

    def folder(variable: str, fallback: str) -> Path:
        given = environment.get(variable, "")
        return Path(given) if given.startswith("/") else Path(home) / fallback

    return Folders(
        cache=folder("XDG_CACHE_HOME", ".cache") / "millstream",
        state=folder("XDG_STATE_HOME", ".local/state") / "millstream",
        config=folder("XDG_CONFIG_HOME", ".config") / "millstream",
        runtime=Path(runtime_folder(environment, user)),  # checked, and 0700
        data=folder("XDG_DATA_HOME", ".local/share"),
    )
