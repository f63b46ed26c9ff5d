"""Which pages of a launch's fonts the letters of a language lie in.

A launch that was seen read the outlines of the letters that it drew. One in French draws é and … as well,
and a ligature of f and i, each somewhere else in the font's file: galculator and inkscape waited three round
trips for them, one after the other, right before the window. Which letters a language has, its catalogs tell.

Each font is read once for all languages. One that cannot be read is left out, with a line in the log: no font
keeps a pack from being built.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from packageformat.errors import MillstreamError
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree
from streamserver.fontfile import FontError, FontFile, read_font
from streamserver.messagecatalog import CatalogError, translations
from streamserver.packlanguages import MESSAGES, MESSAGES_MAX

LOG = logging.getLogger("streamserver")

FONTS = (b".ttf", b".otf")
"""End the names of fonts, in small or capital letters."""

FONT_MAX = 32 << 20
"""Bytes of a font, at most: it is read whole."""

FONTS_MAX = 64
"""Fonts of a launch that are looked at: those that it touches first."""

LETTERS_MAX = 512
"""Letters of a language, at most, the commonest: of thousands of ideographs a window shows few."""

RULES_MAX = 1 << 18
"""Substitutions of all fonts of a launch, at most: each takes 400 bytes while a pack is built."""

PAGES_MAX = 1024
"""Pages of all fonts that come with one language, 4 MiB, at most; a font that does not fit in is left out."""

_BLOCK_PAGES = BLOCK_SIZE // PAGE_SIZE

_Place = tuple[int, int]
"""A layer, and an entry of its tree that has content."""


class LaunchLetters:
    """The fonts that a launch touches; says which of their pages a language needs beside those it touches."""

    def __init__(
        self,
        touched: Sequence[PackExtent],
        trees: Sequence[Tree],
        read_block: Callable[[int, int], bytes],
        pages_max: int = PAGES_MAX,
    ) -> None:
        """Begin; nothing is read before a language asks.

        Args:
            touched: the pages of the launch, in the order of the first touch.
            trees: of the stack, bottom first.
            read_block: gives the plain bytes of a block, by layer and number.
            pages_max: pages that come with one language, at most.
        """
        self._touched = touched
        self._trees = trees
        self._read_block = read_block
        self._pages_max = pages_max
        self._fonts: dict[_Place, FontFile] | None = None
        self._own: dict[tuple[int, int], int] = {}  # block of a font -> its pages in `touched`, as bits

    def extents(self, pages: Sequence[PackExtent]) -> list[PackExtent]:
        """Return the pages of fonts that a language needs and the launch does not touch itself.

        Args:
            pages: what the language's pack has: the catalogs among those files tell the letters.

        Raises:
            MillstreamError: a catalog of the store is damaged.
        """
        if self._fonts is None:
            self._fonts = self._read_fonts()
        letters = self._letters(pages) if self._fonts else frozenset()
        found: list[PackExtent] = []
        left = self._pages_max
        for (layer, entry), font in self._fonts.items():
            here = self._pages(layer, entry, font.pieces(letters))
            count = sum(extent.pages for extent in here)
            if count <= left:
                found += here
                left -= count
        return found

    def _letters(self, pages: Iterable[PackExtent]) -> frozenset[str]:
        texts: list[str] = []
        for layer, entry in self._places(pages):
            path = self._trees[layer].path(entry)
            if path.endswith(MESSAGES) and self._trees[layer].file_size(entry) <= MESSAGES_MAX:
                try:
                    texts += translations(self._content(layer, entry))
                except CatalogError as error:
                    LOG.warning("%s: its letters are left out: %s", path.decode("utf-8", "replace"), error)
        return letters_of(texts)

    def _read_fonts(self) -> dict[_Place, FontFile]:
        fonts: dict[_Place, FontFile] = {}
        paths = {place: self._trees[place[0]].path(place[1]) for place in self._places(self._touched)}
        named = [place for place, path in paths.items() if path.lower().endswith(FONTS)]
        rules = 0
        for place in named[:FONTS_MAX]:
            path, size = paths[place].decode("utf-8", "replace"), self._trees[place[0]].file_size(place[1])
            if size > FONT_MAX:
                LOG.warning("%s: a font of %d bytes, its letters are left out", path, size)
                continue
            try:
                font = read_font(self._content(*place))
                rules += len(font.substitutions.rules)
                if rules > RULES_MAX:
                    raise FontError(f"more than {RULES_MAX} substitutions")  # noqa: TRY301
                fonts[place] = font
            except (FontError, MillstreamError) as error:
                LOG.warning("%s: its letters are left out: %s", path, error)
        for extent in self._touched:
            if (extent.layer, self._trees[extent.layer].block_place(extent.block)[0]) in fonts:
                key = (extent.layer, extent.block)
                bits = ((1 << extent.pages) - 1) << extent.first_page
                self._own[key] = self._own.get(key, 0) | bits
        return fonts

    def _places(self, pages: Iterable[PackExtent]) -> dict[_Place, None]:
        """Return the files that have these pages, each once, in order."""
        blocks = dict.fromkeys((extent.layer, extent.block) for extent in pages)
        return dict.fromkeys((layer, self._trees[layer].block_place(block)[0]) for layer, block in blocks)

    def _content(self, layer: int, entry: int) -> bytes:
        tree = self._trees[layer]
        first = tree.first_block(entry)
        count = tree.file_block_count(entry)
        return b"".join(self._read_block(layer, block) for block in range(first, first + count))

    def _pages(self, layer: int, entry: int, pieces: Iterable[tuple[int, int]]) -> list[PackExtent]:
        """Return the pages of a file that pieces of it lie in, but for those that the launch touches."""
        tree = self._trees[layer]
        first, size = tree.first_block(entry), tree.file_size(entry)
        wanted: set[int] = set()
        done = 0
        for start, end in sorted(pieces):  # those of a hostile font overlap, a thousand times over
            ends = -(-min(end, size) // PAGE_SIZE)
            wanted.update(range(max(start // PAGE_SIZE, done), ends))
            done = max(done, ends)
        found: list[PackExtent] = []
        for page in sorted(wanted):
            block, number = first + page // _BLOCK_PAGES, page % _BLOCK_PAGES
            if self._own.get((layer, block), 0) >> number & 1:
                continue
            last = found[-1] if found else None
            if last and last.block == block and last.first_page + last.pages == number:
                found[-1] = PackExtent(layer, block, last.first_page, last.pages + 1)
            else:
                found.append(PackExtent(layer, block, number, 1))
        return found


def letters_of(texts: Sequence[str]) -> frozenset[str]:
    """Return the characters of these texts, the `LETTERS_MAX` commonest, as small and as capital letters."""
    letters = {letter for text in texts for letter in set(text)}
    if len(letters) > LETTERS_MAX:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        letters = set(sorted(letters, key=lambda letter: (-counts[letter], letter))[:LETTERS_MAX])
    forms = "".join((*letters, *map(str.upper, letters), *map(str.lower, letters)))
    return frozenset(forms)
