"""A launch pack of which frames are skipped: those that are fetched side by side may come in any order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from appclient import packs
from appclient.door import Door
from appclient.errors import CacheError
from appclient.heads import Head, Heads
from appclient.lanes import Body
from appclient.layer import Layer
from appclient.packs import LaunchPacks
from appclient.packwork import Pack, learn
from appclient.statistics import Tally
from appclient.updating import Updates
from bubble.cachefile import CacheFolder
from packageformat.errors import CorruptBlockError
from packageformat.launchpack import PackReader, directory_end
from packageformat.limits import BLOCK_SIZE
from packageformat.package import front_extent
from packageformat.packbuild import PackSource, build_pack
from packageformat.packdirectory import PackExtent
from packageformat.pointer import PackReference
from tests.packages import build_package, open_package

BLOCKS = 3


class _Line(Door):
    """Reads what the test has put on the line."""

    def __init__(self) -> None:
        """There is no server."""

    async def take(self, content: Body, size: int) -> bytes:
        """Return the next bytes."""
        return await content.readexactly(size)


@dataclass(slots=True)
class _Ground:
    packs: LaunchPacks
    pack: Pack
    layer: Layer
    frames: Sequence[bytes]
    plain: bytes
    told: list[tuple[int, int, int]]

    def stream(self, *frames: int) -> asyncio.StreamReader:
        stream = asyncio.StreamReader()
        for frame in frames:
            stream.feed_data(self.frames[frame])
        return stream

    async def receive(self, stream: asyncio.StreamReader, *frames: int) -> None:
        await self.packs._receive(self.pack, _Line(), stream, frames)


@pytest.fixture
def ground(tmp_path: Path) -> _Ground:
    """A pack of three blocks: frame 0 has the first page of each, frame 1 the others of the first, ..."""
    plain = secrets.token_bytes(BLOCKS * BLOCK_SIZE)
    built = build_package(tmp_path, "app", {"usr/lib/large": plain})
    package = open_package(built.path).package
    start, size = front_extent(package.header)
    front = built.path.read_bytes()[start : start + size]
    source = PackSource(package.version_id, package.tree, package.block_ids)
    firsts = [PackExtent(0, block, 0, 1) for block in range(BLOCKS)]
    rests = [PackExtent(0, block, 1, 15) for block in range(BLOCKS)]
    data = build_pack(
        "app",
        [source],
        [*firsts, *rests],
        lambda _, block: plain[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE],
        level=1,
        class_of=lambda extent: extent.block + 1 if extent.first_page else 0,
    )
    heads = Heads(tmp_path / "versions")
    head = Head(package.outline, front, bytes(32))
    heads._store(head)
    layer = Layer(head, CacheFolder(tmp_path / "cache"), heads.files_of(package.version_id))
    told: list[tuple[int, int, int]] = []
    writer = ThreadPoolExecutor(1)

    async def never(_: bytes) -> Layer:
        raise AssertionError

    made = LaunchPacks(
        writer=writer,
        complete=never,
        tell=lambda _, came: told.extend(came),
        soon=lambda *_: None,
        updates=Updates(complete=never, origin_of=lambda _: None, door=_Line, writer=writer),
        done=lambda *_: None,
        held=lambda *_: None,
    )
    reader = PackReader(None, "app")
    reader.feed(data[: directory_end(data)])
    reference = PackReference("app", bytes(32), bytes(32), len(data))
    loop = asyncio.new_event_loop()
    pack = Pack(bytes(32), reference, Tally(), loop.create_future())
    loop.close()
    pack.layers = (layer,)
    assert not learn(reader, pack)
    pack.reader = reader
    places = reader.frame_places()
    assert len(places) == 1 + BLOCKS
    pack.coming = [start + size for start, size in places]
    pack.missing = set(range(len(places)))
    frames = [data[start : start + size] for start, size in places]
    return _Ground(made, pack, layer, frames, plain, told)


async def test_a_frame_waits_for_the_one_that_brings_its_hashes(ground: _Ground) -> None:
    late = asyncio.StreamReader()
    early = asyncio.create_task(ground.receive(late, 0))
    rest = asyncio.create_task(ground.receive(ground.stream(1, 2, 3), 1, 2, 3))
    await asyncio.sleep(0.05)
    assert not rest.done(), "nothing of it can be verified yet"
    assert not ground.told
    late.feed_data(ground.frames[0])
    await asyncio.gather(early, rest)
    assert not ground.pack.missing
    for block in range(BLOCKS):
        expected = ground.plain[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        assert ground.layer.read_block(block) == expected


async def test_frames_that_are_here_already_are_waited_for_by_nobody(ground: _Ground) -> None:
    await ground.receive(ground.stream(0), 0)
    await ground.receive(ground.stream(3, 1), 3, 1)
    assert ground.pack.missing == {2}
    assert ground.layer.pages_here(1) == 1
    assert ground.layer.pages_here(2) & 0b10


async def test_a_damaged_frame_ends_a_pack_that_comes_faster_than_it_is_written(
    ground: _Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_FRAMES_AHEAD", 1)
    for damaged in range(1 + BLOCKS):
        stream = asyncio.StreamReader()
        for number, frame in enumerate(ground.frames):
            stream.feed_data(frame[:-1] + bytes([frame[-1] ^ 1]) if number == damaged else frame)
        ground.pack.missing = set(range(1 + BLOCKS))
        with pytest.raises(CorruptBlockError):
            await asyncio.wait_for(ground.receive(stream, *range(1 + BLOCKS)), 10)
        assert damaged in ground.pack.missing


async def test_a_disk_that_refuses_the_note_of_a_pack_ends_nothing(
    ground: _Ground, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise CacheError("the disk is full")

    await ground.receive(ground.stream(*range(1 + BLOCKS)), *range(1 + BLOCKS))
    ground.packs._done = refuse
    ground.pack.bound = ground.pack.reference.object_size
    ground.pack.call.set()
    await ground.packs._bring_rest(ground.pack, None)  # type: ignore[arg-type] # nothing is left to bring
    assert "the disk is full" in caplog.text
