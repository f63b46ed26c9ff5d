"""Reads cached contents for one view, and verifies each block once before a byte of it is served."""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from bubble.cachefile import CacheFolder, PresenceMap, page_mask
from bubble.viewimage import ViewImage
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


class ContentStore:
    """What a view can read from the cache. Holds at most `descriptors_max` contents open, the latest used."""

    def __init__(self, image: ViewImage, cache: CacheFolder, descriptors_max: int) -> None:
        self._image = image
        self._cache = cache
        self._descriptors_max = max(2, descriptors_max)
        self._opened: OrderedDict[int, _Open] = OrderedDict()
        self._verified = array("H", bytes(2 * (len(image.block_ids) // DIGEST_SIZE)))  # bit n: page n

    def lacks(self, content: int, offset: int, size: int) -> list[tuple[int, Lack]]:
        """Return the blocks of a content that stand in the way of reading these bytes; none: all verified.

        A block is verified on its way, whole if it is here whole, else the pages that are asked for.
        """
        image = self._image
        base = image.content_blocks[content]
        verified = self._verified
        lacks = []
        end = offset + size
        for block in range(offset // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
            start = block * BLOCK_SIZE
            first = max(0, offset - start) // PAGE_SIZE
            last = (min(end, start + BLOCK_SIZE) - start - 1) // PAGE_SIZE
            wanted = (2 << last) - (1 << first)
            if wanted & ~verified[base + block]:
                lack = self._verify(content, block, wanted)
                if lack is not None:
                    lacks.append((block, lack))
        return lacks

    def read(self, content: int, offset: int, size: int) -> bytes:
        """Return bytes that `lacks` found nothing amiss with. May be short if the file was cut since.

        Raises:
            OSError: the disk failed, or the file went away.
        """
        opened = self._open(content)
        if opened is None:
            return b""
        return os.pread(opened.descriptor, size, offset)

    def refresh(self, content: int) -> None:
        """Look at a content's files anew at the next read: its supplier has changed something."""
        opened = self._opened.pop(content, None)
        if opened is not None:
            _close(opened)

    def distrust(self, content: int, block: int) -> None:
        """Verify a block again before it is served again."""
        self._verified[self._image.content_blocks[content] + block] = 0
        self.refresh(content)

    def close(self) -> None:
        """Close every descriptor."""
        while self._opened:
            _close(self._opened.popitem()[1])

    def _open(self, content: int) -> _Open | None:
        opened = self._opened.get(content)
        if opened is not None:
            self._opened.move_to_end(content)
            return opened
        image = self._image
        content_id = image.content_ids[content * DIGEST_SIZE : (content + 1) * DIGEST_SIZE]
        place = self._cache.place(content_id)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            presence = PresenceMap.of(place, image.content_sizes[content])
        except BaseException:
            os.close(descriptor)
            raise
        while len(self._opened) >= self._descriptors_max // 2:
            _close(self._opened.popitem(last=False)[1])
        opened = self._opened[content] = _Open(descriptor, presence)
        return opened

    def _verify(self, content: int, block: int, wanted: int) -> Lack | None:
        """Verify a block, or if only some pages of it are here, the `wanted` ones."""
        opened = self._open(content)
        if opened is None:
            return Lack.MISSING
        image = self._image
        size = image.content_sizes[content]
        number = image.content_blocks[content] + block
        whole = page_mask(size, block)
        plain_size = min(BLOCK_SIZE, size - block * BLOCK_SIZE)
        here = whole if opened.presence is None else opened.presence.pages(block)
        if here == whole:
            plain = os.pread(opened.descriptor, plain_size, block * BLOCK_SIZE)
            if len(plain) != plain_size or block_id(plain) != image.block_id(number):
                return Lack.DAMAGED
            self._verified[number] = whole
            return None
        if wanted & ~here or opened.presence is None:
            return Lack.MISSING
        hashes = opened.presence.hashes(block)
        if block_id_of_pages(hashes, plain_size) != image.block_id(number):
            return Lack.DAMAGED
        for page in range(wanted.bit_length()):
            if not wanted >> page & 1:
                continue
            start = block * BLOCK_SIZE + page * PAGE_SIZE
            plain = os.pread(opened.descriptor, min(PAGE_SIZE, size - start), start)
            if digest(plain) != hashes[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE]:
                return Lack.DAMAGED
        self._verified[number] |= wanted
        return None


def _close(opened: _Open) -> None:
    os.close(opened.descriptor)
    if opened.presence is not None:
        opened.presence.close()
