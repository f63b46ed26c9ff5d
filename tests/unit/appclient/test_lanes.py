"""A launch's stream over several connections, from a real server on a real port that means well or not."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from appclient.address import address_of
from appclient.door import BESIDE, CONNECTIONS, CapabilityExpiredError, Door
from appclient.errors import NotEntitledError, ServerUnreachableError, ServerUntrustedError
from appclient.lanes import FAR_SECONDS, LANES, STRIPE, Part, lane_size, lanes_of
from streamserver.ranges import Lane

CONTENT = random.Random(8).randbytes(2 * LANES * STRIPE + STRIPE + 77)
ADDRESS = "/v1/objects/ab?e=1&c=x"
PARTS = [Part(ADDRESS, 0, 1000), Part(ADDRESS, 0, len(CONTENT) - 1000)]


def lane_of_content(number: int, count: int, stripe: int, content: bytes = CONTENT) -> bytes:
    stripes = [content[at : at + stripe] for at in range(0, len(content), stripe)]
    return b"".join(stripes[number::count])


@dataclass
class Streamer:
    """A server of CONTENT in lanes, and what was asked of it."""

    bend: Callable[[int, int, bytes], web.Response | bytes] = lambda number, count, body: body
    hold: bool = False  # the end of each body
    slow_lane: int = -1  # whose head does not come
    slow_health: list[float] = field(default_factory=list)  # seconds, for the next answers
    lanes: list[str | None] = field(default_factory=list)
    health: int = 0
    url: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    server: web.Server[web.Request] | None = None

    async def answer_health(self, request: web.Request) -> web.Response:
        self.health += 1
        await asyncio.sleep(self.slow_health.pop(0) if self.slow_health else 0)
        return web.json_response({"status": "ok"})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        told = request.query.get("s")
        self.lanes.append(told)
        number, count, stripe = map(int, (told or f"0.1.{STRIPE}").split("."))
        if number == self.slow_lane:
            await self.released.wait()
        body = self.bend(number, count, lane_of_content(number, count, stripe))
        if isinstance(body, web.Response):
            return body
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:-1])
        if self.hold:
            await self.released.wait()
        with suppress(ConnectionError):
            await response.write(body[-1:])
        return response

    def connections(self) -> int:
        assert self.server is not None
        return sum(one.transport is not None for one in self.server.connections)

    async def has_connections(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.connections() != count:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(streamer: Streamer) -> AsyncIterator[Streamer]:
    application = web.Application()
    application.router.add_get("/v1/stream", streamer.answer)
    application.router.add_get("/v1/health", streamer.answer_health)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        streamer.server = runner.server
        streamer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield streamer
    finally:
        streamer.released.set()
        await runner.cleanup()


@asynccontextmanager
async def door_to(streamer: Streamer, *, far: bool = True, grace: float = 20.0) -> AsyncIterator[Door]:
    async with serving(streamer), Door(address_of(streamer.url), grace=grace) as door:
        door.round_trip = FAR_SECONDS if far else FAR_SECONDS / 2
        yield door


async def read(door: Door, sizes: list[int] | None = None) -> bytes:
    async with door.parts(PARTS) as body:
        came = [await door.take(body, size) for size in sizes or []]
        came.append(await door.take(body, len(CONTENT) - sum(map(len, came))))
        return b"".join(came)


@given(st.integers(0, 1 << 40) | st.integers(0, 40 * STRIPE), st.integers(1, 16), st.data())
def test_client_and_server_agree_on_the_bytes_of_a_lane(total: int, lanes: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, lanes - 1))
    assert lane_size(total, number, lanes) == Lane(number, lanes, STRIPE).length(total)


def test_only_a_far_server_is_asked_for_lanes() -> None:
    assert lanes_of(FAR_SECONDS - 0.001) == 1
    assert lanes_of(FAR_SECONDS) == LANES


async def test_a_stream_from_a_far_server_comes_over_lanes_and_is_read_in_pieces_of_any_size() -> None:
    streamer = Streamer()
    async with door_to(streamer) as door:
        sizes = [1, 999, STRIPE - 1000, STRIPE + 1, 5 * STRIPE + 3, 0, 70_001]
        assert await read(door, sizes) == CONTENT
        assert door.received == len(CONTENT)
        assert sorted(map(str, streamer.lanes)) == [f"{n}.{LANES}.{STRIPE}" for n in range(LANES)]
        assert await read(door, [17] * 500) == CONTENT
        assert streamer.connections() <= LANES, "connections that were read to the end are used again"


async def test_a_near_server_is_asked_for_no_lanes() -> None:
    streamer = Streamer()
    async with door_to(streamer, far=False) as door:
        assert await read(door) == CONTENT
    assert streamer.lanes == [None]


async def test_a_short_stream_has_no_empty_lanes() -> None:
    streamer = Streamer(bend=lambda number, count, _: bytes(lane_size(STRIPE + 1, number, count)))
    async with (
        door_to(streamer) as door,
        door.parts([Part(ADDRESS, 0, STRIPE + 1)]) as body,
    ):
        assert await door.take(body, STRIPE + 1) == bytes(STRIPE + 1)
    assert sorted(map(str, streamer.lanes)) == [f"0.2.{STRIPE}", f"1.2.{STRIPE}"]


def moved(number: int, count: int, body: bytes) -> bytes:
    return body + b"x" if number == 0 else body[:-1] if number == 1 else body


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda number, count, body: CONTENT, id="all of it in each lane"),
        pytest.param(moved, id="as many bytes in all, in other lanes"),
        pytest.param(lambda number, count, body: body if number else body[:-1], id="one lane too short"),
        pytest.param(
            lambda number, count, body: web.Response(status=206, body=body) if number == 5 else body,
            id="a range that nobody asked for",
        ),
        pytest.param(
            lambda number, count, body: web.Response(status=302, headers={"Location": "/v1/health"}),
            id="somewhere else",
        ),
    ],
)
async def test_a_server_that_does_not_cut_as_asked_is_not_trusted(
    bend: Callable[[int, int, bytes], web.Response | bytes],
) -> None:
    async with door_to(Streamer(bend=bend)) as door:
        with pytest.raises(ServerUntrustedError):
            await read(door)


async def test_a_server_that_sends_other_sizes_without_lanes_is_not_trusted_either() -> None:
    async with door_to(Streamer(bend=lambda number, count, body: body + b"x"), far=False) as door:
        with pytest.raises(ServerUntrustedError):
            await read(door)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(410, CapabilityExpiredError), (403, CapabilityExpiredError), (503, ServerUnreachableError)],
)
async def test_one_lane_refused_refuses_the_stream_at_once_and_nothing_stays_open(
    status: int, kind: type[Exception]
) -> None:
    def bend(number: int, count: int, body: bytes) -> web.Response | bytes:
        return web.Response(status=status, body=b"{}") if number == 5 else body

    streamer = Streamer(bend=bend, hold=True, slow_lane=2)
    async with door_to(streamer) as door:
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            await read(door)
        assert time.monotonic() - began < 5, "the lane that hangs is not waited for"
        assert not isinstance(caught.value.__cause__, ExceptionGroup)
        await streamer.has_connections(1)  # the refusal's, which was read to its end
        streamer.hold, streamer.slow_lane, streamer.bend = False, -1, Streamer().bend
        streamer.lanes.clear()
        assert await read(door) == CONTENT
        assert len(streamer.lanes) == LANES, "lanes that failed are not counted for ever"


async def cancelled_with_lanes_open(streamer: Streamer, door: Door) -> None:
    """Cancel a reader whose lanes are open, or all but one; none is left."""
    task = asyncio.create_task(read(door))
    await streamer.has_connections(LANES)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await streamer.has_connections(0)


async def test_who_is_cancelled_while_lanes_open_leaves_none() -> None:
    streamer = Streamer(hold=True, slow_lane=2)
    async with door_to(streamer) as door:
        await cancelled_with_lanes_open(streamer, door)


async def test_who_is_cancelled_while_it_reads_leaves_no_lane() -> None:
    streamer = Streamer(hold=True)
    async with door_to(streamer) as door:
        await cancelled_with_lanes_open(streamer, door)


async def test_an_error_of_the_reader_is_passed_on_and_leaves_no_lane() -> None:
    streamer = Streamer(hold=True)
    async with door_to(streamer) as door:
        with pytest.raises(NotEntitledError, match="mine"):
            async with door.parts(PARTS) as body:
                await door.take(body, 1)
                raise NotEntitledError("mine")
        await streamer.has_connections(0)


async def test_a_lane_that_stands_still_holds_a_reader_no_longer_than_the_grace() -> None:
    streamer = Streamer(hold=True)
    async with door_to(streamer, grace=0.3) as door:
        with pytest.raises(ServerUnreachableError, match="no answer in time"):
            async with door.parts(PARTS) as body:
                async with asyncio.timeout(10):
                    while True:  # up to the end of a lane, which does not come
                        await door.take(body, 999)
        await streamer.has_connections(0)


async def test_a_lane_that_ends_early_ends_the_stream() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readuntil(b"\r\n\r\n")
        number, count, _ = map(int, line.split(b"&s=")[1].split(b" ")[0].split(b"."))
        body = lane_of_content(number, count, STRIPE)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[: STRIPE + 5] if number == 3 else body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Door(address_of(url)) as door:
        door.round_trip = 1.0
        with pytest.raises(ServerUnreachableError, match="not completed"):
            await read(door, [STRIPE] * 17)


async def test_several_streams_at_once_leave_connections_for_faults() -> None:
    streamer = Streamer(hold=True)
    async with door_to(streamer) as door, AsyncExitStack() as undo:
        for _ in range(3):
            await undo.enter_async_context(door.parts(PARTS))
        assert len(streamer.lanes) == LANES + 2 < CONNECTIONS
        async with asyncio.timeout(5):
            await door.get("/v1/health")
        await undo.aclose()
        await streamer.has_connections(1)
        streamer.lanes.clear()
        async with door.parts(PARTS):
            assert len(streamer.lanes) == LANES


@pytest.mark.parametrize(("seconds", "lanes"), [([0, 0], 1), ([0.2, 0], 1), ([0.1, 0.1], LANES)])
async def test_warm_connections_are_as_many_as_a_launch_takes_and_a_handshake_makes_no_server_far(
    seconds: list[float], lanes: int
) -> None:
    streamer = Streamer(slow_health=[*seconds, *([0.05] * (LANES + BESIDE))])
    async with door_to(streamer) as door:
        await door.warm()
        assert door.lanes == lanes
        assert streamer.connections() == lanes + BESIDE
        before = streamer.connections()
        assert await read(door) == CONTENT
        assert streamer.connections() == before, "a launch opens none"
