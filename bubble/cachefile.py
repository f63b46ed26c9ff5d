"""The cache on disk: one file for each content, sparse until it is whole.

A folder's file `files/ab/<62 hex digits>` (the content id) has its real size from the start. While blocks
are missing, a file of the same name with `.map` says which pages are there; a file without a map is whole.

    map:  magic 8 · file size 8 · presence, 2 bytes a block (bit n: page n) · padding to 4096 · page hashes
          32 bytes a page, meaningful only in blocks of which some but not all pages are present

One process writes (the supplier, or a few of them), any number read (the views), without a word between
them. Order makes that safe:

- the map exists before the file does, so a file is never seen whole that is not;
- a page's bytes are written before its presence bit; two blocks never share a byte of presence;
- the map goes away only after the last bit is set.

Nothing here is synced to disk and nothing is trusted: the view verifies every block on first use, and a
block that is wrong (a crash, a bad disk) is forgotten and fetched again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

from bubble.cachewriting import (
    begin,
    check_hashes,
    locked,
    replaced,
    store_blocks,
    store_pages,
    write_all,
    write_whole,
)
from bubble.presence import (
    HEADER,
    MAGIC,
    PRESENCE,
    PresenceMap,
    block_count,
    hashes_offset,
    map_of,
    page_mask,
)
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE, PAGES_A_BLOCK

_WHOLE = (1 << PAGES_A_BLOCK) - 1


class CacheFolder:
    """The folder that holds cached contents. `path` is made when the first content is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = str(path / "files")
        self._folders: set[str] = set()  # that are there

    def place(self, content_id: bytes) -> Path:
        """Return where the content with this id lies, if it does."""
        name = content_id.hex()
        return self.path / "files" / name[:2] / name[2:]

    def open(self, content_id: bytes, size: int) -> CacheFile | None:
        """Return the cached content, or None if nothing of it is here.

        Args:
            content_id: 32 bytes.
            size: bytes of the whole content, from a verified tree. A cached file of another size is damaged
                and counts as not here.
        """
        place = self.place(content_id)
        try:
            if place.stat().st_size != size:
                return None
        except FileNotFoundError:
            return None
        return CacheFile(place, size)

    def pages_here(self, content_id: bytes, size: int) -> list[int]:
        """Return which pages of each block of a content are here: bit n for page n.

        A launch asks that of a thousand files, so no path object is made here.

        Args:
            content_id: 32 bytes.
            size: bytes of the whole content, from a verified tree.
        """
        count = block_count(size)
        name = content_id.hex()
        place = f"{self._files}/{name[:2]}/{name[2:]}"
        try:
            if os.stat(place).st_size != size:  # noqa: PTH116
                return [0] * count
            held = os.open(place + ".map", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if not count or error.filename == place:
                return [0] * count
            return [*[_WHOLE] * (count - 1), page_mask(size, count - 1)]
        presence = PresenceMap(held, size)
        try:
            return presence.pages_from(0, count)
        finally:
            presence.close()

    def create(self, content_id: bytes, size: int) -> CacheFile:
        """Return the cached content, made as one without any block if it is not here yet.

        Raises:
            OSError: the folder cannot be written to, or the disk is full.
        """
        place = self.place(content_id)
        found = self.open(content_id, size)
        if found is not None:
            return found
        if place.parent.name not in self._folders or not place.parent.is_dir():
            self._make_folder(place.parent.name)
        if block_count(size) <= 1 and size:
            return CacheFile(place, size)  # its block arrives whole; there is never a map
        with locked(place.parent, os.O_RDONLY | os.O_DIRECTORY):  # of two creators the later finds it
            found = self.open(content_id, size)
            if found is None:
                begin(place, size)
        return CacheFile(place, size)

    def write_pages(
        self, content_id: bytes, size: int, blocks: Mapping[int, tuple[bytes, Mapping[int, bytes]]]
    ) -> None:
        """Put pages of several blocks of a content into the cache, made if it is not here. All are verified.

        A launch pack brings some hundred files in a moment, so this does without what `create` and
        `CacheFile` look at between: one descriptor for the data, one for the map, each system call once.

        Args:
            content_id: 32 bytes.
            size: bytes of the whole content.
            blocks: block number -> the hashes of all its pages (32 bytes each), and some pages by number.

        Raises:
            OSError: the disk is full or the cache cannot be written to; the pages then count as missing.
        """
        count = block_count(size)
        name = content_id.hex()
        place = f"{self._files}/{name[:2]}/{name[2:]}"
        if count == 1 and len(blocks[0][1]) == page_mask(size, 0).bit_length():
            pages = blocks[0][1]
            plain = b"".join([pages[page] for page in sorted(pages)])
            if len(plain) != size:
                raise ValueError(f"{place} has {size} bytes, not {len(plain)}")
            self._write_whole(place, plain)
            return
        self._begin(content_id, place, size)
        store_pages(place, size, blocks)

    def write_blocks(self, content_id: bytes, size: int, blocks: Mapping[int, bytes]) -> None:
        """Put blocks of a content into the cache, made if it is not here. All are verified.

        Args:
            content_id: 32 bytes.
            size: bytes of the whole content.
            blocks: block number -> its bytes.

        Raises:
            OSError: as `write_pages`.
        """
        name = content_id.hex()
        place = f"{self._files}/{name[:2]}/{name[2:]}"
        for block, plain in blocks.items():
            if len(plain) != min(BLOCK_SIZE, size - block * BLOCK_SIZE):
                raise ValueError(f"block {block} of {place} has not {len(plain)} bytes")
        if block_count(size) == 1:
            if self.pages_here(content_id, size) != [page_mask(size, 0)]:
                self._write_whole(place, blocks[0])
            return
        self._begin(content_id, place, size)
        store_blocks(place, size, blocks)

    def _write_whole(self, place: str, plain: bytes) -> None:
        try:
            write_whole(place, plain)
        except FileNotFoundError:
            self._make_folder(place.rsplit("/", 2)[1])
            write_whole(place, plain)

    def _begin(self, content_id: bytes, place: str, size: int) -> None:
        """Make a content without any block if it is not here; `place` is where it is to be."""
        try:
            here = os.stat(place).st_size == size  # noqa: PTH116 - a path is made for none of this
        except FileNotFoundError:
            here = False
        if not here:
            file = self.create(content_id, size)
            if block_count(size) == 1:
                begin(file.place, size)

    def _make_folder(self, name: str) -> None:
        (self.path / "files" / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folders.add(name)

    def forget(self, content_id: bytes) -> None:
        """Drop a content from the cache, whole or not. A view that has it open keeps it."""
        place = self.place(content_id)
        place.unlink(missing_ok=True)
        map_of(place).unlink(missing_ok=True)

    def contents(self) -> Iterator[tuple[bytes, Path]]:
        """Yield the id and the file of each content that is here, in no order."""
        for place in (self.path / "files").glob("??/*"):
            if len(place.name) == 2 * DIGEST_SIZE - 2:
                yield bytes.fromhex(place.parent.name + place.name), place


_OPENED_MAX = 64
"""Contents that a reader holds open."""


class CacheReader:
    """Reads pages of many contents, mostly opened once; to be closed. What is read is not verified."""

    def __init__(self, cache: CacheFolder) -> None:
        self._cache = cache
        self._opened: OrderedDict[bytes, tuple[int, list[int]] | None] = OrderedDict()
        """Descriptor, and pages that are here; the latest used last."""

    def __enter__(self) -> CacheReader:
        return self

    def __exit__(self, *failure: object) -> None:
        for opened in self._opened.values():
            if opened is not None:
                os.close(opened[0])

    def pages(self, content_id: bytes, size: int, block: int, start: int, end: int) -> bytes | None:
        """Return bytes of a block, or None if not all their pages are here.

        Args:
            content_id: 32 bytes.
            size: bytes of the whole content, from a verified tree.
            block: number in the content.
            start: first byte in the block.
            end: byte after the last, in the block.
        """
        opened = self._open(content_id, size)
        wanted = (1 << -(-end // PAGE_SIZE)) - (1 << start // PAGE_SIZE)
        if opened is None or wanted & ~opened[1][block]:
            return None
        plain = os.pread(opened[0], end - start, block * BLOCK_SIZE + start)
        return plain if len(plain) == end - start else None

    def _open(self, content_id: bytes, size: int) -> tuple[int, list[int]] | None:
        if content_id not in self._opened:
            try:
                descriptor = os.open(self._cache.place(content_id), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._opened[content_id] = None
            else:
                try:
                    self._opened[content_id] = descriptor, self._cache.pages_here(content_id, size)
                except BaseException:
                    os.close(descriptor)
                    raise
            if len(self._opened) > _OPENED_MAX:
                _, last = self._opened.popitem(last=False)
                if last is not None:
                    os.close(last[0])
        self._opened.move_to_end(content_id)
        return self._opened[content_id]


class CacheFile:
    """One content, whole or not. Holds no descriptor: each call opens what it needs."""

    def __init__(self, place: Path, size: int) -> None:
        self.place = place
        self.size = size
        self.blocks = block_count(size)

    @property
    def complete(self) -> bool:
        """Whether every block is here."""
        return not self.missing_blocks()

    def has_block(self, block: int) -> bool:
        """Return whether all of block `block` is here."""
        return self._presence(block) == page_mask(self.size, block)

    def missing_blocks(self) -> list[int]:
        """Return the numbers of the blocks that are not here, or not all of them."""
        if not self._exists():
            return list(range(self.blocks))
        presence = self._presence_of_all()
        if presence is None or presence == b"\xff\xff" * self.blocks:
            return []
        return [
            block
            for block, (bits,) in enumerate(PRESENCE.iter_unpack(presence))
            if ~bits & page_mask(self.size, block)
        ]

    def read_block(self, block: int) -> bytes | None:
        """Return the bytes of block `block`, unverified, or None if it is not all here."""
        if not self.has_block(block):
            return None
        size = self.block_size(block)
        try:
            with self.place.open("rb", buffering=0) as file:
                plain = os.pread(file.fileno(), size, block * BLOCK_SIZE)
        except FileNotFoundError:
            return None
        return plain if len(plain) == size else None

    def write_block(self, block: int, plain: bytes | memoryview) -> None:
        """Put block `block` into the cache. The caller has verified `plain`.

        Raises:
            OSError: the disk is full or the cache cannot be written to; the block then counts as missing.
        """
        if len(plain) != self.block_size(block):
            raise ValueError(f"block {block} of {self.place.name} has {self.block_size(block)} bytes")
        if self.blocks == 1:
            write_whole(str(self.place), plain)
            return
        self._write(block * BLOCK_SIZE, plain)
        self._set_presence(block, _WHOLE & page_mask(self.size, block))
        self._finish()

    def write_pages(self, block: int, hashes: bytes, pages: Mapping[int, bytes]) -> None:
        """Put some pages of block `block` into the cache. The caller has verified them.

        Args:
            block: number of the block in this file.
            hashes: the hashes of all the block's pages, 32 bytes each.
            pages: page number in the block (0 to 15) -> its bytes.

        Raises:
            OSError: as `write_block`.
        """
        self.write_many({block: (hashes, pages)})

    def write_many(self, blocks: Mapping[int, tuple[bytes, Mapping[int, bytes]]]) -> None:
        """Put pages of several blocks into the cache, each file opened once. The caller has verified them.

        Args:
            blocks: block number -> as `write_pages` takes them: the hashes of all its pages, and some pages.

        Raises:
            OSError: as `write_block`.
        """
        if self.blocks == 1:
            _, pages = blocks[0]
            if len(pages) == page_mask(self.size, 0).bit_length():
                check_hashes(str(self.place), self.size, blocks)
                self.write_block(0, b"".join(pages[page] for page in sorted(pages)))
                return
            if not self._exists():
                begin(self.place, self.size)
        store_pages(str(self.place), self.size, blocks)

    def pages_of(self, block: int) -> int:
        """Return which pages of a block are here: bit n for page n."""
        return self._presence(block)

    def pages_of_all(self) -> list[int]:
        """Return which pages of each block are here: bit n for page n."""
        if not self.blocks:
            return []
        masks = [*[_WHOLE] * (self.blocks - 1), page_mask(self.size, self.blocks - 1)]
        if not self._exists():
            return [0] * self.blocks
        presence = self._presence_of_all()
        if presence is None:
            return masks
        return [bits & mask for (bits,), mask in zip(PRESENCE.iter_unpack(presence), masks, strict=True)]

    def hashes_of(self, block: int) -> bytes | None:
        """Return the page hashes of a block that is here in part, unverified; None if there is no map."""
        if not self._exists():
            return None
        presence = PresenceMap.of(self.place, self.size)
        if presence is None:
            return None
        try:
            return presence.hashes(block)
        finally:
            presence.close()

    def forget_block(self, block: int) -> None:
        """Count block `block` as missing, because what is here is damaged.

        Raises:
            OSError: the cache cannot be written to.
        """
        if self.blocks == 1:
            self.place.unlink(missing_ok=True)
            map_of(self.place).unlink(missing_ok=True)
            return
        if not self._exists():
            return
        try:
            self._set_presence(block, 0, must_exist=True)
        except FileNotFoundError:
            masks = [0 if other == block else page_mask(self.size, other) for other in range(self.blocks)]
            with replaced(str(map_of(self.place))) as descriptor:
                write_all(descriptor, HEADER.pack(MAGIC, self.size), 0)
                write_all(descriptor, b"".join(map(PRESENCE.pack, masks)), HEADER.size)
                os.ftruncate(descriptor, hashes_offset(self.size))

    def block_size(self, block: int) -> int:
        """Return the bytes of block `block`."""
        if not 0 <= block < self.blocks:
            raise ValueError(f"no block {block} in {self.place.name}, which has {self.blocks}")
        return min(BLOCK_SIZE, self.size - block * BLOCK_SIZE)

    def _exists(self) -> bool:
        try:
            return self.place.stat().st_size == self.size
        except FileNotFoundError:
            return False

    def _presence(self, block: int) -> int:
        """Return the presence bits of a block."""
        mask = page_mask(self.size, block)
        if not self._exists():
            return 0
        try:
            with map_of(self.place).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), 2, HEADER.size + 2 * block)
        except FileNotFoundError:
            return mask
        return int(PRESENCE.unpack(data.ljust(2, b"\0"))[0]) & mask

    def _presence_of_all(self) -> bytes | None:
        """Return the presence of every block, None if there is no map."""
        try:
            with map_of(self.place).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), 2 * self.blocks, HEADER.size).ljust(2 * self.blocks, b"\0")
        except FileNotFoundError:
            return None

    def _write(self, offset: int, plain: bytes | memoryview) -> None:
        descriptor = os.open(self.place, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_all(descriptor, plain, offset)
        finally:
            os.close(descriptor)

    def _set_presence(self, block: int, bits: int, *, must_exist: bool = False) -> None:
        try:
            descriptor = os.open(map_of(self.place), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if must_exist:
                raise
            return  # whole already
        try:
            os.pwrite(descriptor, PRESENCE.pack(bits), HEADER.size + 2 * block)
        finally:
            os.close(descriptor)

    def _finish(self) -> None:
        last = page_mask(self.size, self.blocks - 1)
        presence = self._presence_of_all()
        if presence is None:
            return
        whole = b"\xff\xff" * (self.blocks - 1)  # compared at once: this runs after every block
        if presence.startswith(whole) and not ~PRESENCE.unpack(presence[-2:])[0] & last:
            map_of(self.place).unlink(missing_ok=True)
