"""Rehearsals over a line that is not there: what comes when, and who waits for what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from bubble.cachefile import CacheFile, CacheFolder
from bubble.composition import write_view
from bubble.viewimage import load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest
from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import BLOCK_SIZE, PAGES_A_BLOCK
from packageformat.tree import build_tree
from sequencer import rehearsal
from sequencer.rehearsal import PIECE_PAGES, PIECE_PAGES_MAX, Line, pieces_of

BLOCKS, FILE = 40, 1
PLAIN = b"".join(digest(bytes([n])) * (BLOCK_SIZE // 32) for n in range(BLOCKS))[:-100]
LAYER = bytes(32)
LAST = BLOCKS * PAGES_A_BLOCK - 1
ALL = (1 << PAGES_A_BLOCK) - 1


def test_pages_come_once_each_in_order_and_in_pieces_that_grow() -> None:
    order = [(page % 3, page) for page in range(9000)]
    pieces = pieces_of(order, [1150.0] * len(order))
    counts = [sum(bits.bit_count() for bits in piece.pages.values()) for piece in pieces]
    assert counts[0] == PIECE_PAGES
    assert counts[:-1] == sorted(counts[:-1])
    assert max(counts) == PIECE_PAGES_MAX
    assert sum(counts) == len(order)
    assert pieces[-1].at_s == pytest.approx(9000 * 1150 / 11.5e6)
    first = {
        (content, block * PAGES_A_BLOCK + page)
        for (content, block), bits in pieces[0].pages.items()
        for page in range(PAGES_A_BLOCK)
        if bits >> page & 1
    }
    assert first == set(order[:PIECE_PAGES])
    assert pieces_of([], []) == []


class Views:
    """Notes what a server of views would tell them."""

    def __init__(self) -> None:
        self.expected: list[int] = []
        self.came: list[tuple[int, int, int]] = []

    def expect(self, bubble: bytes, contents: Iterable[int]) -> None:
        self.expected += contents

    def tell(self, bubble: bytes, came: Iterable[tuple[int, int, int]]) -> None:
        self.came += came


class Besides:
    """Brings what no profile has."""

    def __init__(self) -> None:
        self.brought: list[int] = []
        self.writing = threading.Lock()

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        self.brought.append(block)


class Ground:
    def __init__(self, folder: Path, touches: tuple[Touch, ...]) -> None:
        tree = build_tree({b"file": Node(Kind.FILE, 0o644, size=len(PLAIN))})
        blocks = [PLAIN[start : start + BLOCK_SIZE] for start in range(0, len(PLAIN), BLOCK_SIZE)]
        write_view(folder / "image", [(LAYER, tree, b"".join(map(block_id, blocks)))])
        image = load((folder / "image").read_bytes())
        name = image.content_id(image.content(FILE))
        assert name is not None
        trained = CacheFolder(folder / "trained")
        for number, plain in enumerate(blocks):
            trained.create(name, len(PLAIN)).write_block(number, plain)
        cache = CacheFolder(folder / "cache")
        self.file: CacheFile = cache.create(name, len(PLAIN))
        self.views, self.besides = Views(), Besides()
        content = ProfileContent(name, len(PLAIN), b"file")
        profile = LaunchProfile(
            "editor", bytes(32), (ProfileRun("first launch", 900),), (content,), touches, len(touches)
        )
        self.sizes: dict[tuple[bytes, int], float] = {}
        self.line = Line(
            *(profile, image, {name: [FILE]}, trained, cache, self.besides),  # type: ignore[arg-type]
            self.sizes,
        )


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what takes milliseconds take a second."""
    monkeypatch.setattr(rehearsal, "BYTES_A_SECOND", 30e3)
    monkeypatch.setattr(rehearsal, "HEAD_START_S", 0.0)


async def at_work(ground: Ground) -> asyncio.Task[None]:
    task = asyncio.create_task(ground.line.attend(ground.views))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


def test_who_asks_before_the_turn_of_a_page_gets_it_and_is_noted(tmp_path: Path, slow: None) -> None:
    ground = Ground(tmp_path, (Touch(0, 0, LAST + 1, 1, 0),))

    async def run() -> None:
        task = await at_work(ground)
        await ground.line.bring(LAYER, BLOCKS - 1, 1 << 15, 0)
        assert ground.file.pages_of(BLOCKS - 1) == 1 << 15
        await ground.line.bring(LAYER, 0, 1, 0)
        assert ground.file.pages_of(0) & 1
        await task

    asyncio.run(run())
    assert list(ground.line.asked) == [(0, LAST)]
    assert ground.line.asked[0, LAST] < 500
    assert ground.line.round_trips == 1
    assert ground.views.expected == [FILE]
    assert {block for _, block, _ in ground.views.came} == set(range(BLOCKS))
    assert ground.file.complete and ground.file.place.read_bytes() == PLAIN


def test_what_the_profile_lacks_comes_from_the_package(tmp_path: Path, slow: None) -> None:
    ground = Ground(tmp_path, (Touch(0, 0, 16, 1, 0),))

    async def run() -> None:
        task = await at_work(ground)
        await ground.line.bring(LAYER, 7, 1, 0)
        await ground.line.bring(LAYER, 4711, 1, 0)
        task.cancel()
        await ground.line.bring(LAYER, 0, 1, 0)  # returns: nobody brings it any more

    asyncio.run(run())
    assert ground.besides.brought == [7, 4711]
    assert ground.line.asked == {}
    assert ground.line.round_trips == 2


def test_sizes_are_reckoned_once(tmp_path: Path) -> None:
    ground = Ground(tmp_path, (Touch(0, 3, 5, 1, 0), Touch(0, LAST, 1, 2, 0)))
    assert sorted(page for _, page in ground.sizes) == [3, 4, 5, 6, 7, LAST]
    assert all(0 < size < 4096 for size in ground.sizes.values())
