"""Launches over a line that is not there: what the pages of a profile do when they come one after the other.

Training sees in which order pages are touched if all are at hand. A launch pack brings them over a line, and
the threads of an application are held up by that differently: some run ahead, and ask for pages whose turn is
far away. So the application is started again on an empty cache, into which its pages come in the profile's
order and as fast as over a line of 100 Mbit/s, 20 ms; who asks for one that is not about to come waits for a
round trip. Such pages move ahead (`packageformat.movedahead`), and it is started again, until few are left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bubble.cachefile import CacheFolder
from bubble.supply import ViewServer
from bubble.viewimage import ViewImage
from packageformat.compression import compress
from packageformat.hashing import page_hashes
from packageformat.launchprofile import LaunchProfile
from packageformat.limits import PAGE_SIZE, PAGES_A_BLOCK
from packageformat.movedahead import WINDOW, Place
from packageformat.profileorder import in_due_time
from sequencer.localsupply import LocalSupplier

BYTES_A_SECOND = 11.5e6
"""What a line of 100 Mbit/s brings of a pack."""

ROUND_TRIP_S = 0.03
"""What a request of its own takes beside a pack, on a line of 20 ms."""

HEAD_START_S = 0.2
"""Before an application reads anything its pack begins to come: while its bubble is composed."""

PIECE_PAGES, PIECE_PAGES_MAX = 32, 512
"""Pages that come together, as a pack's frames do: of the first pieces, and of later ones."""

LEVEL, DENSER = 1, 0.7
"""How pages are compressed for a guess of their size in a pack, where they take this part of that."""

Block = tuple[int, int]
"""A content's position in the profile, and a block's number in the file."""


@dataclass(slots=True)
class Piece:
    """Pages that come together."""

    at_s: float = 0.0  # after the pack began to come
    pages: dict[Block, int] = field(default_factory=dict)  # bit n: page n of the block
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


