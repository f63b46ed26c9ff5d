"""Desktop entries and icons of the published applications in the user's data folder.

What was written is remembered in state/desktop.json; what is no longer published goes again, and so does
any entry with our mark that nobody remembers. Each file is whole or not there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from appclient import desktopentry
from appclient.catalogue import Choice, choices
from appclient.errors import storage_error
from appclient.folders import Folders
from appclient.storedfile import store, store_json, stored_json
from packageformat.errors import MillstreamError
from packageformat.publishing import Published, Publishing

_log = logging.getLogger(__name__)

ICON_BYTES_MAX = 4 << 20
_SUFFIXES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<", ".xpm": b"/*"}

ReadFile = Callable[[Published, bytes], Awaitable[bytes]]
"""Returns the content of a file of a published package, by its path there."""


def client_program() -> tuple[str, ...]:
    """Return the command line, absolute, that a desktop entry starts the client with."""
    installed = Path(sys.executable).with_name("appclient")
    if installed.is_file() and os.access(installed, os.X_OK):
        return (str(installed),)
    path = os.environ.get("PYTHONPATH")
    if path:  # run from a source folder: a desktop does not know it
        return (
            shutil.which("env") or "/usr/bin/env",
            f"PYTHONPATH={path}",
            sys.executable,
            "-m",
            "appclient",
        )
    return (sys.executable, "-m", "appclient")


async def integrate(folders: Folders, publishing: Publishing, read: ReadFile) -> tuple[list[str], list[str]]:
    """Make the data folder agree with `publishing`; return the ids of applications added and removed.

    Icons are fetched for versions that are new here; one that cannot be had is left out.

    Raises:
        CacheError: the data folder cannot be written.
    """
    known = _recall(folders)
    after: dict[str, list[str]] = {}
    for choice in choices(publishing):
        application = choice.application
        key = f"{application.id} {choice.package.version_id.hex()}"
        icons = [path for path in known.get(key, []) if path.startswith("icons/")]
        if key not in known or not all((folders.data / path).exists() for path in icons):
            icons = await _store_icons(folders.data, choice, read)
        entry = f"applications/{desktopentry.file_name(application)}"
        text = desktopentry.entry_text(
            application, choice.package.name, client_program(), has_icons=bool(icons)
        )
        await asyncio.to_thread(_store_changed, folders.data / entry, text.encode())
        after[key] = [entry, *icons]
    wanted = {path for paths in after.values() for path in paths}
    await asyncio.to_thread(_remove, folders, known, wanted)
    store_json(_path(folders), after)
    await _update_database(folders.data / "applications")
    before_ids = {key.split(" ")[0] for key in known}
    after_ids = {key.split(" ")[0] for key in after}
    return sorted(after_ids - before_ids), sorted(before_ids - after_ids)


def withdraw(folders: Folders) -> int:
    """Remove all entries and icons that the client has made; return how many files went.

    Raises:
        CacheError: one cannot be removed.
    """
    count = _remove(folders, _recall(folders), set())
    _path(folders).unlink(missing_ok=True)
    return count


def _remove(folders: Folders, known: dict[str, list[str]], wanted: set[str]) -> int:
    old = {path for paths in known.values() for path in paths}
    for place in (folders.data / "applications").glob(f"{desktopentry.PREFIX}*.desktop"):
        with suppress(OSError):
            if f"\n{desktopentry.MARK}=" in place.read_text(errors="replace"):
                old.add(f"applications/{place.name}")
    count = 0
    for path in old - wanted:
        place = folders.data / path
        try:
            place.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error("removing", place, error) from error
        count += 1
    return count


async def _store_icons(data: Path, choice: Choice, read: ReadFile) -> list[str]:
    written = []
    for icon in choice.application.icons:
        suffix = PurePosixPath(icon.path.decode("utf-8", "replace")).suffix.lower()
        if suffix not in _SUFFIXES:
            continue
        size = f"{icon.size}x{icon.size}" if icon.size else "scalable"
        name = desktopentry.icon_name(choice.application)
        path = f"icons/hicolor/{size}/apps/{name}{suffix}"
        try:
            content = await read(choice.package, icon.path)
        except MillstreamError as error:
            _log.warning("no icon %s of %s: %s", icon.path, choice.package.name, error)
            continue
        if content.lstrip()[:64].startswith(_SUFFIXES[suffix]):
            await asyncio.to_thread(_store_changed, data / path, content)
            written.append(path)
    return written


def _store_changed(place: Path, content: bytes) -> None:
    """Write a file that others read, unless it is so already: desktops watch these folders."""
    try:
        if place.read_bytes() == content:
            return
    except OSError:
        pass
    try:
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("making the folder", place.parent, error) from error
    store(place, content, mode=0o644)


async def _update_database(applications: Path) -> None:
    """Tell the desktop which types are handled, if it has the tool for that."""
    tool = shutil.which("update-desktop-database")
    if tool is None:
        return
    process = await asyncio.create_subprocess_exec(
        tool,
        "-q",
        str(applications),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _path(folders: Folders) -> Path:
    return folders.state / "desktop.json"


def _recall(folders: Folders) -> dict[str, list[str]]:
    """Return what was written before: paths under the data folder, by application id and version."""
    value = stored_json(_path(folders))
    if not isinstance(value, dict):
        return {}
    return {
        str(key): [path for path in paths if _is_ours(path)]
        for key, paths in value.items()
        if isinstance(paths, list)
    }


def _is_ours(path: object) -> bool:
    if not isinstance(path, str):
        return False
    parts = PurePosixPath(path).parts
    return (
        ".." not in parts
        and parts[0] in ("applications", "icons")
        and parts[-1].startswith(desktopentry.PREFIX)
    )
