"""Launch packs: the pages that a launch touches, in first-touch order, each verified as it arrives.

    preamble · directory (one zstd frame) · frame · frame · ...
    frame = hashes of sibling pages (plain) · pages (one zstd frame)

The directory proves the block ids. A frame carries, of each block that it is the first to have pages of,
the hashes of the block's other pages; with the hashes of its own pages they give the block's id. So pages
never wait for later ones.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from packageformat.compression import decompress
from packageformat.errors import CorruptBlockError, FormatError, UnsupportedError
from packageformat.hashing import block_id_of_pages
from packageformat.limits import (
    DIGEST_SIZE,
    FORMAT_VERSION,
    PACK_DIRECTORY_BYTES_MAX,
    PAGE_SIZE,
)
from packageformat.packdirectory import (
    FRAME_DIGEST_SIZE,
    PackDirectory,
    PackExtent,
    PackFrame,
    PackLayer,
    decode_directory,
    frame_sizes,
    siblings,
)
from packageformat.records import by_rows

__all__ = [
    "PREAMBLE_SIZE",
    "BlockPages",
    "MissingHashesError",
    "PackExtent",
    "PackLayer",
    "PackReader",
    "PackedPage",
    "directory_end",
    "language_of",
    "language_pack",
]

MAGIC = b"OVPPACK1"
PREAMBLE = struct.Struct("<8sHHII12x32s")
"""Magic, version, zero, stored and plain bytes of the directory, zeros, SHA-256 of the stored directory."""

PREAMBLE_SIZE = PREAMBLE.size

LANGUAGE_MARK = "@"
"""In the name of a language's pack; no application's id holds one."""

_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[_.@]|$)")


@dataclass(frozen=True, slots=True)
class PackedPage:
    """A verified page out of a pack."""

    layer: int  # position in the stack, bottom first
    block: int  # in that layer's package
    page: int  # in that block
    plain: bytes  # 4096 bytes, or fewer at the end of a file


@dataclass(frozen=True, slots=True)
class BlockPages:
    """Verified pages of one block, and the verified hashes of all its pages."""

    layer: int  # position in the stack, bottom first
    block: int  # in that layer's package
    hashes: bytes  # of all pages, 32 bytes each
    pages: dict[int, bytes]  # page number in the block -> its bytes


class MissingHashesError(FormatError):
    """A frame that cannot be verified before one that was skipped has been read."""


class PackReader:
    """Reads a pack from a stream of untrusted bytes. No I/O: `feed` what arrives, take verified pages."""

    def __init__(self, stack: Sequence[PackLayer] | None, application: str | None = None) -> None:
        """Begin.

        Args:
            stack: the bubble's layers, bottom first, from verified manifests; None: `trust` tells them later.
            application: the id of the application that the pack must be for, or None for any.
        """
        self._stack = None if stack is None else tuple(stack)
        self._unproved: PackDirectory | None = None
        self._application = application
        self._buffer = bytearray()
        self._wanted = PREAMBLE.size
        self._directory_plain = 0
        self._directory_digest = b""
        self._directory: PackDirectory | None = None
        self._next_frame = 0
        self._siblings: list[PackExtent] = []
        self._seen: set[tuple[int, int]] = set()
        self._hashes: dict[tuple[int, int], bytes] = {}
        self._failed = False
        self._directory_stored = 0
        self._places: list[tuple[int, int]] = []
        self._firsts: dict[tuple[int, int], int] = {}

    @property
    def directory(self) -> PackDirectory | None:
        """What the pack holds, proved, once that has arrived."""
        return self._directory

    @property
    def complete(self) -> bool:
        """Whether all frames have arrived."""
        return self._directory is not None and self._next_frame == len(self._directory.frames)

    def needs(self) -> int:
        """Return how many bytes are wanted before `feed` can give anything more; 0 when complete."""
        return 0 if self.complete else self._wanted - len(self._buffer)

    def hashes_of(self, layer: int, block: int) -> bytes:
        """Return the verified page hashes of a block that pages have arrived of, concatenated.

        Raises:
            KeyError: none has.
        """
        return self._hashes[layer, block]

    def trust(self, stack: Sequence[PackLayer]) -> PackDirectory:
        """Check the directory that was fed, against verified manifests, and return it.

        Raises:
            FormatError: it is of another bubble, its proofs do not hold, or it has not been fed.
        """
        if self._unproved is None:
            raise FormatError("a launch pack whose directory has not arrived")
        self._unproved.check_stack(stack)
        self._directory = self._unproved
        self._expect_frame()
        return self._directory

    def frame_places(self) -> list[tuple[int, int]]:
        """Return where each frame lies in the pack, as offset and size in bytes: for those who skip some.

        Raises:
            ValueError: the directory has not arrived.
        """
        if self._directory is None:
            raise ValueError("a launch pack whose directory has not arrived")
        if not self._places:
            sizes, self._firsts = frame_sizes(self._directory)
            start = PREAMBLE.size + self._directory_stored
            for size in sizes:
                self._places.append((start, size))
                start += size
        return self._places

    def first_frames(self, number: int) -> set[int]:
        """Return the frames that must be read before one can be verified, if their hashes are not known."""
        self.frame_places()
        assert self._directory is not None
        return {
            self._firsts[extent.layer, extent.block]
            for extent in self._directory.frames[number].extents
            if (extent.layer, extent.block) not in self._hashes
        } - {number}

    def read_frame(
        self, number: int, part: bytes, known: Callable[[int, int], bytes | None] = lambda *_: None
    ) -> list[BlockPages]:
        """Return the pages of one frame, verified, whichever frames were read before. Not mixed with `feed`.

        Args:
            number: of the frame.
            part: untrusted bytes, those of `frame_places`.
            known: gives the hashes of all pages of a block (by layer and number), unverified, where an
                earlier frame that had them was skipped; None if they are not known.

        Raises:
            CorruptBlockError: the frame is damaged. None of its pages is returned.
            MissingHashesError: an earlier frame must be read first.
        """
        self.frame_places()
        directory = self._directory
        assert directory is not None
        frame = directory.frames[number]
        if sha256(part).digest()[:FRAME_DIGEST_SIZE] != frame.digest:
            raise CorruptBlockError(f"a launch pack with a damaged frame, number {number}")
        layers = directory.layers
        found: dict[tuple[int, int], dict[int, bytes]] = {}
        for extent, page, content in _pages(directory, frame, part[len(part) - frame.stored_size :]):
            found.setdefault((extent.layer, extent.block), {})[page] = content
        position = 0
        read: list[BlockPages] = []
        for (layer, block), pages in found.items():
            hashes = {page: sha256(content).digest() for page, content in pages.items()}
            name = layers[layer].ids[block]
            before = self._hashes.get((layer, block))
            if before is None and self._firsts[layer, block] == number:
                for page in range(layers[layer].page_count(block)):
                    if page not in hashes:
                        hashes[page] = part[position : position + DIGEST_SIZE]
                        position += DIGEST_SIZE
                before = b"".join(hashes[page] for page in sorted(hashes))
                right = block_id_of_pages(before, layers[layer].sizes[block]) == name
            else:
                if before is None:
                    before = known(layer, block)
                    if before is None or block_id_of_pages(before, layers[layer].sizes[block]) != name:
                        raise MissingHashesError(
                            f"frame {self._firsts[layer, block]} of a launch pack is needed"
                        )
                right = all(
                    before[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE] == page_hash
                    for page, page_hash in hashes.items()
                )
            if not right:
                raise CorruptBlockError(f"damaged page of block {name.hex()} in a launch pack", expected=name)
            self._hashes[layer, block] = before
            read.append(BlockPages(layer, block, before, pages))
        return read

    def feed(self, data: bytes) -> list[PackedPage]:
        """Take the next bytes of the stream and return the pages that they complete, verified.

        Raises:
            CorruptBlockError: a frame is damaged. None of its pages is returned.
            FormatError: this is not a launch pack, or not one for this bubble. Nothing more can be fed.
        """
        if self._failed:
            raise FormatError("a launch pack that was damaged before")
        try:
            return self._advance(data)
        except FormatError:
            self._failed = True
            raise

    def _advance(self, data: bytes) -> list[PackedPage]:
        pages: list[PackedPage] = []
        self._buffer += data
        while not self.complete and len(self._buffer) >= self._wanted:
            part = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            if not self._directory_digest:
                self._read_preamble(part)
            elif self._unproved is None:
                self._read_directory(part)
                if self._directory is None:
                    self._wanted = 0
                    break
            elif self._directory is None:
                raise FormatError("a launch pack whose layers are not known")
            else:
                pages.extend(self._read_frame(self._directory, part))
                self._next_frame += 1
                self._expect_frame()
        if self.complete and self._buffer:
            raise FormatError("a launch pack that goes on after its end")
        return pages

    def _read_preamble(self, part: bytes) -> None:
        magic, version, zero, stored_size, plain_size, digest = PREAMBLE.unpack(part)
        if magic != MAGIC or zero or any(part[20:32]):
            raise FormatError("not a launch pack")
        if version != FORMAT_VERSION:
            raise UnsupportedError(f"a launch pack of format {version}, this is {FORMAT_VERSION}")
        if not 0 < plain_size <= PACK_DIRECTORY_BYTES_MAX or not 0 < stored_size <= plain_size + 4096:
            raise FormatError(f"a launch pack's directory of {plain_size} bytes")
        self._wanted = self._directory_stored = stored_size
        self._directory_plain = plain_size
        self._directory_digest = digest

    def _read_directory(self, part: bytes) -> None:
        if sha256(part).digest() != self._directory_digest:
            raise FormatError("a launch pack with a damaged directory")
        directory = decode_directory(decompress(part, self._directory_plain))
        if self._application is not None and directory.application != self._application:
            raise FormatError(f"a launch pack of {directory.application}, expected {self._application}")
        self._unproved = directory
        if self._stack is not None:
            self.trust(self._stack)

    def _expect_frame(self) -> None:
        directory = self._directory
        if directory is None or self.complete:
            self._wanted = 0
            return
        frame = directory.frames[self._next_frame]
        self._siblings = siblings(frame, directory.layers, self._seen)
        self._wanted = len(self._siblings) * DIGEST_SIZE + frame.stored_size

    def _read_frame(self, directory: PackDirectory, part: bytes) -> list[PackedPage]:
        frame = directory.frames[self._next_frame]
        if sha256(part).digest()[:FRAME_DIGEST_SIZE] != frame.digest:
            raise CorruptBlockError(f"a launch pack with a damaged frame, number {self._next_frame}")
        hashes_size = len(self._siblings) * DIGEST_SIZE
        pages: list[PackedPage] = []
        found: dict[tuple[int, int], dict[int, bytes]] = {}
        for extent, page, content in _pages(directory, frame, part[hashes_size:]):
            found.setdefault((extent.layer, extent.block), {})[page] = sha256(content).digest()
            pages.append(PackedPage(extent.layer, extent.block, page, content))
        given = found.keys() & self._hashes.keys()
        for index, sibling in enumerate(self._siblings):
            found[sibling.layer, sibling.block][sibling.first_page] = part[
                index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE
            ]
        for key, of_block in found.items():
            self._check_block(directory, key, of_block, key in given)
        return pages

    def _check_block(
        self, directory: PackDirectory, key: tuple[int, int], of_block: dict[int, bytes], given: bool
    ) -> None:
        layer = directory.layers[key[0]]
        name = layer.ids[key[1]]
        if given:
            known = self._hashes[key]
            right = all(
                known[page * DIGEST_SIZE : (page + 1) * DIGEST_SIZE] == page_hash
                for page, page_hash in of_block.items()
            )
        else:
            hashes = b"".join(of_block[page] for page in sorted(of_block))
            right = block_id_of_pages(hashes, layer.sizes[key[1]]) == name
            if right:
                self._hashes[key] = hashes
        if not right:
            raise CorruptBlockError(f"damaged page of block {name.hex()} in a launch pack", expected=name)


def language_of(locale: str) -> str:
    """Return the language of a locale's name, as language packs are told apart: "fr" of fr_BE.UTF-8."""
    match = _LANGUAGE.match(locale)
    return match[1] if match is not None else ""


