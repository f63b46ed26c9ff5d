"""The one door to HTTP: limits on every byte, the pinned certificate, and only our own exceptions.

Nothing that comes through it is trusted; `workflow` checks it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import aiohttp

from appclient.address import Address
from appclient.errors import (
    NotEntitledError,
    NotSignedInError,
    ServerUnreachableError,
    ServerUntrustedError,
)
from packageformat.errors import FormatError, MillstreamError

ANSWER_MAX = 8 << 20
"""Bytes of any answer but an object's."""

LANES = 8
FAR_SECONDS = 0.05
"""Connections over which a launch's stream comes from a server that is at least this far away, there and back.
Each begins with a few packets and doubles them every round trip: eight are at full speed three round trips
before one. From a near one they would bring nothing but work (RESULTS.md: 0.2 s at 20 ms)."""

STRIPE = 16 << 10
"""Bytes that come over one lane before the next one's turn: about what a connection begins with."""

BESIDE = 3
"""Connections kept open between launches besides the stream's: for faults and layouts."""

CONNECTIONS = LANES + 6
"""Connections to the server, kept alive."""

KEPT_SECONDS = 70.0
"""How long a connection that rests is used again: less than the server keeps it (75 s), so that none is used
in the moment in which the server ends it. `service` asks for the server's health once a minute meanwhile."""

READ_BUFFER = 2 << 20
"""Bytes of a part that may wait to be taken, and as many again: what a launch needs comes on while the tables
of contents are checked."""

OPEN_SECONDS = 60.0
"""How long the head of an answer may take, and its body if it is a refusal."""

GRACE_SECONDS = 20.0
SLOWEST_RATE = 8192
"""Bytes a second: what is taken of a part has to come in GRACE_SECONDS and the time that this rate needs."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=10, sock_read=20)
_SMALL_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=20)


_PART_WORD = re.compile(r"[\w.-]{1,256}", re.ASCII)


class Body(Protocol):
    """What an open part is read from, by `Door.take`."""

    async def readexactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""


class _Striped:
    """A body that comes in stripes over several lanes, each stripe over the next one."""

    def __init__(self, lanes: Sequence[aiohttp.StreamReader]) -> None:
        self._lanes = lanes
        self._at = 0

    async def readexactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        pieces = []
        while size:
            stripe, within = divmod(self._at, STRIPE)
            here = min(size, STRIPE - within)
            pieces.append(await self._lanes[stripe % len(self._lanes)].readexactly(here))
            self._at += here
            size -= here
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object, by the address that the server gave out for it."""

    path: str  # /v1/objects/DIGEST?e=...&c=...
    offset: int
    size: int


