"""A launch's stream: the parts of objects that it is made of, and the lanes over which it comes. Pure.

It is cut into stripes; the stripes `number`, `number` + lanes, ... come over one connection, a lane
(streamserver/PROTOCOL.md, *Objects*).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from appclient.errors import ServerUntrustedError

NEARBY_SECONDS = 0.02
"""There and back, a server for which what is fetched along with a request is measured out."""

LANES = 8
FAR_SECONDS = 0.05
"""Connections over which a launch's stream comes from a server that is at least this far away, there and
back. Each begins with a few packets and doubles them every round trip: eight are at full speed three round
trips before one. From a near one they would bring nothing but work (RESULTS.md: 0.2 s at 20 ms)."""

STRIPE = 16 << 10
"""Bytes that come over one lane before the next one's turn: about what a connection begins with."""


_WORD = re.compile(r"[\w.-]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object, by the address that the server gave out for it."""

    path: str  # /v1/objects/DIGEST?e=...&c=...
    offset: int
    size: int

    def word(self) -> str:
        """Return what stands for the part in a stream's address.

        Raises:
            ServerUntrustedError: its object's address is not of the shape that the server gives out.
        """
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        expires, capability = query.get("e", [""])[0], query.get("c", [""])[0]
        word = f"{parts.path.rpartition('/')[2]}.{expires}.{capability}.{self.offset}.{self.size}"
        if not _WORD.fullmatch(word):
            raise ServerUntrustedError("the server's address of an object makes no sense")
        return word


class Body(Protocol):
    """What an open part is read from, by `Door.take`."""

    async def readexactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""


class Striped:
    """A body that comes in stripes over several lanes, each stripe over the next one."""

    def __init__(self, lanes: Sequence[Body]) -> None:
        self._lanes = lanes
        self._at = 0

    async def readexactly(self, size: int) -> bytes:
        """Return the next `size` bytes. Who leaves in the middle of it cannot go on reading."""
        pieces = []
        while size:
            stripe, within = divmod(self._at, STRIPE)
            here = min(size, STRIPE - within)
            pieces.append(await self._lanes[stripe % len(self._lanes)].readexactly(here))
            self._at += here
            size -= here
        return b"".join(pieces)


def farness(round_trip: float) -> float:
    """Return how many times further away a server is than one around the corner: what a request costs."""
    return max(1.0, round_trip / NEARBY_SECONDS)


def lanes_of(round_trip: float) -> int:
    """Return over how many connections a long stream comes from a server `round_trip` seconds away."""
    return LANES if round_trip >= FAR_SECONDS else 1


def lane_size(total: int, number: int, lanes: int) -> int:
    """Return the bytes of a lane of a stream of `total` bytes."""
    cycles, rest = divmod(total, STRIPE * lanes)
    return cycles * STRIPE + min(max(rest - number * STRIPE, 0), STRIPE)
