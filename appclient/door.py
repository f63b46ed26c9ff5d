"""The one door to HTTP: limits on every byte, the pinned certificate, and only our own exceptions.

Nothing that comes through it is trusted; `workflow` checks it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from appclient.address import Address
from appclient.errors import (
    NotEntitledError,
    NotSignedInError,
    ServerUnreachableError,
    ServerUntrustedError,
)
from appclient.lanes import LANES, STRIPE, Body, Part, Striped, lane_size, lanes_of
from appclient.together import together
from packageformat.errors import FormatError, MillstreamError

ANSWER_MAX = 8 << 20
"""Bytes of any answer but an object's."""

BESIDE = 3
"""Connections kept open between launches besides the stream's: for faults and layouts."""

SPARE = 1
"""Of those kept open, so many are left to faults when a stream begins beside others."""

CONNECTIONS = LANES + 6
"""Connections to the server, kept alive. All streams together have LANES lanes, and one each beyond that: the
others are for faults, which must not wait for a stream to end."""

KEPT_SECONDS = 70.0
"""How long a connection that rests is used again: less than the server keeps it (75 s), so that none is used
in the moment in which the server ends it. `service` asks for the server's health once a minute meanwhile."""

REHEARSAL_BYTES, FAR_REHEARSAL_BYTES = 96 << 10, 256 << 10
"""What each connection that is kept open carries once, for nothing: TCP begins with ten packets and doubles
them every round trip, and a connection that has rested goes on where it was (with BBR, or where the
administrator of the server has set tcp_slow_start_after_idle to 0). Reckoned, so that all together do not
overfill a line of 100 Mbit/s at 20 ms, or at 200 ms: 0.4 MB from a near server, 2.8 MB from a far one."""

_NEXT_DOOR_SECONDS = 0.005
"""A server nearer than this is at full speed at once."""

READ_BUFFER = 2 << 20
"""Bytes of a part, or of a lane, that may wait to be taken, and as many again: what a launch needs comes on
while the tables of contents are checked."""

OPEN_SECONDS = 60.0
"""How long the head of an answer may take, and its body if it is a refusal."""

GRACE_SECONDS = 20.0
SLOWEST_RATE = 8192
"""Bytes a second: what is taken of a part has to come in GRACE_SECONDS and the time that this rate needs."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=10, sock_read=20)
_SMALL_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=20)


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
        self._lanes_open = 0  # of all streams
        self._answers_open = 0  # long ones, those over lanes among them
        self._warmed = float("-inf")  # monotonic seconds: when its connections were used last
        self._rehearsed = False  # those that are open now
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
        """Over how many connections a long stream comes if there is no other."""
        return lanes_of(self.round_trip)

    @property
    def _kept_open(self) -> int:
        """How many connections are kept open for a launch."""
        return self.lanes + BESIDE

    async def warm(self) -> None:
        """Have connections open before they are needed: a handshake costs two or three round trips.

        Raises ExceptionGroup of what `_exchange` raises, or that itself.
        """
        now = time.monotonic()
        self._rehearsed = self._rehearsed and now - self._warmed < KEPT_SECONDS
        self._warmed = now
        # The first may have a handshake in front, three round trips that would make a near server a far one.
        self.round_trip = min([await self._measure(), await self._measure()])
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._kept_open):
                tasks.create_task(self._measure())

    async def rehearse(self, token: str) -> None:
        """Have the connections that `warm` opened learn what the line carries, once. Raises as `warm`."""
        if self._rehearsed or self.round_trip < _NEXT_DOOR_SECONDS:
            return
        self._rehearsed = True  # also if it fails: it is no more than a help
        size = REHEARSAL_BYTES if self.lanes == 1 else FAR_REHEARSAL_BYTES
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._kept_open):
                tasks.create_task(self.get(f"/v1/rehearsal?size={size}", token=token))

    async def _measure(self) -> float:
        """Use a connection; return how many seconds that took. Raises as `_exchange`."""
        before = time.monotonic()
        await self._exchange("GET", "/v1/health", {}, None)
        return time.monotonic() - before

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
        path = f"/v1/stream?{'&'.join(f'p={part.word()}' for part in parts)}"
        total = sum(part.size for part in parts)
        # A lane that has to be opened first would hold up all others: handshake, and a slow start.
        free = self._kept_open - SPARE - self._answers_open
        lanes = max(1, min(self.lanes - self._lanes_open, free, -(-total // STRIPE)))
        self._lanes_open += lanes
        try:
            async with AsyncExitStack() as undo:
                if lanes == 1:
                    yield await undo.enter_async_context(self._lane(path, total))
                else:
                    yield Striped(await self._open_lanes(undo, path, total, lanes))
        finally:
            self._lanes_open -= lanes

    async def _open_lanes(self, undo: AsyncExitStack, path: str, total: int, lanes: int) -> Sequence[Body]:
        """Open all lanes of a stream, or none: what one of them raises ends the others. Raises as `part`."""
        return await together(
            undo.enter_async_context(
                self._lane(f"{path}&s={number}.{lanes}.{STRIPE}", lane_size(total, number, lanes))
            )
            for number in range(lanes)
        )

    @asynccontextmanager
    async def _lane(self, path: str, size: int) -> AsyncIterator[Body]:
        """Open a stream, or a lane of it, that has to have `size` bytes. Raises as `part`."""
        async with self._opened(path, {}) as response:
            if response.status != 200 or response.content_length != size:
                raise ServerUntrustedError("the server sends something else than the parts it was asked for")
            yield response.content

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
        self._answers_open += 1
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
            self._answers_open -= 1
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
