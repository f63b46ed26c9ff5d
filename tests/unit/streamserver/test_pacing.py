"""A long answer lets the queue go and keeps near what the line carries."""

from __future__ import annotations

import asyncio
import socket

import pytest

from streamserver.pacing import (
    HOLD_S,
    LONG,
    LOOK_S,
    NEAR_S,
    SO_MAX_PACING_RATE,
    UNLIMITED,
    Look,
    Pacer,
    limit,
    look_at,
    paced,
)


class Line:
    """A line with a queue before it, and a sender that doubles its rate until told otherwise."""

    def __init__(self, carries: float, shortest: float, queue_s: float) -> None:
        self.carries, self.shortest, self.longest = carries, shortest, queue_s
        self.queue_s = 0.0
        self.sends = carries / 30
        self.limit = float(UNLIMITED)
        self.now = 0.0
        self.sent = 0.0

    def run(self, seconds: float, pacer: Pacer) -> list[int]:
        """Send for so long; return what the pacer decided."""
        decided = []
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self.sends = min(self.sends * 2 ** (LOOK_S / self.shortest), 1.25 * self.carries)
            rate = min(self.sends, self.limit)
            grown = self.queue_s + (rate / self.carries - 1) * LOOK_S
            self.queue_s = min(max(grown, 0.0), self.longest)
            delivered = self.carries if self.queue_s else min(rate, self.carries)
            self.sent += delivered * LOOK_S
            told = pacer.pace(Look(self.now, delivered, self.shortest + self.queue_s, self.shortest))
            if told is not None:
                self.limit = told
                decided.append(told)
        return decided


@pytest.mark.parametrize("carries", [200e3, 12.5e6, 120e6])
@pytest.mark.parametrize("shortest", [0.005, 0.02, 0.2])
def test_the_queue_goes_and_the_line_stays_full(carries: float, shortest: float) -> None:
    line = Line(carries, shortest, queue_s=shortest)
    pacer = Pacer()
    first = line.run(15 * shortest, pacer)[0]
    assert 0.6 * carries < first < 0.9 * carries, "the queue goes"
    line.run(20 * shortest, pacer)
    before, began = line.sent, line.now
    if line.now + 0.5 < HOLD_S:
        line.run(0.5, pacer)
        assert line.queue_s < 0.2 * shortest
        assert 0.9 * carries < (line.sent - before) / (line.now - began) < carries


def test_it_tries_for_more_now_and_then() -> None:
    line = Line(10e6, 0.02, 0.02)
    pacer = Pacer()
    line.run(1.0, pacer)
    line.carries = 20e6
    decided = line.run(HOLD_S + 1.0, pacer)
    assert UNLIMITED in decided
    assert line.limit > 15e6


def test_a_rate_that_grows_and_a_line_without_a_queue_are_left_alone() -> None:
    pacer = Pacer()
    rates = [1e6 * 1.5**number for number in range(20)]
    looks = [Look(0.03 * number, rate, 0.04, 0.02) for number, rate in enumerate(rates)]
    assert [pacer.pace(look) for look in looks] == [None] * 20, (
        "it grows, though somebody else's queue stands"
    )
    steady = [Look(0.03 * number, 5e6, 0.022, 0.02) for number in range(20)]
    assert [Pacer().pace(look) for look in steady] == [None] * 20
    pacer = Pacer()
    near = [Look(0.03 * number, 5e6, NEAR_S, NEAR_S / 3) for number in range(20)]
    assert [pacer.pace(look) for look in near] == [None] * 20


def test_a_rate_that_was_thought_too_high_is_lowered_but_not_for_ever() -> None:
    pacer = Pacer()
    decided = [
        pacer.pace(Look(0.03 * number, 10e6, 0.04, 0.02)) for number in range(90)
    ]  # others fill the queue
    told = [rate for rate in decided if rate is not None]
    assert told[0] < told[1]
    assert told[1:] == sorted(told[1:], reverse=True)
    assert told[-1] >= 0.88 * 10e6


def limit_of(connection: socket.socket) -> int:
    return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8), "little")


async def test_a_connection_is_looked_at_and_left_as_it_was() -> None:
    served: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: served.set_result(writer), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        there = (await served).transport
        there.write(bytes(1 << 20))
        connection: socket.socket = there.get_extra_info("socket")
        async with paced(there, LONG):
            assert len(await reader.readexactly(1 << 20)) == 1 << 20
            look = look_at(connection, 1.0)
            assert look.now == 1.0
            assert 0 < look.shortest <= look.round_trip < 1
            assert look.rate > 1e6
            limit(connection, 5 << 30)
            assert limit_of(connection) == 5 << 30
        assert limit_of(connection) == UNLIMITED
        for one in (writer, await served):
            one.close()
            await one.wait_closed()


async def test_who_is_gone_or_no_connection_is_no_trouble() -> None:
    async with paced(None, LONG):
        pass
    ours, theirs = socket.socketpair()  # not TCP
    with ours, theirs, pytest.raises(OSError):
        look_at(ours, 0.0)
