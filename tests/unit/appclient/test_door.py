"""The door to HTTP against servers that answer by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from appclient.address import address_of
from appclient.door import Door, whole_number
from appclient.errors import ServerUnreachableError

SIZE = 1000
HEAD = (
    f"HTTP/1.1 206 Partial Content\r\nContent-Length: {SIZE}\r\n"
    f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}\r\n\r\n"
).encode()


@asynccontextmanager
async def dripping(pause: float) -> AsyncIterator[str]:
    """A server that sends the body in pieces of 100 bytes, with pauses."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        try:
            for _ in range(SIZE // 100):
                writer.write(bytes(100))
                await writer.drain()
                await asyncio.sleep(pause)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_drips_holds_a_reader_no_longer_than_the_slowest_rate_allows() -> None:
    began = time.monotonic()
    async with dripping(0.3) as url, Door(address_of(url), grace=0.4) as door:
        with pytest.raises(ServerUnreachableError, match="no answer in time"):
            async with door.part("/v1/objects/x", 0, SIZE) as content:
                await door.take(content, SIZE)
    assert time.monotonic() - began < 2


async def test_a_server_that_is_slow_but_fast_enough_is_waited_for() -> None:
    async with (
        dripping(0.05) as url,
        Door(address_of(url), grace=5) as door,
        door.part("/v1/objects/x", 0, SIZE) as content,
    ):
        assert await door.take(content, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1.0, True, "7", None, -1, 1 << 53, [1]])
def test_a_number_of_the_server_that_is_not_a_whole_one_in_bounds_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        whole_number(value)
    assert whole_number(1_800_000_000) == 1_800_000_000