class CapabilityExpiredError(MillstreamError):
    """The address of an object is no longer valid; a new pointer has a new one. Never shown to a user."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that may be good: 200, or 204 or 304 with an empty body."""

    status: int
    body: bytes
    etag: str

    def json(self) -> Mapping[str, object]:
        """Return the body as a JSON object.

        Raises:
            ServerUntrustedError: it is not one.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ServerUntrustedError("the server's answer is not JSON") from error
        if not isinstance(value, dict):
            raise ServerUntrustedError("the server's answer is not a JSON object")
        return value


def whole_number(value: object) -> int:
    """Return a number of a JSON answer that must be whole; JSON knows Infinity, 1e400 and true as well.

    Raises:
        TypeError, ValueError: it is not one of 0 to 2**53 - 1.
    """
    if type(value) is not int:
        raise TypeError("not a whole number")
    if not 0 <= value < 1 << 53:
        raise ValueError("a number out of bounds")
    return value


class Door:
    """A server, by its address, behind its pinned certificate if it has one."""

    def __init__(self, address: Address, certificate: bytes = b"", *, grace: float = GRACE_SECONDS) -> None:
        """Prepare; nothing is sent yet. Must be made inside a running event loop.

        Args:
            address: of the server.
            certificate: SHA-256 of the only certificate to accept; empty: one that a CA vouches for.
            grace: see GRACE_SECONDS.
        """
        self.address = address
        self._grace = grace
        self.received = 0  # bytes of bodies, of all answers
        self.round_trip = 0.02  # seconds, as last measured
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS,
                keepalive_timeout=KEPT_SECONDS,
                ssl=aiohttp.Fingerprint(certificate) if certificate else True,
            ),
            headers={"User-Agent": "millstream-appclient/1", "Accept-Encoding": "identity"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_SMALL_TIMEOUT,
        )

    async def __aenter__(self) -> Door:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def get(self, path: str, *, token: str = "", etag: str = "") -> Answer:
        """Return the answer to GET `path`. Raises as `_exchange`."""
        headers = _authorization(token)
        if etag:
            headers["If-None-Match"] = etag
        return await self._exchange("GET", path, headers, None)

    async def post(self, path: str, value: Mapping[str, object], *, token: str = "") -> Answer:
        """Return the answer to POST of `value` as JSON to `path`. Raises as `_exchange`."""
        return await self._exchange("POST", path, _authorization(token), value)

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], value: Mapping[str, object] | None
    ) -> Answer:
        """Send a request and return its whole answer.

        Raises:
            NotSignedInError: 401.
            NotEntitledError: 403 or 404.
            ServerUnreachableError: no answer in time, or the server cannot answer now.
            ServerUntrustedError: another certificate than the pinned one, or an answer that makes no sense.
        """
        with self._foreign():
            async with self._session.request(
                method, self.address.url + path, headers=headers, json=value, allow_redirects=False
            ) as response:
                body = await _limited(response.content, ANSWER_MAX)
                self.received += len(body)
                if response.status not in (200, 204, 304):
                    raise _refusal(response.status, body)
                return Answer(response.status, body, response.headers.get("ETag", ""))

    @property
    def lanes(self) -> int:
        """Over how many connections a long stream comes."""
        return LANES if self.round_trip >= FAR_SECONDS else 1

    async def warm(self) -> None:
        """Have connections open before they are needed: a handshake costs two or three round trips.

        Raises ExceptionGroup of what `_exchange` raises, or that itself.
        """
        before = time.monotonic()
        await self._exchange("GET", "/v1/health", {}, None)
        self.round_trip = time.monotonic() - before
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.lanes + BESIDE):
                tasks.create_task(self._exchange("GET", "/v1/health", {}, None))

    @asynccontextmanager
    async def part(self, path: str, offset: int, size: int) -> AsyncIterator[Body]:
        """Open `size` bytes from `offset` on of an object; read them with `take`.

        Raises:
            CapabilityExpiredError: the address is no longer valid.
            ServerUnreachableError, ServerUntrustedError: as `_exchange`.
        """
        last = offset + size - 1
        async with self._opened(path, {"Range": f"bytes={offset}-{last}"}) as response:
            told = response.headers.get("Content-Range", "")
            if response.status == 206 and not told.startswith(f"bytes {offset}-{last}/"):
                raise ServerUntrustedError(f"the server sent another range than bytes {offset}-{last}")
            if response.status == 200 and (offset or response.content_length != size):
                raise ServerUntrustedError("the server does not send ranges")
            yield response.content

    @asynccontextmanager
    async def parts(self, parts: Sequence[Part]) -> AsyncIterator[Body]:
        """Open parts of several objects, which come one right behind the other. Raises as `part`."""
        query = "&".join(f"p={_part_word(part)}" for part in parts)
        total = sum(part.size for part in parts)
        lanes = max(1, min(self.lanes, -(-total // STRIPE)))
        async with AsyncExitStack() as undo:
            opened = await asyncio.gather(
                *(
                    undo.enter_async_context(
                        self._opened(f"/v1/stream?{query}&s={lane}.{lanes}.{STRIPE}", {})
                    )
                    for lane in range(lanes)
                ),
                return_exceptions=True,
            )
            responses = []
            for one in opened:
                if isinstance(one, BaseException):
                    raise one
                responses.append(one)
            if (
                any(response.status != 200 for response in responses)
                or sum(response.content_length or 0 for response in responses) != total
            ):
                raise ServerUntrustedError("the server sends something else than the parts it was asked for")
            yield _Striped([response.content for response in responses])

    @asynccontextmanager
    async def _opened(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a long answer. Raises as `part`."""
        with self._foreign():
            async with asyncio.timeout(OPEN_SECONDS):
                response = await self._session.get(
                    self.address.url + path,
                    headers=headers,
                    allow_redirects=False,
                    timeout=_TIMEOUT,
                    read_bufsize=READ_BUFFER,
                )
        try:
            with self._foreign():
                async with asyncio.timeout(OPEN_SECONDS):
                    if response.status in (403, 404, 410):
                        await _limited(response.content, ANSWER_MAX)
                        raise CapabilityExpiredError(
                            f"the address of an object is refused ({response.status})"
                        )
                    if response.status not in (200, 206):
                        raise _refusal(response.status, await _limited(response.content, ANSWER_MAX))
            yield response  # what goes wrong in the caller's block is not the server's doing
        finally:
            response.close()  # ends the connection unless all of the answer was taken

    async def take(self, content: Body, size: int) -> bytes:
        """Return the next `size` bytes of an open part.

        Raises:
            ServerUnreachableError: the connection ended before, or they come too slowly.
        """
        with self._foreign():
            async with asyncio.timeout(self._grace + size / SLOWEST_RATE):
                data = await content.readexactly(size)
        self.received += size
        return data

    def _foreign(self) -> _Foreign:
        return _Foreign(self.address)


