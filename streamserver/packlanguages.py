"""Which files a launch in another language reads instead of those that were seen. Pure.

`share/locale/de/LC_MESSAGES/gtk30.mo` among the touched files says that a user of French will read
`share/locale/fr/LC_MESSAGES/gtk30.mo`. A profile cannot know all languages (of a first launch in a third one
2.6 to 3.0% of galculator's and inkscape's pages were not in their profiles, nearly all of them such files),
and a launch pack that carried them would be twice as long. So each language has a pack of its own
(packageformat.launchpack.language_pack), which is told to those who launch in it.

What is no catalog may lie beside its counterparts and have the language in its name: `text.de.svg` says that
there may be a `text.fr.svg`, and so does `text.svg`.

Besides these files, a language's pack has the pages of fonts with its letters (streamserver.packletters).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Container, Iterable, Iterator, Sequence
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

NAMED_MAX = 64 << 10
"""Bytes of a file with the language in its name, at most: a text or a picture, which is read whole."""

ENGLISH = "en"
"""What a program's own texts are in: the language of files, though there are no catalogs of it."""

_CODE = re.compile(
    rb"(?:^|(?<=[._-]))([a-z]{2,3})(?:[_-](?:[A-Z]{2}|[A-Z][a-z]{3}|[0-9]{3})){0,2}(?:@[a-z]+)?(?=[._-])"
)
"""What may be the code of a language in a file's name: `de`, `pt_BR`, `zh-Hans`, `sr@latin`, between two of
`.`, `_` and `-`, or at the beginning. Never at the end: there it is the kind of file (`.so`, `.pl`), or a
program (`usr/bin/id`, `usr/bin/tr`)."""


def language_extents(touched: Sequence[PackExtent], trees: Sequence[Tree]) -> dict[str, list[PackExtent]]:
    """Return, for each language that has messages of the application, the pages of all counterparts.

    Counterparts lie in another language's folder (`locale/de/...`), or have another language in their names.
    Files that the launch touches itself are left out: they are in its own pack, whatever their name (many
    languages share a file, as hard links).

    Args:
        touched: the pages of a launch.
        trees: of the stack, bottom first.

    Returns:
        Language ("fr", also for fr_BE) -> pages.
    """
    own = {(extent.layer, trees[extent.layer].block_place(extent.block)[0]) for extent in touched}
    paths = [trees[layer].path(entry) for layer, entry in own]
    files: dict[str, set[tuple[int, int]]] = {}
    spoken: set[str] = set()
    trained: set[str] = {ENGLISH}  # what the launches that were seen were in
    counterparts: set[tuple[bytes, bytes]] = set()
    for folder, name, rest in {parts for path in paths for parts in _split(path)}:
        counterparts.add((folder, rest))
        if rest.endswith(MESSAGES):
            trained.add(_language(name))
    for folder, rest in sorted(counterparts):
        for name in _names(folder, trees, (Kind.FOLDER,)):
            language = _language(name)
            place = _find(b"/".join((folder, name, rest)), trees) if language else None
            most = MESSAGES_MAX if rest.endswith(MESSAGES) else FILE_MAX
            if place is not None and place not in own and 0 < _size(place, trees) <= most:
                files.setdefault(language, set()).add(place)
                if rest.endswith(MESSAGES):
                    spoken.add(language)
    for language, path in _named_counterparts(paths, spoken, spoken | trained, trees):
        place = _find(path, trees)
        if place is not None and place not in own and 0 < _size(place, trees) <= NAMED_MAX:
            files[language].add(place)
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


def _named_counterparts(
    paths: Iterable[bytes], wanted: Container[str], known: Container[str], trees: Sequence[Tree]
) -> Iterator[tuple[str, bytes]]:
    """Give the languages and paths of files beside `paths` that are named like those, in another language.

    Args:
        paths: of files.
        wanted: the languages of the files that are given.
        known: languages that a part of a name may stand for; another such part is no code of a language.
        trees: of the stack, bottom first.
    """
    names: dict[bytes, list[bytes]] = {}
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        names.setdefault(folder, []).append(name)
    for folder, here in names.items():
        beside: dict[tuple[bytes, bytes], list[tuple[str, bytes]]] = {}
        for name in _names(folder, trees, (Kind.FILE, Kind.HARDLINK, Kind.SYMLINK)):
            for language, around in _codes(name, wanted):
                beside.setdefault(around, []).append((language, name))
        if not beside:
            continue
        for name in here:
            shapes = [around for _, around in _codes(name, known)]
            stem, dot, ending = name.rpartition(b".")
            if dot:
                shapes.append((stem + b".", b"." + ending))  # it may be the one for all other languages
            for around in shapes:
                for language, other in beside.get(around, ()):
                    yield language, posixpath.join(folder, other)


def _codes(name: bytes, languages: Container[str]) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """Give each code of one of `languages` in a file's name: the language, and what is before and behind."""
    for match in _CODE.finditer(name):
        language = match[1].decode("ascii")
        if language in languages:
            yield language, (name[: match.start()], name[match.end() :])


def _language(name: bytes) -> str:
    return language_of(name.decode("utf-8", "replace"))


def _size(place: tuple[int, int], trees: Sequence[Tree]) -> int:
    return trees[place[0]].file_size(place[1])


def _split(path: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """Give what is above the folder of a language in the path of a file, its name, and what is below."""
    parts = path.split(b"/")
    for place, (one, _) in enumerate(pairwise(parts[:-1])):
        if one == LOCALE:
            yield b"/".join(parts[: place + 1]), parts[place + 1], b"/".join(parts[place + 2 :])
            return


def _names(folder: bytes, trees: Sequence[Tree], kinds: Container[int]) -> set[bytes]:
    """Return the names of those entries of a folder, in whichever layer, that are of these kinds."""
    found: set[bytes] = set()
    for tree in trees:
        entry = tree.find(folder)
        if entry is not None and tree.kinds[entry] == Kind.FOLDER:
            found.update(tree.names[child] for child in tree.children(entry) if tree.kinds[child] in kinds)
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