def language_pack(application: str, language: str) -> str:
    """Return what a pack with the files for one language is named after.

    Beside an application's launch pack there may be such ones. Each holds, of each file for one language that
    the launch touches, its counterparts for another, and the pages of fonts with the letters of that one:
    whoever launches in it takes both packs.
    """
    return f"{application}{LANGUAGE_MARK}{language}"


def is_language_pack(application: str) -> bool:
    """Return whether what a pack is named after is a language's, not an application's."""
    return LANGUAGE_MARK in application


def directory_end(preamble: bytes) -> int:
    """Return how many bytes of a pack its preamble and directory are.

    Raises:
        FormatError: this is not the beginning of a launch pack.
    """
    if len(preamble) < PREAMBLE.size:
        raise FormatError("a launch pack that is cut short")
    magic, _, _, stored_size, *_ = PREAMBLE.unpack_from(preamble)
    if magic != MAGIC or not 0 < stored_size <= PACK_DIRECTORY_BYTES_MAX + 4096:
        raise FormatError("not a launch pack")
    return PREAMBLE.size + int(stored_size)


def _pages(
    directory: PackDirectory, frame: PackFrame, stored: bytes
) -> Iterator[tuple[PackExtent, int, bytes]]:
    """Give the pages of a frame, unverified, with their extents and their numbers in the block.

    Raises:
        FormatError: `stored` does not hold them.
    """
    sizes = [directory.layers[extent.layer].size_of(extent) for extent in frame.extents]
    plain = memoryview(decompress(stored, sum(sizes)))
    start = 0
    for extent, size in zip(frame.extents, sizes, strict=True):
        content = plain[start : start + size]
        start += size
        if extent.by_columns:
            content = memoryview(by_rows(content))
        for number in range(extent.pages):
            page = bytes(content[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])
            yield extent, extent.first_page + number, page
