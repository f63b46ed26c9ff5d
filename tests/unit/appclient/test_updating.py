"""What an update brings over the line: few requests, and faults wait for what is about to come."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appclient import updating
from appclient.door import Door
from appclient.errors import ServerUnreachableError
from appclient.lanes import Body, Part
from appclient.layer import Layer
from appclient.session import DeltaReference, Origin
from appclient.statistics import Tally
from appclient.updateflow import Flow
from appclient.updating import SPANS_MAX, Updates
from packageformat.pointer import Pointer
from tests.updatepair import Pair


class _Line(Door):
    """Gives parts of one delta. `held` keeps the bytes of streams back; `broken` ends them early."""

    def __init__(self, delta: bytes) -> None:
        """There is no server."""
        self.delta = delta
        self.requests: list[int] = []  # parts of each
        self.held = asyncio.Event()
        self.held.set()
        self.broken = False

    @asynccontextmanager
    async def part(self, path: str, offset: int, size: int) -> AsyncIterator[asyncio.StreamReader]:
        """Open one part."""
        async with self._given([Part(path, offset, size)]) as stream:
            yield stream

    @asynccontextmanager
    async def parts(self, parts: Sequence[Part]) -> AsyncIterator[asyncio.StreamReader]:
        """Open parts, one behind the other."""
        async with self._given(parts) as stream:
            await self.held.wait()
            if self.broken:
                raise ServerUnreachableError("cut")
            yield stream

    @asynccontextmanager
    async def _given(self, parts: Sequence[Part]) -> AsyncIterator[asyncio.StreamReader]:
        self.requests.append(len(parts))
        stream = asyncio.StreamReader()
        for part in parts:
            stream.feed_data(self.delta[part.offset : part.offset + part.size])
        yield stream

    async def take(self, content: Body, size: int) -> bytes:
        """Return the next bytes."""
        return await content.readexactly(size)


class _Ground:
    def __init__(self, pair: Pair, writer: ThreadPoolExecutor) -> None:
        self.pair, self.line, self.tally = pair, _Line(pair.delta), Tally()
        self.told: list[int] = []
        self.copied = asyncio.Event()  # from then on it is known what comes
        layers = {layer.version: layer for layer in (pair.old.layer, pair.new.layer)}
        self.version = pair.new.layer.version
        reference = DeltaReference(
            pair.old.layer.version, bytes(32), len(pair.delta), "/v1/objects/00?e=1&c=c"
        )
        header = pair.new.file.package.header
        pointer = Pointer(self.version, bytes(32), header.file_size, header, (), 1, 0, 1 << 40)
        origin = Origin(pointer, "", 1 << 40, deltas=(reference,))

        async def complete(version: bytes) -> Layer:
            return layers[version]

        self.updates = Updates(
            complete=complete,
            origin_of=lambda version: origin if version == self.version else None,
            door=lambda: self.line,
            writer=writer,
        )

    async def bring(self) -> bool:
        return await self.updates.bring(self.version, self.pair.all_blocks, self.tally, self.tell)

    def tell(self, blocks: Sequence[int]) -> None:
        self.told += blocks
        self.copied.set()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[_Ground]:
    pair = Pair(tmp_path)
    pair.old.keep(pair.old.blocks)
    with ThreadPoolExecutor(1) as writer:
        yield _Ground(pair, writer)


async def test_all_frames_come_in_one_stream_beside_the_head(ground: _Ground) -> None:
    ground.updates.prepare(ground.version, ground.tally)
    assert await ground.bring()
    assert len(ground.line.requests) == 2
    assert 1 <= ground.line.requests[1] <= SPANS_MAX
    layer, blocks = ground.pair.new.layer, ground.pair.new.blocks
    assert all(layer.read_block(block) == blocks[block] for block in ground.pair.all_blocks)
    assert set(ground.told) | set(ground.pair.new.blocks_of(b"usr/share/common")) == set(
        ground.pair.all_blocks
    )
    assert not await ground.updates.expect(ground.version, 0), "nothing is on its way any more"


async def test_a_fault_waits_for_what_the_delta_is_about_to_bring(ground: _Ground) -> None:
    ground.line.held.clear()
    bringing = asyncio.create_task(ground.bring())
    program = ground.pair.new.blocks_of(b"usr/bin/program")
    await ground.copied.wait()
    await asyncio.sleep(0.01)
    assert await ground.updates.expect(ground.version, program[5]), "it was copied"
    waiting = asyncio.create_task(ground.updates.expect(ground.version, program[0]))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    ground.line.held.set()
    assert await waiting
    assert ground.pair.new.layer.has_block(program[0])
    assert await bringing


async def test_a_stream_that_breaks_lets_everybody_go(ground: _Ground) -> None:
    ground.line.held.clear()
    ground.line.broken = True
    bringing = asyncio.create_task(ground.bring())
    await ground.copied.wait()
    await asyncio.sleep(0.01)
    first = ground.pair.new.blocks_of(b"usr/bin/program")[0]
    waiting = asyncio.create_task(ground.updates.expect(ground.version, first))
    await asyncio.sleep(0.05)
    ground.line.held.set()
    assert not await waiting
    assert await bringing, "what was copied came"
    assert not ground.pair.new.layer.has_block(first)


async def test_what_is_copied_comes_although_the_line_breaks_at_once(
    ground: _Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "_COPIES", 1)
    copy = updating._copy

    def slow_copy(*args: object) -> list[int]:
        time.sleep(0.02)  # the line has broken meanwhile
        return copy(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(updating, "_copy", slow_copy)
    ground.line.broken = True
    copies = ground.pair.update.order(ground.pair.all_blocks).copies
    assert len(copies) > 1
    assert await ground.bring()
    assert ground.told == list(copies)
    assert all(ground.pair.new.layer.has_block(block) for block in copies)


async def test_what_comes_beside_the_wanted_is_written_when_the_launch_is_over(
    ground: _Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "REST_SECONDS", 0.2)
    layer, blocks = ground.pair.new.layer, ground.pair.new.blocks
    frame = ground.pair.update.delta.frame_of(ground.pair.new.blocks_of(b"usr/bin/program")[0])
    assert frame is not None
    wanted, asked, *others = ground.pair.update.delta.directory.frames[frame].blocks
    assert others
    async with asyncio.TaskGroup() as tasks:
        ground.updates.start_in(tasks)
        assert await ground.updates.bring(ground.version, [wanted], ground.tally, ground.tell)
        assert ground.told == [wanted]
        assert not any(map(layer.has_block, (asked, *others)))
        assert await ground.updates.expect(ground.version, asked), "it is in memory"
        assert layer.read_block(asked) == blocks[asked]
        assert not any(map(layer.has_block, others))
        requests = len(ground.line.requests)
    assert all(layer.read_block(block) == blocks[block] for block in others)
    assert len(ground.line.requests) == requests
    assert not await ground.updates.expect(ground.version, others[0]), "nothing is kept any more"


async def test_what_would_take_too_much_memory_is_written_at_once(
    ground: _Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "REST_BYTES_MAX", 1)
    program = ground.pair.new.blocks_of(b"usr/bin/program")
    frame = ground.pair.update.delta.frame_of(program[0])
    assert frame is not None
    assert await ground.updates.bring(ground.version, [program[0]], ground.tally, ground.tell)
    assert all(map(ground.pair.new.layer.has_block, ground.pair.update.delta.directory.frames[frame].blocks))


async def test_a_head_that_does_not_come_is_asked_for_again(ground: _Ground) -> None:
    delta, ground.line.delta = ground.line.delta, b"\0" * len(ground.line.delta)
    assert not await ground.bring()
    ground.line.delta = delta
    assert await ground.bring()


async def test_two_packs_each_bring_their_own(ground: _Ground) -> None:
    program = ground.pair.new.blocks_of(b"usr/bin/program")
    news = ground.pair.new.blocks_of(b"usr/share/news-2")
    came = await asyncio.gather(
        *(ground.updates.bring(ground.version, some, ground.tally, ground.tell) for some in (news, program))
    )
    assert came == [True, True]
    assert set(ground.told) >= {*program, *news}


async def test_a_frame_that_the_cache_cannot_give_lets_its_readers_go(ground: _Ground) -> None:
    program = ground.pair.new.blocks_of(b"usr/bin/program")
    ground.line.held.clear()
    bringing = asyncio.create_task(ground.bring())
    await ground.copied.wait()
    waiting = asyncio.create_task(ground.updates.expect(ground.version, program[0]))
    await asyncio.sleep(0.02)
    ground.pair.old.layer.forget_block(ground.pair.old.blocks_of(b"usr/bin/program")[0])
    ground.line.held.set()
    assert not await waiting
    assert await bringing
    assert not ground.pair.new.layer.has_block(program[0])


async def test_what_is_far_behind_or_does_not_come_is_not_waited_for() -> None:
    flow = Flow([1, 2, 4])
    assert not await flow.expect(3), "it is not to be brought"
    asked = asyncio.create_task(flow.expect(2))
    await asyncio.sleep(0)
    assert not asked.done(), "it is not known yet what comes"
    flow.begin({1: 1000, 2: 50 << 20})
    assert not await asked
    assert not await flow.expect(4), "the delta does not give it"
    near = asyncio.create_task(flow.expect(1))
    await asyncio.sleep(0.01)
    assert not near.done()
    flow.take([1])
    assert await near
    flow.begin({2: 10})
    late = asyncio.create_task(flow.expect(2))
    await asyncio.sleep(0.01)
    flow.end()
    assert not await late


def test_files_are_looked_at_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    layer = pair.old.layer
    program = pair.old.blocks_of(b"usr/bin/program")
    pair.old.keep([program[0], program[-1]])
    for block, number in zip(program, itertools.count(), strict=False):
        assert layer.look_here()(block) == layer.pages_here(block), number
    here = layer.look_here()
    assert here(program[1]) == 0
    pair.old.keep(program)
    assert here(program[1]) == 0, "that moment's"
    assert layer.look_here()(program[1]) == (1 << 16) - 1
    assert [layer.look_here()(block) for block in program] == [layer.pages_here(block) for block in program]
