"""The user's document folders, as the desktop knows them (xdg-user-dirs)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_USUAL = ("Desktop", "Documents", "Downloads", "Music", "Pictures", "Public", "Templates", "Videos")
_SIZE_MAX = 65536


def document_folders(home: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the document folders that exist; never the home itself.

    https://www.freedesktop.org/wiki/Software/xdg-user-dirs/
    """
    given = environment.get("XDG_CONFIG_HOME", "")
    configuration = Path(given) if given.startswith("/") else home / ".config"
    try:
        with (configuration / "user-dirs.dirs").open(errors="surrogateescape") as file:
            text = file.read(_SIZE_MAX)
    except OSError:
        text = ""
    named = folders_in(text, home)
    found = named or tuple(home / name for name in _USUAL)
    return tuple(folder for folder in found if folder != home and folder.is_dir())


def folders_in(text: str, home: Path) -> tuple[Path, ...]:
    """Return the folders that a user-dirs.dirs file names. It is shell text, but only of one shape."""
    found: list[Path] = []
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        if not (name.startswith("XDG_") and name.endswith("_DIR")):
            continue
        value = value.strip()
        if len(value) < 2 or value[0] != '"' or value[-1] != '"':
            continue
        value = value[1:-1].replace("\\", "")
        path = home / value.removeprefix("$HOME").lstrip("/") if value.startswith("$HOME/") else Path(value)
        if path.is_absolute() and ".." not in path.parts and path not in found:
            found.append(path)
    return tuple(found)
