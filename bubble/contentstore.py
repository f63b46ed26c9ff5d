"""Reads cached contents for one view, and verifies each page once before a byte of it is served."""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from bubble.cachefile import CacheFolder, PresenceMap, page_mask
from bubble.viewimage import Content, ViewImage
from packageformat.hashing import block_id, block_id_of_pages, digest
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE


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
                lack = self._verify(known, block, wanted)
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

    def present(self, content: int, first_page: int, pages: int) -> list[tuple[int, int]]:
        """Return which of these pages are in the cache, verified, as runs of first page and count.

        Damaged ones are left out: whoever reads them will find that.
        """
        known = self._of(content)
        last_page = -(-known.content.size // PAGE_SIZE)
        runs: list[tuple[int, int]] = []
        end = min(first_page + pages, last_page)
        for block in range(first_page // 16, -(-end // 16)):
            base = block * 16
            wanted = ((1 << (min(end, base + 16) - base)) - 1) & ~((1 << max(0, first_page - base)) - 1)
            here = self._here(known, block) & wanted
            if here & ~known.verified[block] and self._verify(known, block, here) is not None:
                here = known.verified[block] & wanted
            while here:
                start = (here & -here).bit_length() - 1
                length = (~(here >> start) & ((here >> start) + 1)).bit_length() - 1
                here &= ~(((1 << length) - 1) << start)
                if runs and sum(runs[-1]) == base + start:
                    runs[-1] = (runs[-1][0], runs[-1][1] + length)
                else:
                    runs.append((base + start, length))
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

    def _here(self, known: _Known, block: int) -> int:
        """Return which pages of a block the cache claims to have."""
        opened = self._open(known)
        if opened is None:
            return 0
        return (
            page_mask(known.content.size, block) if opened.presence is None else opened.presence.pages(block)
        )

    def _verify(self, known: _Known, block: int, wanted: int) -> Lack | None:
        """Verify a block, or if only some pages of it are here, the `wanted` ones."""
        opened = self._open(known)
        if opened is None:
            return Lack.MISSING
        size = known.content.size
        whole = page_mask(size, block)
        plain_size = min(BLOCK_SIZE, size - block * BLOCK_SIZE)
        block_name = known.ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]
        here = whole if opened.presence is None else opened.presence.pages(block)
        if here == whole:
            plain = os.pread(opened.descriptor, plain_size, block * BLOCK_SIZE)
            if len(plain) != plain_size or block_id(plain) != block_name:
                return Lack.DAMAGED
            known.verified[block] = whole
            known.checked_hashes.pop(block, None)
            return None
        if wanted & ~here or opened.presence is None:
            return Lack.MISSING
        hashes = known.checked_hashes.get(block)
        if hashes is None:
            hashes = opened.presence.hashes(block)
            if block_id_of_pages(hashes, plain_size) != block_name:
                return Lack.DAMAGED
            known.checked_hashes[block] = hashes
        wanted &= ~known.verified[block]
        first = (wanted & -wanted).bit_length() - 1
        start = block * BLOCK_SIZE
        plain = os.pread(
            opened.descriptor, (wanted.bit_length() - first) * PAGE_SIZE, start + first * PAGE_SIZE
        )
        for page in range(first, wanted.bit_length()):
            if not wanted >> page & 1:
                continue
            here_page = plain[(page - first) * PAGE_SIZE : (page - first + 1) * PAGE_SIZE]
            if digest(here_page) != hashes[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE]:
                return Lack.DAMAGED
        known.verified[block] |= wanted
        return None


def _close(opened: _Open) -> None:
    os.close(opened.descriptor)
    if opened.presence is not None:
        opened.presence.close()