class _Foreign:
    """Turns what aiohttp, ssl and the kernel raise into our own."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        url = self._address.url
        if isinstance(error, aiohttp.ServerFingerprintMismatch):
            raise ServerUntrustedError(
                f"{url} shows another certificate than the one accepted at login: {error.got.hex()}"
            ) from error
        if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
            raise ServerUntrustedError(
                f"no authority that this machine knows vouches for the certificate of {url}"
            ) from error
        if isinstance(error, (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError)):
            reason = (
                "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            )
            raise ServerUnreachableError(f"{url} cannot be reached: {' '.join(reason.split())}") from error


async def certificate_of(address: Address) -> bytes:
    """Return the SHA-256 of the certificate that the server shows, unchecked.

    Raises:
        ServerUnreachableError: no answer, or no TLS there.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(address.url)
    try:
        async with asyncio.timeout(15):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    except (OSError, TimeoutError) as error:
        raise ServerUnreachableError(f"{address.url} cannot be reached over TLS: {error}") from error
    tls = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True)
    writer.close()
    return hashlib.sha256(certificate or b"").digest()


def _part_word(part: Part) -> str:
    """Return what stands for a part in a stream's address.

    Raises:
        ServerUntrustedError: its object's address is not of the shape that the server gives out.
    """
    parts = urlsplit(part.path)
    query = parse_qs(parts.query)
    expires, capability = query.get("e", [""])[0], query.get("c", [""])[0]
    word = f"{parts.path.rpartition('/')[2]}.{expires}.{capability}.{part.offset}.{part.size}"
    if not _PART_WORD.fullmatch(word):
        raise ServerUntrustedError("the server's address of an object makes no sense")
    return word


def _authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


async def _limited(content: aiohttp.StreamReader, most: int) -> bytes:
    parts = []
    size = 0
    async for part in content.iter_chunked(1 << 16):
        size += len(part)
        if size > most:
            raise ServerUntrustedError(f"the server sends more than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(status: int, body: bytes) -> MillstreamError:
    """Return the error for a status that is not good, in the server's words if it has some."""
    message, hint = "", None
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        message = _plain(told.get("message"))
        hint = _plain(told.get("hint")) or None
    message = message or f"the server answered {status}"
    if status == 401:
        return NotSignedInError(message)
    if status in (403, 404):
        return NotEntitledError(message, hint=hint)
    if status == 429 or status >= 500:
        return ServerUnreachableError(message, hint=hint)
    if status == 400:
        return FormatError(f"the server refused a request: {message}", hint=hint)
    return ServerUntrustedError(f"an answer that makes no sense: {message}", hint=hint)


def _plain(value: object) -> str:
    """Return text of the server as one printable line: it goes to a terminal."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value[:500])
