"""What the writing thread does with a launch pack: learns from its directory, checks frames, writes pages.

No waiting, no network: `packs` decides when. A `Pack` is one pack under way; the event loop and the writing
thread hold it by turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appclient.layer import Layer
from appclient.statistics import Tally
from bubble.launchorder import Run
from bubble.launchorder import runs_of as runs_of_pages
from bubble.viewimage import ENTRY_BITS
from packageformat.launchpack import BlockPages, MissingHashesError, PackReader, is_language_pack
from packageformat.limits import DIGEST_SIZE, PAGES_A_BLOCK
from packageformat.packdirectory import PackDirectory
from packageformat.pointer import PackReference

_GAP_BYTES = 16 << 10
"""Frames that are here already are fetched again rather than asked around if they are no larger than this."""

Came = list[tuple[int, int, int]]
"""What views are told of pages that came: the file's node, the block in it, the pages (bit n: page n)."""


@dataclass(slots=True, eq=False)
class Pack:
    """One pack under way."""

    bubble: bytes
    reference: PackReference
    tally: Tally
    directory: asyncio.Future[bool]
    reader: PackReader | None = None
    layers: tuple[Layer, ...] = ()
    frames_of: dict[tuple[bytes, int], list[tuple[int, int]]] = field(default_factory=dict)
    arrivals: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)  # frames that are still to come
    coming: list[int] = field(default_factory=list)  # for each frame, bytes of the pack up to its end
    received: int = 0  # bytes of the pack's stream so far
    began: float = 0.0
    round_trip: float = 0.02  # seconds, to the server it comes from
    asked: int = 1 << 62  # bytes of it up to which is asked for: what is behind them may come otherwise
    window: int = 0  # bytes of the pack that lead to the window
    bound: int = 0  # bytes of the pack that are being brought now: first its window's part, then all
    resting: bool = False  # its window's part is here, the rest waits for the launch to end
    called: int = 0  # faults for pages of the rest meanwhile
    call: asyncio.Event = field(default_factory=asyncio.Event)  # enough of them

    @property
    def beside(self) -> bool:
        """Whether it is a language's, beside the launch pack itself."""
        return is_language_pack(self.reference.application)

    @property
    def wanted(self) -> list[int]:
        """The frames that are to be brought now, in order."""
        return sorted(frame for frame in self.missing if self.coming[frame] <= self.bound)

    @property
    def is_bound_behind(self) -> bool:
        """Whether all of the pack is being brought, not only its window's part."""
        return self.bound >= self.reference.object_size


@dataclass(frozen=True, slots=True)
class Here:
    """Frames of which every page is in the cache, and these pages, in the order of their use."""

    frames: list[int]
    came: Came


def frames_here(pack: Pack) -> Here:
    """Return what need not be fetched of a pack."""
    assert pack.reader is not None and pack.reader.directory is not None
    looks = [layer.look_here() for layer in pack.layers]
    here = []
    pages: dict[tuple[int, int], int] = {}
    for number in sorted(pack.missing):
        extents = pack.reader.directory.frames[number].extents
        for extent in extents:
            if (((1 << extent.pages) - 1) << extent.first_page) & ~looks[extent.layer](extent.block):
                break
        else:
            here.append(number)
            for extent in extents:
                key = (extent.layer, extent.block)
                pages[key] = pages.get(key, 0) | ((1 << extent.pages) - 1) << extent.first_page
    return Here(
        here, [came_of(number, pack.layers[number], block, bits) for (number, block), bits in pages.items()]
    )


def learn(reader: PackReader, pack: Pack) -> list[bytes]:
    """Check a directory and keep the block ids that it proves; in the writing thread.

    Returns:
        The versions of which it touches files without naming all their blocks.
    """
    directory = reader.trust([layer.in_pack for layer in pack.layers])
    for number, frame in enumerate(directory.frames):
        for extent in frame.extents:
            bits = ((1 << extent.pages) - 1) << extent.first_page
            key = (pack.layers[extent.layer].version, extent.block)
            pack.frames_of.setdefault(key, []).append((number, bits))
    _know_twins(pack, directory)
    unnamed = []
    for layer, proved in zip(pack.layers, directory.layers, strict=True):
        if layer.is_complete:
            continue
        whole: dict[int, bytes] = {}
        is_named = True
        tree = layer.tree
        done = -1
        for block in proved.ids:
            if block < done:
                continue
            entry, _ = tree.block_place(block)
            first = tree.first_block(entry)
            done = first + tree.file_block_count(entry)
            try:
                whole.update((one, proved.ids[one]) for one in range(first, done))
            except KeyError:
                is_named = False
        layer.learn_ids(whole)
        if not is_named:
            unnamed.append(layer.version)
    return unnamed


