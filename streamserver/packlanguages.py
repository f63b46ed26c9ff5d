"""Which files a launch in another language reads instead of those that were seen. Pure.

`share/locale/de/LC_MESSAGES/gtk30.mo` among the touched files says that a user of French will read
`share/locale/fr/LC_MESSAGES/gtk30.mo`. A profile cannot know all languages (of a first launch in a third one
2.6 to 3.0% of galculator's and inkscape's pages were not in their profiles, nearly all of them such files),
and a launch pack that carried them would be twice as long. So they have a pack of their own
(packageformat.launchpack.languages_of), each language in frames of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from packageformat.entry import Kind
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE, PAGES_A_BLOCK
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree

LOCALE = b"locale"
"""The folder that holds a folder a language: usr/share/locale, usr/share/X11/locale."""

LEVEL = 12
"""zstd's, for frames of which a client takes one or two: level 19 would take four times as long."""

PAGES_MAX = (128 << 20) // PAGE_SIZE
"""Pages of a pack of languages; what is more is left out."""

Languages = dict[tuple[int, int], bytes]
"""Layer and block -> the language that it is of."""


def language_extents(
    touched: Iterable[PackExtent], trees: Sequence[Tree]
) -> tuple[list[PackExtent], Languages]:
    """Return the pages of all counterparts of touched files for one language, and of which language each is.

    Args:
        touched: the pages of a launch.
        trees: of the stack, bottom first.
    """
    wanted = sorted({parts for extent in touched for parts in _split(extent, trees)})
    extents: list[PackExtent] = []
    languages: Languages = {}
    pages = 0
    counterparts = sorted(
        (folder, language, rest) for folder, rest in wanted for language in _languages(folder, trees)
    )
    for folder, language, rest in counterparts:
        place = _find(b"/".join((folder, language, rest)), trees)
        if place is None:
            continue
        layer, entry = place
        tree = trees[layer]
        first = tree.first_block(entry)
        if not first >= 0 or (layer, first) in languages:
            continue
        pages += -(-tree.file_size(entry) // PAGE_SIZE)
        if pages > PAGES_MAX:
            break
        for block in range(first, first + tree.file_block_count(entry)):
            size = min(BLOCK_SIZE, tree.file_size(entry) - (block - first) * BLOCK_SIZE)
            extents.append(PackExtent(layer, block, 0, min(PAGES_A_BLOCK, -(-size // PAGE_SIZE))))
            languages[layer, block] = language
    extents.sort(key=lambda extent: languages[extent.layer, extent.block])
    return extents, languages


def _split(extent: PackExtent, trees: Sequence[Tree]) -> Iterable[tuple[bytes, bytes]]:
    """Give what is above and below the folder of a language in the path of a touched file."""
    tree = trees[extent.layer]
    entry, _ = tree.block_place(extent.block)
    parts = tree.path(entry).split(b"/")
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
    for layer in range(len(trees) - 1, -1, -1):
        entry = trees[layer].find(path)
        if entry is not None:
            kind = trees[layer].kinds[entry]
            return (layer, entry) if kind in (Kind.FILE, Kind.HARDLINK) else None
    return None
