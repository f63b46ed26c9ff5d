"""The connections of clients: how many there may be, and how long one may take nothing. For one event loop.

A reader that stands still is ended by the kernel (TCP_USER_TIMEOUT: what was sent is not acknowledged, or its
window stays shut) and, where our own buffer waits for it, by a look at that buffer every `STALL_S`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import cast

from streamserver.throttle import network_of

LOG = logging.getLogger("streamserver")
STALL_S = 60.0  # a client that takes nothing for so long is gone
TOTAL_MAX = 4096
PER_ADDRESS_MAX = 512  # an office behind one address; IPv6: its /64
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Connections:
    """Counts what is open and refuses what is too much. For `proxies`, only the total holds."""

    def __init__(
        self,
        proxies: Collection[Network] = (),
        *,
        total: int = TOTAL_MAX,
        per_address: int = PER_ADDRESS_MAX,
        stall_s: float = STALL_S,
    ) -> None:
        self.stall_s = stall_s
        self._proxies = proxies
        self._total = total
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self._refused = 0

    def __len__(self) -> int:
        return self._open.total()

    def enter(self, address: str) -> bool:
        """Count a connection from `address`; False, and not counted, if there are too many."""
        network = network_of(address)
        many = self._open[network] >= self._per_address and not is_among(address, self._proxies)
        if many or len(self) >= self._total:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # the first, second, fourth, eighth...
                LOG.warning("too many connections, %d refused so far; one from %s", self._refused, network)
            return False
        self._open[network] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection no longer."""
        network = network_of(address)
        self._open[network] -= 1
        if self._open[network] <= 0:
            del self._open[network]


class GuardedProtocol(asyncio.Protocol):
    """Another protocol's connection, counted and never stuck in a write for longer than it may be."""

    def __init__(self, connections: Connections, inner: Callable[[], asyncio.Protocol]) -> None:
        self._connections = connections
        self._make = inner
        self._inner: asyncio.Protocol | None = None
        self._address = ""
        self._transport: asyncio.Transport | None = None
        self._look: asyncio.TimerHandle | None = None
        self._left = 0  # bytes in the buffer at the last look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, or end it at once."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        if not self._connections.enter(self._address):
            self._transport.abort()
            return
        connected = transport.get_extra_info("socket")
        if connected is not None:
            milliseconds = int(self._connections.stall_s * 1000)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._inner = self._make()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received() if self._inner is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        if self._look is not None:
            self._look.cancel()
        if self._inner is not None:
            self._connections.leave(self._address)
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Our buffer is full: from now on the client has to take something now and then."""
        assert self._inner is not None
        self._inner.pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """The client has taken enough."""
        assert self._inner is not None
        if self._look is not None:
            self._look.cancel()
        self._inner.resume_writing()

    def _wait(self) -> None:
        assert self._transport is not None
        self._left = self._transport.get_write_buffer_size()
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(self._connections.stall_s, self._judge)

    def _judge(self) -> None:
        assert self._transport is not None
        if self._transport.get_write_buffer_size() >= self._left:
            LOG.info("a client at %s has taken nothing for %g s", self._address, self._connections.stall_s)
            self._transport.abort()
        else:
            self._wait()


def is_among(address: str, networks: Collection[Network]) -> bool:
    """Tell whether `address`, as a socket gives it, lies in one of `networks`."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in network for network in networks)