def _know_twins(pack: Pack, directory: PackDirectory) -> None:
    """Let a fault for a file that has the content of a touched one wait for that one's frames."""
    frames_by_id = {}
    twins = []
    for layer, proved in zip(pack.layers, directory.layers, strict=True):
        for block, name in proved.ids.items():
            frames = pack.frames_of.get((layer.version, block))
            if frames is None:
                twins.append((layer.version, block, name))
            else:
                frames_by_id[name] = frames
    for version, block, name in twins:
        frames = frames_by_id.get(name)
        if frames is not None:
            pack.frames_of[version, block] = frames


def pages_of_pack(pack: Pack) -> dict[tuple[bytes, int], int]:
    """Return the pages of a pack, by version and block."""
    found = {}
    for place, frames in tuple(pack.frames_of.items()):
        bits = 0
        for _, pages in frames:
            bits |= pages
        found[place] = bits
    return found


def write_frame(pack: Pack, frame: int, part: bytes) -> Came:
    """Verify a frame and write its pages to the cache, in the writing thread; return what views are told."""
    assert pack.reader is not None
    layers = pack.layers

    def known(layer: int, block: int) -> bytes | None:
        hashes = layers[layer].hashes_of(block)
        return hashes if hashes and len(hashes) % DIGEST_SIZE == 0 else None

    try:
        found = pack.reader.read_frame(frame, part, known)
    except MissingHashesError:
        pack.missing.update(pack.reader.first_frames(frame))
        raise
    by_layer: dict[int, list[BlockPages]] = {}
    for one in found:
        by_layer.setdefault(one.layer, []).append(one)
    came: Came = []
    for number, some in by_layer.items():
        layer = layers[number]
        layer.write_pages(some)
        came += [came_of(number, layer, one.block, sum(1 << page for page in one.pages)) for one in some]
    pack.tally.pages_packed += sum(len(one.pages) for one in found)
    return came


def came_in(pack: Pack, number: int, layer: Layer, blocks: Iterable[int]) -> Came:
    """Return what views are told of blocks that came otherwise: the pages that the pack holds of them."""
    came = []
    for block in blocks:
        pages = 0
        for _, bits in pack.frames_of.get((layer.version, block), ()):
            pages |= bits
        if pages:
            came.append(came_of(number, layer, block, pages))
    return came


def files_of(pack: Pack) -> list[int]:
    """Return the files that the frames to be brought now hold pages of, as views number them, in order."""
    assert pack.reader is not None and pack.reader.directory is not None
    frames = pack.reader.directory.frames
    blocks = dict.fromkeys(
        (extent.layer, extent.block) for frame in pack.wanted for extent in frames[frame].extents
    )
    return list(dict.fromkeys(_file_of(number, pack.layers[number], block)[0] for number, block in blocks))


def order_of(pack: Pack) -> list[Run]:
    """Return the pages that lead to the window, in the order of their use, as views number files."""
    assert pack.reader is not None and pack.reader.directory is not None
    return runs_of_pages(
        (node, PAGES_A_BLOCK * block + extent.first_page, extent.pages)
        for frame, end in zip(pack.reader.directory.frames, pack.coming, strict=True)
        if end <= pack.window
        for extent in frame.extents
        for node, block in (_file_of(extent.layer, pack.layers[extent.layer], extent.block),)
    )


def came_of(number: int, layer: Layer, block: int, pages: int) -> tuple[int, int, int]:
    """Return what a view is told of pages of a block: the file's node, the block in it, the pages."""
    return *_file_of(number, layer, block), pages


def _file_of(number: int, layer: Layer, block: int) -> tuple[int, int]:
    """Return the node by which views know the file of a block, and the block in it."""
    entry, in_file, _ = layer.file_of(block)
    return number << ENTRY_BITS | entry, in_file


def runs_of(frames: Sequence[int], places: Sequence[tuple[int, int]]) -> Iterable[list[int]]:
    """Return frames to be fetched together: neighbours, and those with little between them."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and places[frame][0] - sum(places[runs[-1][-1]]) <= _GAP_BYTES:
            runs[-1].extend(range(runs[-1][-1] + 1, frame + 1))
        else:
            runs.append([frame])
    return runs
