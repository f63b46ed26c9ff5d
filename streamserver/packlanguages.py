"""Which files a launch in another language reads instead of those that were seen. Pure.

`share/locale/de/LC_MESSAGES/gtk30.mo` among the touched files says that a user of French will read
`share/locale/fr/LC_MESSAGES/gtk30.mo`. A profile cannot know all languages (of a first launch in a third one
2.6 to 3.0% of galculator's and inkscape's pages were not in their profiles, nearly all of them such files),
and a launch pack that carried them would be twice as long. So each language has a pack of its own
(packageformat.launchpack.language_pack), which is told to those who launch in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from itertools import pairwise

from packageformat.entry import Kind
from packageformat.launchpack import language_of
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree

LOCALE = b"locale"
"""The folder that holds a folder a language: usr/share/locale, usr/share/X11/locale."""

_LINKS_MAX = 8

LEVEL = 12
"""zstd's: there are a hundred of these packs, and level 19 would take four times as long."""

MESSAGES = b".mo"
"""Ends the names of gettext's catalogs: a language without one is none that the application speaks."""

MESSAGES_MAX = 1 << 20
FILE_MAX = 16 << 10
"""Bytes of a catalog, and of any other file, at most: of larger ones (collations) few pages are read."""


def language_extents(touched: Sequence[PackExtent], trees: Sequence[Tree]) -> dict[str, list[PackExtent]]:
    """Return, for each language that has messages of the application, the pages of all counterparts.

    Files that the launch touches itself are left out: they are in its own pack, whatever their name (many
    languages share a file, as hard links).

    Args:
        touched: the pages of a launch.
        trees: of the stack, bottom first.

    Returns:
        Language ("fr", also for fr_BE) -> pages.
    """
    own = {(extent.layer, trees[extent.layer].block_place(extent.block)[0]) for extent in touched}
    folders = sorted({parts for layer, entry in own for parts in _split(trees[layer].path(entry))})
    files: dict[str, set[tuple[int, int]]] = {}
    spoken: set[str] = set()
    for folder, rest in folders:
        for name in _languages(folder, trees):
            language = language_of(name.decode("utf-8", "replace"))
            place = _find(b"/".join((folder, name, rest)), trees) if language else None
            most = MESSAGES_MAX if rest.endswith(MESSAGES) else FILE_MAX
            if place is not None and place not in own and 0 < _size(place, trees) <= most:
                files.setdefault(language, set()).add(place)
                if rest.endswith(MESSAGES):
                    spoken.add(language)
    return {
        language: [
            extent for layer, entry in sorted(files[language]) for extent in _whole(layer, entry, trees)
        ]
        for language in sorted(spoken)
    }


def _whole(layer: int, entry: int, trees: Sequence[Tree]) -> Iterable[PackExtent]:
    """Give all pages of a file."""
    tree = trees[layer]
    first, size = tree.first_block(entry), tree.file_size(entry)
    for number in range(tree.file_block_count(entry)):
        here = min(BLOCK_SIZE, size - number * BLOCK_SIZE)
        yield PackExtent(layer, first + number, 0, -(-here // PAGE_SIZE))


def _size(place: tuple[int, int], trees: Sequence[Tree]) -> int:
    return trees[place[0]].file_size(place[1])


def _split(path: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Give what is above and below the folder of a language in the path of a file."""
    parts = path.split(b"/")
    for place, (one, _) in enumerate(pairwise(parts[:-1])):
        if one == LOCALE:
            yield b"/".join(parts[: place + 1]), b"/".join(parts[place + 2 :])
            return


def _languages(folder: bytes, trees: Sequence[Tree]) -> set[bytes]:
    found: set[bytes] = set()
    for tree in trees:
        entry = tree.find(folder)
        if entry is not None and tree.kinds[entry] == Kind.FOLDER:
            found.update(
                tree.names[child] for child in tree.children(entry) if tree.kinds[child] == Kind.FOLDER
            )
    return found


def _find(path: bytes, trees: Sequence[Tree]) -> tuple[int, int] | None:
    """Return the layer that shows a path, and the entry that holds its content; links are followed."""
    for _ in range(_LINKS_MAX):
        for layer in range(len(trees) - 1, -1, -1):
            entry = trees[layer].find(path)
            if entry is not None:
                break
        else:
            return None
        kind = trees[layer].kinds[entry]
        if kind != Kind.SYMLINK:
            link = trees[layer].links[entry]
            is_file = kind in (Kind.FILE, Kind.HARDLINK)
            return (layer, link if link >= 0 else entry) if is_file else None
        path = posixpath.normpath(posixpath.join(b"/", posixpath.dirname(path), trees[layer].target(entry)))[
            1:
        ]
    return None
