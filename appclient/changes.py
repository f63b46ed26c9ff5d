"""What applications changed in their own systems (copy-on-write layers); dropping it while they rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from appclient.errors import storage_error
from appclient.folders import Folders
from appclient.foldertree import remove_folder
from bubble.beginning import RECORD, UPPER_LOCK
from bubble.claim import LOCK, claim
from bubble.errors import BubbleBusyError

_STAY = (LOCK, UPPER_LOCK, RECORD, "package")
"""What a start may hold or look at, and whose bubble it is."""


def bubbles_of(folders: Folders, package: str) -> list[Path]:
    """Return the folders of all bubbles, of any version, that a package has had here."""
    return [folder for name, folder in named_bubbles(folders) if name == package]


def named_bubbles(folders: Folders) -> list[tuple[str, Path]]:
    """Return the folders of all bubbles with the names of their packages, as far as those can be read."""
    found = []
    for folder in all_bubbles(folders):
        with suppress(OSError, IndexError, ValueError):
            found.append(((folder / "package").read_text().splitlines()[0], folder))
    return found


def all_bubbles(folders: Folders) -> list[Path]:
    """Return the folders of all bubbles."""
    return sorted(folders.bubbles.glob("[0-9a-f]*"))


def claim_idle(bubbles: Iterable[Path], claims: ExitStack) -> list[Path]:
    """Claim all bubbles that do not run, until `claims` is left; return those that run. Blocks.

    Raises:
        CacheError: a bubble's folder cannot be used.
    """
    running = []
    for folder in bubbles:
        try:
            if not claims.enter_context(claim(folder)):
                running.append(folder)
        except OSError as error:
            raise storage_error("locking", folder, error) from error
    return running


def drop_changes(bubbles: Sequence[Path], more: Sequence[Path], name: str, *, only_look: bool) -> None:
    """Drop the changes in `bubbles`, and the folders `more`; no bubble starts meanwhile. Blocks.

    Args:
        bubbles: their folders.
        more: folders that go as well.
        name: of the application, for people.
        only_look: whether to check only that it could be done now.

    Raises:
        BubbleBusyError: one runs; nothing was dropped.
        CacheError: something stays.
    """
    with ExitStack() as claims:
        if claim_idle(bubbles, claims):
            raise BubbleBusyError(f"{name} is running", hint="close it first, then try again")
        if only_look:
            return
        for folder in bubbles:
            _empty(folder)
        for folder in more:
            remove_folder(folder)


def _empty(folder: Path) -> None:
    try:
        places = [place for place in folder.iterdir() if place.name not in _STAY]
        for place in places:
            if place.is_dir() and not place.is_symlink():
                remove_folder(place)
            else:
                place.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error("removing", folder, error) from error
