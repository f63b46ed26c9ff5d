"""A long answer is sent a little more slowly than the line carries, so that short ones find no queue.

TCP fills the queue in front of the slowest piece of line, and what overflows there is lost: of itself, which
costs it little, and of the answers beside it, of which a lost packet costs a fifth of a second or more. A
launch's own faults, which nobody foresaw, travel beside its stream; a user who browses beside a fill, too.

So: once the rate has stopped growing and a queue stands, that is let go, and then the connection keeps just
below the rate that it reached (SO_MAX_PACING_RATE). To hold a connection below what the line carries is worse
than any queue (BBR takes it for the line's own rate), so the rate is counted over a round trip through which
a queue stood, and counted on while that goes; and where none stands the connection tries for a little more,
the more seldom the less that brings.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto

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

COUNTED = 0.9
"""Of a rate that was counted over one round trip: acknowledgements come in bursts. TCP's samples know that,
but the last one may be old."""

MORE, MORE_ROUNDS, MORE_WORTH = 1.2, 3, 1.03
"""To try for more: this share of the rate for so many round trips, a queue of six tenths of one at most; it
was worth it, and is tried again at once, if this much more was delivered."""

MORE_FIRST_S, MORE_MOST_S = 0.15, 5.0
"""So long nothing is tried first, and twice as long each time that it brought nothing, up to this."""

HOLD_S, HOLD_MOST_S = 3.0, 30.0
"""Whom a queue meets for so long that is not his own learns anew what the line carries; each time later."""

FREE_ROUNDS = 10
"""Round trips, as long as they are then, in which he is not held: what he sends while he is says nothing."""

SLOWEST = 64 << 10
"""Bytes a second below which nobody is held."""

NEAR_S = 0.002
"""Within so short a round trip is no slow line: a proxy on this machine, a local network."""

LOOK_S = 0.02
_LOOKS = 128


@dataclass(frozen=True, slots=True)
class Look:
    """What TCP told of a connection at a moment."""

    now: float
    packets: int  # that were delivered so far
    packet: int  # bytes
    rate: float  # bytes a second, by TCP's last sample; 0 if that was of a time when there was little to send
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

    def rate_since(self, before: Look) -> float:
        """Return the bytes a second that were delivered since an earlier look."""
        return (self.packets - before.packets) * self.packet / (self.now - before.now)


def look_at(connection: socket.socket, now: float) -> Look:
    """Return what TCP tells (struct tcp_info in linux/tcp.h).

    Raises:
        OSError: it is no TCP connection, or it is over.
    """
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 196)
    if len(told) < 196:
        raise OSError("this kernel tells too little of its connections")
    (packet,) = struct.unpack_from("=I", told, 16)
    (round_trip,) = struct.unpack_from("=I", told, 68)
    (shortest,) = struct.unpack_from("=I", told, 148)
    (rate,) = struct.unpack_from("=Q", told, 160)
    (packets,) = struct.unpack_from("=I", told, 192)
    is_limited = told[7] & 1
    sampled = 0.0 if is_limited else float(rate)
    return Look(now, packets, packet, sampled, round_trip / 1e6, shortest / 1e6)


def limit(connection: socket.socket, rate: int) -> None:
    """Let a connection send at most so many bytes a second; `UNLIMITED`: whatever TCP thinks right.

    Raises:
        OSError: it is over.
    """
    connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=Q", rate))


class _Stage(Enum):
    GROWING = auto()  # TCP does as it thinks right
    DRAINING = auto()  # the queue goes
    KEEPING = auto()  # just below what was reached
    TRYING = auto()  # for more


class Pacer:
    """Decides how fast a connection may send, from one look to the next. Pure: moments are arguments."""

    def __init__(self) -> None:
        self._stage = _Stage.GROWING
        self._looks: deque[Look] = deque(maxlen=_LOOKS)
        self._reached = 0.0  # the rate that was reached
        self._limit = UNLIMITED
        self._share = SHARE
        self._judge_at = 0.0
        self._hold_until = 0.0
        self._hold_s = HOLD_S
        self._free_until = 0.0
        self._more_at = 0.0
        self._more_from = 0.0  # what was reached when more was tried for
        self._gap_s = MORE_FIRST_S

    def pace(self, look: Look) -> int | None:
        """Return the bytes a second that may be sent from now on, or None: as before."""
        if self._stage is _Stage.GROWING:
            self._grow(look)
        else:
            self._adjust(look)
        shares = {_Stage.DRAINING: DRAIN_SHARE, _Stage.KEEPING: self._share, _Stage.TRYING: MORE}
        wanted = int(self._reached * shares[self._stage]) if self._stage in shares else UNLIMITED
        if wanted == self._limit:
            return None
        self._limit = wanted
        return wanted

    def _grow(self, look: Look) -> None:
        if not look.rate:
            self._looks.clear()  # little was sent: whoever receives it waits before he acknowledges
            return
        if look.shortest < NEAR_S or look.now < self._free_until:
            return
        self._looks.append(look)
        middle = self._before(look)
        first = self._before(middle) if middle is not None else None
        if middle is None or first is None or not (look.is_queued and middle.is_queued):
            return
        rate = look.rate_since(middle)
        reached = max(COUNTED * rate, look.rate)
        if rate <= GROWTH * middle.rate_since(first) and reached >= SLOWEST:
            self._reached = reached
            self._hold_until = look.now + self._hold_s
            self._hold_s = min(2 * self._hold_s, HOLD_MOST_S)
            self._more_at = look.now + self._gap_s
            self._enter(_Stage.DRAINING, look, DRAIN_ROUNDS)

    def _before(self, look: Look) -> Look | None:
        """Return the last look that is a round trip older than another one."""
        age = max(LOOK_S, look.shortest)
        return next((one for one in reversed(self._looks) if look.now - one.now >= age), None)

    def _adjust(self, look: Look) -> None:
        if self._stage is not _Stage.KEEPING:
            self._reached = max(self._reached, look.rate)
        if self._stage is _Stage.DRAINING and not look.is_queued:
            self._judge_at = look.now
        if look.now < self._judge_at:
            return
        if self._stage is _Stage.TRYING:
            self._judge_more(look)
        elif self._stage is _Stage.DRAINING:
            self._enter(_Stage.KEEPING, look, DRAIN_ROUNDS)
        elif look.is_queued_long and self._share > SHARE_MIN:
            self._share = max(SHARE_MIN, self._share * LESS)
            self._enter(_Stage.KEEPING, look, DRAIN_ROUNDS)
        elif look.is_queued_long and look.now >= self._hold_until:
            self._share = SHARE
            self._looks.clear()
            self._free_until = look.now + FREE_ROUNDS * look.round_trip
            self._enter(_Stage.GROWING, look, 0)
        elif not look.is_queued_long and look.now >= self._more_at:
            self._try_more(look)

    def _try_more(self, look: Look) -> None:
        self._more_from = self._reached
        self._enter(_Stage.TRYING, look, MORE_ROUNDS)

    def _judge_more(self, look: Look) -> None:
        if self._reached > MORE_WORTH * self._more_from:
            self._gap_s, self._share = MORE_FIRST_S, SHARE
            self._try_more(look)
            return
        self._gap_s = min(2 * self._gap_s, MORE_MOST_S)
        self._more_at = look.now + self._gap_s
        self._enter(_Stage.DRAINING if look.is_queued else _Stage.KEEPING, look, DRAIN_ROUNDS)

    def _enter(self, stage: _Stage, look: Look, rounds: int) -> None:
        self._stage = stage
        self._judge_at = look.now + rounds * look.shortest


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