def pieces_of(order: Sequence[Place], sizes: Sequence[float]) -> list[Piece]:
    """Return what comes when.

    Args:
        order: the pages, in the order in which they come.
        sizes: bytes of each on the line.
    """
    pieces: list[Piece] = []
    size = 0.0
    start = 0
    while start < len(order):
        most = min(PIECE_PAGES_MAX, max(PIECE_PAGES, start // 8))
        piece = Piece()
        size += sum(sizes[start : start + most])
        for place in order[start : start + most]:
            block = place[0], place[1] // PAGES_A_BLOCK
            piece.pages[block] = piece.pages.get(block, 0) | 1 << place[1] % PAGES_A_BLOCK
        piece.at_s = size / BYTES_A_SECOND
        pieces.append(piece)
        start += most
    return pieces


class Line:
    """Brings the pages of one rehearsal (a `bubble.supply.Supplier`).

    `asked` tells which pages were asked for before their turn, and how much of all had come by then.
    """

    def __init__(
        self,
        profile: LaunchProfile,
        image: ViewImage,
        nodes: Mapping[bytes, Sequence[int]],
        trained: CacheFolder,
        cache: CacheFolder,
        besides: LocalSupplier,
        sizes: dict[tuple[bytes, int], float],
    ) -> None:
        """Prepare.

        Args:
            profile: in whose order pages come.
            image: of the view.
            nodes: by content id the files of the view that have it.
            trained: a cache that has all pages of the profile.
            cache: the one that the view reads.
            besides: brings into `cache` what the profile does not have.
            sizes: of pages on the line, by content id and number, as far as they are known; more are added.
        """
        self._contents = profile.contents
        self._nodes = [nodes.get(content.content_id, ()) for content in profile.contents]
        self._trained, self._cache, self._besides = trained, cache, besides
        self._blocks: dict[tuple[bytes, int], Block] = {}  # by package and block there
        for number, files in enumerate(self._nodes):
            for node in files:
                content = image.content(node)
                for block in range(content.block_count):
                    place = content.layer, content.layer_first_block + block
                    self._blocks[place] = number, block
        ordered = in_due_time(profile).before_window()
        order = [
            (touch.content, page)
            for touch in ordered.touches
            for page in range(touch.first_page, touch.first_page + touch.pages)
        ]
        self._hashes: dict[Block, bytes] = {}
        self._learn_sizes(order, sizes)
        self._pieces = pieces_of(order, [sizes[self._name(place)] for place in order])
        self._turn = {
            (*block, page): piece
            for piece in self._pieces
            for block, bits in piece.pages.items()
            for page in range(PAGES_A_BLOCK)
            if bits >> page & 1
        }
        self._bubble = profile.bubble_id
        self._began = math.inf
        self._go = asyncio.Event()
        self._waited_until = 0.0
        self.asked: dict[Place, int] = {}
        self.round_trips = 0  # requests that were waited for one after the other

    async def attend(self, views: ViewServer) -> None:
        """Feed the views from the first request on; in the loop that serves them."""
        try:
            await self._go.wait()
            views.expect(self._bubble, [node for nodes in self._nodes for node in nodes])
            for piece in self._pieces:
                await asyncio.sleep(self._began + piece.at_s - time.monotonic())
                await asyncio.to_thread(self._write, piece.pages)
                came = [
                    (node, block, bits)
                    for (number, block), bits in piece.pages.items()
                    for node in self._nodes[number]
                ]
                views.tell(self._bubble, came)
                piece.arrived.set()
        finally:
            for piece in self._pieces:  # nobody waits for what does not come any more
                piece.arrived.set()

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        """Return when pages are in the cache: those that are about to come, then; others after a round trip.

        Raises:
            CorruptBlockError: the package file is damaged there.
        """
        place = self._blocks.get((layer, block))
        wanted = [page for page in range(PAGES_A_BLOCK) if (pages or -1) >> page & 1]
        turns = [] if place is None else [self._turn.get((*place, page)) for page in wanted]
        began = time.monotonic()
        if not self._go.is_set():
            self._began = began - HEAD_START_S
            self._go.set()
        bits = sum(1 << page for page, turn in zip(wanted, turns, strict=False) if turn)
        piece = max((turn for turn in turns if turn), key=lambda turn: turn.at_s, default=None)
        if place is None or piece is None or (None in turns and pages):
            await asyncio.sleep(ROUND_TRIP_S)
            await self._besides.bring(layer, block, pages, urgency)
        elif self._began + piece.at_s - began <= ROUND_TRIP_S:
            await piece.arrived.wait()
            await asyncio.to_thread(self._write, {place: bits})  # should it have been damaged since
            return
        else:
            come = int(WINDOW * max(0.0, began - self._began) / self._pieces[-1].at_s)
            first = place[1] * PAGES_A_BLOCK
            for page in wanted:
                self.asked.setdefault((place[0], first + page), min(WINDOW, come))
            await asyncio.sleep(ROUND_TRIP_S)
            await asyncio.to_thread(self._write, {place: bits})
        if began >= self._waited_until:
            self.round_trips += 1
            self._waited_until = time.monotonic()

    async def damaged(self, layer: bytes, block: int) -> None:
        """Forget a block that is damaged in the cache."""
        await self._besides.damaged(layer, block)

    def _name(self, place: Place) -> tuple[bytes, int]:
        return self._contents[place[0]].content_id, place[1]

    def _learn_sizes(self, order: Sequence[Place], sizes: dict[tuple[bytes, int], float]) -> None:
        """Reckon what pages take on the line, as far as can be told from each alone."""
        wanted: dict[Block, int] = defaultdict(int)
        for number, page in order:
            if self._name((number, page)) not in sizes:
                wanted[number, page // PAGES_A_BLOCK] |= 1 << page % PAGES_A_BLOCK
        for (number, block), bits in wanted.items():
            for page, plain in self._pages(number, block, bits).items():
                name = self._name((number, block * PAGES_A_BLOCK + page))
                sizes[name] = DENSER * len(compress(plain, LEVEL))

    def _pages(self, number: int, block: int, bits: int) -> dict[int, bytes]:
        """Return pages of a block that training has brought."""
        content = self._contents[number]
        file = self._trained.open(content.content_id, content.size)
        plain = file.read_block(block) if file is not None else None
        if plain is None:
            raise OSError(f"a page of {content.path!r} that training touched is not in its cache")
        if (number, block) not in self._hashes:
            self._hashes[number, block] = page_hashes(plain)
        return {
            page: plain[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
            for page in range(-(-len(plain) // PAGE_SIZE))
            if bits >> page & 1
        }

    def _write(self, pages: Mapping[Block, int]) -> None:
        by_file: dict[int, dict[int, tuple[bytes, dict[int, bytes]]]] = {}
        for (number, block), bits in pages.items():
            found = self._pages(number, block, bits)
            by_file.setdefault(number, {})[block] = self._hashes[number, block], found
        with self._besides.writing:
            for number, blocks in by_file.items():
                content = self._contents[number]
                self._cache.write_pages(content.content_id, content.size, blocks)
