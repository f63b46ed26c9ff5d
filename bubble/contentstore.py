"""Reads cached contents for one view, and verifies each page once before a byte of it is served."""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from bubble.cachefile import CacheFolder
from bubble.presence import PresenceMap, page_mask
from bubble.viewimage import Content, ViewImage
from packageformat.hashing import block_id, block_id_of_pages, digest
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE, PAGES_A_BLOCK


class Lack(Enum):
    """Why a block cannot be served now."""

    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(slots=True)
class _Open:
    """The descriptors of one content; `presence` is None when it was whole when opened."""

    descriptor: int
    presence: PresenceMap | None


@dataclass(slots=True)
class _Known:
    """What a view knows of one content, for as long as it runs."""

    content: Content
    verified: array[int]  # for each block: bit n, page n
    name: bytes = b""  # in the cache, once its block ids are known
    ids: bytes = b""
    checked_hashes: dict[int, bytes] = field(default_factory=dict)  # of blocks that are here in part


class ContentStore:
    """What a view can read from the cache. Holds at most `descriptors_max` contents open, the latest used."""

    def __init__(self, image: ViewImage, cache: CacheFolder, descriptors_max: int) -> None:
        self._image = image
        self._cache = cache
        self._descriptors_max = max(2, descriptors_max)
        self._opened: OrderedDict[int, _Open] = OrderedDict()
        self._known: dict[int, _Known] = {}

    def lacks(self, content: int, offset: int, size: int) -> list[tuple[int, int, Lack]]:
        """Return what stands in the way of reading these bytes; nothing: all is verified.

        Returns:
            For each block concerned its number, the pages of it that are needed (bit n: page n), and why.
        """
        known = self._of(content)
        verified = known.verified
        lacks = []
        end = offset + size
        for block in range(offset // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
            start = block * BLOCK_SIZE
            first = max(0, offset - start) // PAGE_SIZE
            last = (min(end, start + BLOCK_SIZE) - start - 1) // PAGE_SIZE
            wanted = (2 << last) - (1 << first)
            if wanted & ~verified[block]:
                lack = self._look(known, block, wanted)
                if lack is not None:
                    lacks.append((block, wanted, lack))
        return lacks

    def read(self, content: int, offset: int, size: int) -> bytes:
        """Return bytes that `lacks` found nothing amiss with. May be short if the file was cut since.

        Raises:
            OSError: the disk failed, or the file went away.
        """
        opened = self._open(self._of(content))
        if opened is None:
            return b""
        return os.pread(opened.descriptor, size, offset)

    def verified(self, content: int, first: int, asked: Sequence[int]) -> list[tuple[int, list[bytes]]]:
        """Return pages that are in the cache, verified, in runs: the first page, and their bytes.

        Damaged ones are left out: whoever reads them will find that.

        Args:
            content: the file.
            first: the block to begin with.
            asked: for that one and those that follow it the pages that are wanted (bit n: page n); all of
                them must be blocks of the file.

        Raises:
            OSError: the disk failed.
        """
        known = self._of(content)
        opened = self._open(known)
        if opened is None:
            return []
        if opened.presence is None:
            size = known.content.size
            here = [page_mask(size, block) for block in range(first, first + len(asked))]
        else:
            here = opened.presence.pages_from(first, len(asked))
        runs: list[tuple[int, list[bytes]]] = []
        next_page = -1
        for block, (bits, pages) in enumerate(zip(here, asked, strict=True), first):
            base = block * PAGES_A_BLOCK
            wanted = bits & pages
            if not wanted:
                continue
            found = self._verify(known, opened, block, bits, wanted)
            if isinstance(found, Lack):
                wanted &= known.verified[block]
                if not wanted:
                    continue
                found = _lowest(wanted), os.pread(opened.descriptor, *_span(block, wanted))
            start, plain = found
            while wanted:
                page = _lowest(wanted)
                length = _lowest(~(wanted >> page))
                wanted &= ~((1 << length) - 1 << page)
                part = plain[(page - start) * PAGE_SIZE : (page - start + length) * PAGE_SIZE]
                if len(part) <= (length - 1) * PAGE_SIZE:
                    return runs  # cut since
                if base + page == next_page:
                    runs[-1][1].append(part)
                else:
                    runs.append((base + page, [part]))
                next_page = base + page + length
        return runs

    def block_count(self, content: int) -> int:
        """Return how many blocks a content has."""
        return self._of(content).content.block_count

    def refresh(self, content: int) -> None:
        """Look at a content's files anew at the next read: its supplier has changed something.

        A map that is open shows by itself what has come; only files that were not there, or are whole now,
        must be looked at again.
        """
        opened = self._opened.get(content)
        if opened is not None and (opened.presence is None or opened.presence.is_gone):
            _close(self._opened.pop(content))

    def distrust(self, content: int, block: int) -> None:
        """Verify a block again before it is served again."""
        known = self._of(content)
        known.verified[block] = 0
        known.checked_hashes.pop(block, None)
        known.ids = known.name = b""
        opened = self._opened.pop(content, None)
        if opened is not None:
            _close(opened)

    def close(self) -> None:
        """Close every descriptor."""
        while self._opened:
            _close(self._opened.popitem()[1])

    def _of(self, content: int) -> _Known:
        known = self._known.get(content)
        if known is None:
            found = self._image.content(content)
            known = self._known[content] = _Known(found, array("H", bytes(2 * found.block_count)))
        return known

    def _open(self, known: _Known) -> _Open | None:
        number = known.content.number
        opened = self._opened.get(number)
        if opened is not None:
            self._opened.move_to_end(number)
            return opened
        ids = known.ids
        name = known.name
        if not name:
            ids = self._image.block_ids(known.content) or b""
            name = self._image.content_id(known.content) or b""
            if not ids or not name:
                return None
        place = self._cache.place(name)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        known.ids, known.name = ids, name
        try:
            presence = PresenceMap.of(place, known.content.size)
        except BaseException:
            os.close(descriptor)
            raise
        while len(self._opened) >= self._descriptors_max // 2:
            _close(self._opened.popitem(last=False)[1])
        opened = self._opened[number] = _Open(descriptor, presence)
        return opened

    def _look(self, known: _Known, block: int, wanted: int) -> Lack | None:
        """Verify pages of a block; return why that cannot be."""
        opened = self._open(known)
        if opened is None:
            return Lack.MISSING
        whole = page_mask(known.content.size, block)
        here = whole if opened.presence is None else opened.presence.pages(block)
        found = self._verify(known, opened, block, here, wanted)
        return found if isinstance(found, Lack) else None

    def _verify(
        self, known: _Known, opened: _Open, block: int, here: int, wanted: int
    ) -> tuple[int, bytes] | Lack:
        """Read some pages of a block, those that are not verified yet verified: all of it if it is here.

        Args:
            known: the file.
            opened: the file.
            block: of it.
            here: the pages that the cache claims to have.
            wanted: those to be read.

        Returns:
            The first page that was read, and the bytes from there to the last one wanted, or beyond.
        """
        size = known.content.size
        verified = known.verified[block]
        whole = page_mask(size, block)
        if wanted & ~here:
            return Lack.MISSING
        if not wanted & ~verified:
            return _lowest(wanted), os.pread(opened.descriptor, *_span(block, wanted))
        plain_size = min(BLOCK_SIZE, size - block * BLOCK_SIZE)
        block_name = known.ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]
        if here == whole:
            plain = os.pread(opened.descriptor, plain_size, block * BLOCK_SIZE)
            if len(plain) != plain_size or block_id(plain) != block_name:
                return Lack.DAMAGED
            known.verified[block] = whole
            known.checked_hashes.pop(block, None)
            return 0, plain
        assert opened.presence is not None, "of a file without a map all is here"
        hashes = known.checked_hashes.get(block)
        if hashes is None:
            hashes = opened.presence.hashes(block)
            if block_id_of_pages(hashes, plain_size) != block_name:
                return Lack.DAMAGED
            known.checked_hashes[block] = hashes
        first = _lowest(wanted)
        plain = os.pread(opened.descriptor, *_span(block, wanted))
        for page in range(first, wanted.bit_length()):
            if not wanted & ~verified & 1 << page:
                continue
            here_page = plain[(page - first) * PAGE_SIZE : (page - first + 1) * PAGE_SIZE]
            if digest(here_page) != hashes[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE]:
                return Lack.DAMAGED
        known.verified[block] |= wanted
        return first, plain


def _lowest(bits: int) -> int:
    """Return the number of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1


def _span(block: int, pages: int) -> tuple[int, int]:
    """Return how many bytes to read for pages of a block, and from where in the file."""
    first = _lowest(pages)
    return (pages.bit_length() - first) * PAGE_SIZE, block * BLOCK_SIZE + first * PAGE_SIZE


def _close(opened: _Open) -> None:
    os.close(opened.descriptor)
    if opened.presence is not None:
        opened.presence.close()
