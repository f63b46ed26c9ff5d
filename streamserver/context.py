"""What every route needs, under typed keys of the application and of the request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from aiohttp import web

from streamserver.connections import Network
from streamserver.descriptors import Descriptors
from streamserver.passwords import hash_of_nobody
from streamserver.store import Store
from streamserver.throttle import Buckets, LoginThrottle, report_buckets

PASSWORDS_AT_ONCE = 2  # argon2 runs: 64 MiB and a core each
PASSWORDS_WAITING = 32


@dataclass(slots=True)
class Context:
    """The running server's parts. `hashing` counts logins that hold or wait for a place at argon2."""

    store: Store
    descriptors: Descriptors = field(default_factory=Descriptors)
    throttle: LoginThrottle = field(default_factory=LoginThrottle)
    hashers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(PASSWORDS_AT_ONCE, thread_name_prefix="argon2")
    )
    hashing: int = 0
    proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For is believed
    learns: bool = True  # reports of launches are kept
    reporting: Buckets = field(default_factory=report_buckets)
    nobody: str = field(default_factory=hash_of_nobody)
    started: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        """End the threads and close the kept descriptors."""
        self.hashers.shutdown(wait=True, cancel_futures=True)
        self.descriptors.close()


CONTEXT = web.AppKey("context", Context)
USER = web.RequestKey("user", str)
"""Who a request is from, for the access log."""

SENT = web.RequestKey("sent", int)
"""Bytes of a long body that were sent, for the access log."""
