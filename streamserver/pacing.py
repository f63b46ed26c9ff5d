"""A long answer is sent a little more slowly than the line carries, so that short ones find no queue.

TCP fills the queue in front of the slowest piece of line, and what overflows there is lost: of itself, which
costs it little, and of the answers beside it, of which a lost packet costs a fifth of a second or more. A
launch's own faults, which nobody foresaw, travel beside its stream; a user who browses beside a fill, too.

So: once the rate has stopped growing and a queue stands, that is let go, and then the connection keeps just
below the rate that it reached (SO_MAX_PACING_RATE). From time to time it may try for more.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; not in Python's module
UNLIMITED = (1 << 64) - 1

LONG = 1 << 20
"""Bytes of an answer from which on it is paced; shorter ones are over before the rate is known."""

SHARE, SHARE_MIN = 0.97, 0.9
"""Of the rate that was reached; less if a queue stands even so."""

LESS = 0.98
DRAIN_SHARE, DRAIN_ROUNDS = 0.8, 15
QUEUED, LONG_QUEUED = 1.25, 1.5
"""A queue stands if a round trip takes so many times the shortest; a long one."""

GROWTH = 1.25
"""A rate that still grows, grows by this in a round trip: TCP doubles it."""

HOLD_S = 3.0
NEAR_S = 0.002
"""Within so short a round trip is no slow line: a proxy on this machine, a local network."""

LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Look:
    """What TCP told of a connection at a moment."""

    now: float
    rate: float  # bytes a second that were delivered lately
    round_trip: float  # seconds, smoothed
    shortest: float  # seconds

    @property
    def is_queued(self) -> bool:
        """Whether its packets wait in a queue."""
        return self.round_trip > QUEUED * self.shortest

    @property
    def is_queued_long(self) -> bool:
        """Whether they wait for long."""
        return self.round_trip > LONG_QUEUED * self.shortest


def look_at(connection: socket.socket, now: float) -> Look:
    """Return what TCP tells (struct tcp_info in linux/tcp.h).

    Raises:
        OSError: it is no TCP connection, or it is over.
    """
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 168)
    if len(told) < 168:
        raise OSError("this kernel tells too little of its connections")
    (round_trip,) = struct.unpack_from("=I", told, 68)
    (shortest,) = struct.unpack_from("=I", told, 148)
    (rate,) = struct.unpack_from("=Q", told, 160)
    return Look(now, float(rate), round_trip / 1e6, shortest / 1e6)


def limit(connection: socket.socket, rate: int) -> None:
    """Let a connection send at most so many bytes a second; `UNLIMITED`: whatever TCP thinks right.

    Raises:
        OSError: it is over.
    """
    connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=Q", rate))


class Pacer:
    """Decides how fast a connection may send, from one look to the next. Pure: moments are arguments."""

    def __init__(self) -> None:
        self._before: Look | None = None  # a round trip ago
        self._reached = 0.0  # the rate that was reached; 0: it may still grow
        self._share = 1.0
        self._judge_at = 0.0
        self._hold_until = 0.0

    def pace(self, look: Look) -> int | None:
        """Return the bytes a second that may be sent from now on, `UNLIMITED`, or None: as before."""
        if self._reached:
            return self._held(look)
        before = self._before
        if look.shortest < NEAR_S or (before and look.now - before.now < max(LOOK_S, look.shortest)):
            return None
        self._before = look
        if before is None or not look.is_queued or look.rate > GROWTH * before.rate:
            return None
        self._reached = max(look.rate, before.rate)
        self._share = DRAIN_SHARE
        self._judge_at = look.now + DRAIN_ROUNDS * look.shortest
        self._hold_until = look.now + HOLD_S
        return int(self._share * self._reached)

    def _held(self, look: Look) -> int | None:
        if look.now >= self._hold_until:
            self._before, self._reached = None, 0.0
            return UNLIMITED
        if self._share == DRAIN_SHARE:
            if look.is_queued and look.now < self._judge_at:
                return None
            self._share = SHARE
        elif look.now >= self._judge_at and self._share > SHARE_MIN and look.is_queued_long:
            self._share *= LESS
        else:
            return None
        self._judge_at = look.now + DRAIN_ROUNDS * look.shortest
        return int(self._share * self._reached)


@asynccontextmanager
async def paced(transport: asyncio.BaseTransport | None, size: int) -> AsyncIterator[None]:
    """Pace what is sent over a connection meanwhile, if that is long.

    Args:
        transport: the connection; None or one that is no TCP connection is left alone.
        size: bytes that are to be sent.
    """
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is None or size < LONG:
        yield
        return
    watching = asyncio.ensure_future(_watch(connection))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(OSError):
            limit(connection, UNLIMITED)


async def _watch(connection: socket.socket) -> None:
    pacer = Pacer()
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while True:
            rate = pacer.pace(look_at(connection, loop.time()))
            if rate is not None:
                limit(connection, rate)
            await asyncio.sleep(LOOK_S)
