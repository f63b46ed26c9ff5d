"""Names that a launch will look up, for the kernel to learn many at a time.

The kernel takes pages only of files that somebody has looked up, and each look-up is a request: a launch
makes a thousand. READDIRPLUS names many files in one answer, but folders such as /usr/lib hold thousands that
nobody wants. So a folder of a view has a second listing, far behind the end of its own: of the names that are
known to be wanted soon. Who reads a folder from `AHEAD` on gets it: the bubble's keeper (acquaintance.py).

A file brings along the links beside it that lead to it, as libraries have them: their names are what is
looked up first. Only the view's memory knows of all this: a view that takes over names nothing again.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence

from bubble.viewimage import ROOT, ViewImage

AHEAD = 1 << 40
"""The offset in a folder at which the listing of wanted names begins. No folder's own is as long."""

ENTRIES_MAX = 64
"""Entries of one answer: others wait for a third of a millisecond at most."""

Entry = tuple[bytes, int]
"""A name, and the image's node."""

Place = tuple[bytes, int]
"""A folder's path, and from which of its wanted names on it is to be listed."""


class NamesAhead:
    """The wanted names of one view."""

    def __init__(self, image: ViewImage) -> None:
        self._image = image
        self._wanted: dict[int, list[Entry]] = {}  # by folder; lists only grow, so that numbers stay right
        self._nodes: set[int] = set()
        self._folders: dict[bytes, int | None] = {b"": ROOT}
        self._links: dict[int, dict[bytes, list[Entry]]] = {}

    def want(self, nodes: Iterable[int]) -> list[Place]:
        """Put files on the lists of their folders, and those on their parents'.

        Returns:
            The folders that are to be listed, parents before what is in them.

        Raises:
            IndexError: there is no such node.
        """
        places: dict[bytes, int] = {}
        for node in nodes:
            if node not in self._nodes:
                path, _, name = self._image.path(node).rpartition(b"/")
                folder = self._folder(path, places)
                if folder is not None:
                    self._add(path, folder, name, places)
                self._nodes.add(node)
        return list(places.items())

    def entries(self, folder: int, first: int) -> Sequence[Entry]:
        """Return wanted names of a folder from that number on, ENTRIES_MAX at most."""
        return self._wanted.get(folder, [])[first : first + ENTRIES_MAX]

    def _folder(self, path: bytes, places: dict[bytes, int]) -> int | None:
        """Return a folder's node, or None if it is hidden."""
        if path not in self._folders:
            parent, _, name = path.rpartition(b"/")
            above = self._folder(parent, places)
            node = None if above is None else self._add(parent, above, name, places)
            is_folder = node is not None and stat.S_ISDIR(self._image.mode(node))
            self._folders[path] = node if is_folder else None  # a link or a file above hides what was in it
        return self._folders[path]

    def _add(self, path: bytes, folder: int, name: bytes, places: dict[bytes, int]) -> int | None:
        """List what has this name in its folder, and links to it; return its node, or None."""
        node = self._image.child(folder, name)
        if node is None:
            return None
        wanted = self._wanted.setdefault(folder, [])
        places.setdefault(path, len(wanted))
        wanted.append((name, node))
        self._nodes.add(node)
        if stat.S_ISREG(self._image.mode(node)):
            for link in self._links_of(folder).get(name, ()):
                if link[1] not in self._nodes and self._image.child(folder, link[0]) == link[1]:
                    self._nodes.add(link[1])
                    wanted.append(link)
        return node

    def _links_of(self, folder: int) -> dict[bytes, list[Entry]]:
        """Return the links of a folder by the name beside them to which they lead."""
        links = self._links.get(folder)
        if links is None:
            links = self._links[folder] = {}
            for name, node in self._image.links(folder):
                links.setdefault(self._image.target(node), []).append((name, node))
        return links
