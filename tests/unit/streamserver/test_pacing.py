"""A long answer lets the queue go and keeps near what the line carries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import pairwise

import pytest

from streamserver.pacing import (
    FREE_ROUNDS,
    LONG,
    LOOK_S,
    MORE_FIRST_S,
    NEAR_S,
    SO_MAX_PACING_RATE,
    UNLIMITED,
    Look,
    Pacer,
    limit,
    look_at,
    paced,
)


def look(now: float, sent: float, rate: float, round_trip: float, shortest: float) -> Look:
    return Look(now, int(sent), 1, rate, round_trip, shortest)


class Line:
    """A line with a queue before it, and a sender that doubles its rate until told otherwise."""

    def __init__(self, carries: float, shortest: float, queue_s: float) -> None:
        self.carries, self.shortest, self.longest = carries, shortest, queue_s
        self.queue_s = 0.0
        self.sends = carries / 30
        self.limit = float(UNLIMITED)
        self.now = 0.0
        self.sent = 0.0
        self.lag: list[float] = []  # TCP's samples are of a round trip ago

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
            self.lag.append(delivered)
            late = self.lag[max(0, len(self.lag) - 1 - round(self.shortest / LOOK_S))]
            told = pacer.pace(look(self.now, self.sent, late, self.shortest + self.queue_s, self.shortest))
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
    line.run(20 * shortest + MORE_FIRST_S, pacer)
    before, began = line.sent, line.now
    line.run(3.0, pacer)
    assert line.queue_s < 0.6 * shortest
    assert 0.93 * carries < (line.sent - before) / (line.now - began) <= carries


def decided(looks: Sequence[tuple[float, int, float, float]]) -> list[int | None]:
    """Return what is decided of looks at a line with 20.3 ms there and back: s, packets, MB/s, ms."""
    pacer = Pacer()
    return [
        pacer.pace(Look(now, packets, 1448, 1e6 * rate, trip / 1e3, 0.0203))
        for now, packets, rate, trip in looks
    ]


def test_the_samples_of_a_line_that_is_full_are_taken_for_its_rate() -> None:
    """As met, with BBR (RESULTS.md, 2026-11-30)."""
    assert decided(
        [
            *((0.000, 330, 3.26, 26.1), (0.021, 438, 7.13, 22.1), (0.042, 584, 9.03, 23.0)),
            *((0.063, 755, 12.28, 29.0), (0.084, 923, 11.93, 37.3), (0.104, 1091, 12.13, 41.3)),
            *((0.124, 1259, 11.79, 42.0), (0.166, 1613, 9.68, 22.3)),
        ]
    ) == [None, None, None, None, int(0.8 * 11.93e6), int(0.8 * 12.13e6), None, int(0.97 * 12.13e6)]


def test_long_round_trips_of_who_has_little_to_send_are_no_queue() -> None:
    """As met: whoever receives little waits before it acknowledges; held to that, BBR never grows again."""
    assert (
        decided(
            [
                *((0.000, 125, 0, 26.6), (0.021, 125, 0, 26.6), (0.042, 150, 0, 28.2), (0.062, 214, 0, 34.6)),
                *((0.083, 257, 3.53, 38.5), (0.104, 353, 3.72, 26.4), (0.124, 391, 3.40, 22.2)),
            ]
        )
        == [None] * 7
    )


def test_a_rate_that_was_taken_too_low_is_made_good_while_the_queue_goes() -> None:
    looks = [(0.0, 100, 7.05, 26), (0.021, 205, 7.05, 27), (0.042, 310, 7.05, 28.9), (0.063, 440, 12.2, 35.7)]
    told = decided([*looks, (0.084, 560, 12.1, 23.7)])
    assert told[:2] == [None, None]
    assert told[2] == pytest.approx(0.8 * 7.05e6, rel=0.03)
    assert told[3:] == [int(0.8 * 12.2e6), int(0.97 * 12.2e6)]


def test_it_tries_for_more_where_no_queue_stands() -> None:
    line = Line(10e6, 0.02, 0.02)
    pacer = Pacer()
    line.run(0.5, pacer)
    line.carries = 20e6
    line.run(1.5, pacer)
    assert line.limit > 19e6


def test_it_tries_more_seldom_where_that_brings_nothing() -> None:
    line = Line(10e6, 0.02, 0.02)
    pacer = Pacer()
    tries: list[float] = []
    while line.now < 20:
        tries += [line.now for rate in line.run(LOOK_S / 2, pacer) if rate > 1.05 * line.carries]
    assert 4 <= len(tries) <= 8
    gaps = [second - first for first, second in pairwise(tries)]
    assert gaps == sorted(gaps)


def test_who_meets_the_queue_of_others_for_long_learns_anew_and_is_left_alone_meanwhile() -> None:
    pacer = Pacer()
    sent = 0.0
    told: list[tuple[float, int]] = []
    for number in range(400):
        now = 0.03 * number
        rate = 10e6 if number < 20 else 5e6
        sent += 0.03 * rate
        decided = pacer.pace(look(now, sent, rate, 0.04, 0.02))
        if decided is not None:
            told.append((now, decided))
    freed = [now for now, decided in told if decided == UNLIMITED]
    assert len(freed) == 2, "the second time later"
    assert freed[1] - freed[0] > 6
    held_again = min(now for now, _ in told if now > freed[0])
    assert held_again - freed[0] >= FREE_ROUNDS * 0.04
    assert told[-1][1] < 5e6


def test_a_light_queue_that_stays_is_no_reason_to_stay_slow() -> None:
    """As on a radio link: round trips that are always a third longer than the shortest."""
    line = Line(1e6, 0.02, 0.02)
    pacer = Pacer()
    line.run(1.0, pacer)
    limit, sent = line.limit, 0.0
    for number in range(400):
        now = 2.0 + LOOK_S * number
        sent += LOOK_S * min(limit, 10e6)
        told = pacer.pace(look(now, sent, min(limit, 10e6), 0.0265, 0.02))
        limit = limit if told is None else told
    assert limit > 8e6


def test_a_rate_that_grows_and_a_line_without_a_queue_are_left_alone() -> None:
    pacer = Pacer()
    rates = [1e6 * 1.5**number for number in range(20)]
    looks = [look(0.03 * number, 0.1 * rate, rate, 0.04, 0.02) for number, rate in enumerate(rates)]
    assert [pacer.pace(one) for one in looks] == [None] * 20, "it grows, though somebody else's queue stands"
    steady = [look(0.03 * number, 150e3 * number, 5e6, 0.022, 0.02) for number in range(20)]
    assert [Pacer().pace(one) for one in steady] == [None] * 20
    pacer = Pacer()
    near = [look(0.03 * number, 150e3 * number, 5e6, NEAR_S, NEAR_S / 3) for number in range(20)]
    assert [pacer.pace(one) for one in near] == [None] * 20


def test_a_rate_that_was_thought_too_high_is_lowered_but_not_for_ever() -> None:
    pacer = Pacer()
    decided = [
        pacer.pace(look(0.03 * number, 300e3 * number, 10e6, 0.04, 0.02)) for number in range(90)
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
            seen = look_at(connection, 1.0)
            assert seen.now == 1.0
            assert 0 < seen.shortest <= seen.round_trip < 1
            assert seen.packets * seen.packet > 1 << 19
            assert seen.rate == 0 or seen.rate > 1e6
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
