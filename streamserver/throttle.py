"""How often somebody may try passwords, or report launches. Pure; bounded memory.

A token bucket each: `burst` failures at once, then one every `refill_s` seconds. Of passwords, only failures
count, by user and address and by address; of reports, each one, by account.
The least recently used buckets are forgotten first; a flood of invented user names from one address
keeps that address's own bucket in use, so it cannot wash itself out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

REMEMBERED = 20_000  # buckets of each kind


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that an IPv6 client has for himself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


class Buckets:
    """One kind of bucket. Levels are failures; a level falls by one every `refill_s` seconds."""

    def __init__(self, burst: int, refill_s: float, remembered: int = REMEMBERED) -> None:
        self._burst = burst
        self._refill_s = refill_s
        self._remembered = remembered
        self._levels: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()  # level, when

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: tuple[str, ...], now: float) -> float:
        """Return the seconds until `key` may try again; 0 if it may now."""
        return max(0.0, (self._level(key, now) - self._burst + 1) * self._refill_s)

    def fail(self, key: tuple[str, ...], now: float) -> None:
        """Count a failure of `key`."""
        self._levels[key] = (self._level(key, now) + 1, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._remembered:
            self._levels.popitem(last=False)

    def forgive(self, key: tuple[str, ...], failures: float | None = None) -> None:
        """Take back `failures` of `key`; all of them by default."""
        level, when = self._levels.pop(key, (0.0, 0.0))
        if failures is not None and level > failures:
            self._levels[key] = (level - failures, when)

    def _level(self, key: tuple[str, ...], now: float) -> float:
        level, when = self._levels.get(key, (0.0, now))
        return max(0.0, level - max(0.0, now - when) / self._refill_s)


def report_buckets() -> Buckets:
    """Return what bounds an account's reports of launches: 30 at once, then one a minute."""
    return Buckets(burst=30, refill_s=60.0)


class LoginThrottle:
    """Limits for `login`. `now` is any clock that only goes forward, in seconds."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._pairs = Buckets(burst=5, refill_s=20.0, remembered=remembered)
        self._addresses = Buckets(burst=60, refill_s=2.0, remembered=remembered)

    def wait(self, user: str, address: str, now: float) -> float:
        """Return the seconds until this user may try again from this address; 0 if now."""
        address = network_of(address)
        return max(self._pairs.wait((user, address), now), self._addresses.wait((address,), now))

    def begin(self, user: str, address: str, now: float) -> None:
        """Count an attempt before it is checked: attempts at the same time all count."""
        address = network_of(address)
        self._pairs.fail((user, address), now)
        self._addresses.fail((address,), now)

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures of who gave the right password."""
        address = network_of(address)
        self._pairs.forgive((user, address))
        self._addresses.forgive((address,), failures=1)
