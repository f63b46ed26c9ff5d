"""Running the server: address, TLS, the web server, the watcher, signals, and a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from streamserver.accesslog import ACCESS, AccessLogger
from streamserver.certificate import tls_context
from streamserver.connections import Connections, GuardedProtocol, Network
from streamserver.context import Context
from streamserver.deltaworker import DeltaWorker
from streamserver.errors import ServerConfigurationError
from streamserver.packworker import PackWorker
from streamserver.store import Store, open_store, tidy
from streamserver.watcher import Patience, Watcher
from streamserver.webapplication import make_application

LOG = logging.getLogger("streamserver")
IDLE_S = 75.0  # a connection whose next request head is not complete by then is closed; clients ping at 60
HANDSHAKE_S = 20.0
STOP_S = 10.0  # requests under way have so long to finish
FILES_WANTED = 65536
RELEARN_S = 300.0  # reports of launches wait so long for others to join them


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Settings:
    """What `serve` was told. `tls` is None for plain HTTP."""

    address: Address
    tls: ssl.SSLContext | None
    patience: Patience = field(default_factory=Patience)
    proxies: tuple[Network, ...] = ()
    connections: Connections | None = None  # None: the usual bounds
    builds_packs: bool = True
    builds_deltas: bool = True
    learns: bool = True  # takes reports of launches
    relearn_s: float = RELEARN_S


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens."""

    url: str
    key: bytes  # public


def address_of_text(text: str) -> Address:
    """Return the address of `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        ServerConfigurationError: it is not one.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not bare
        or not port.isascii()
        or not port.isdigit()
        or int(port) > 65535
        or (":" in bare and bare == host)
    ):
        raise ServerConfigurationError(
            f"not an address: {text[:80]!a}", hint="give HOST:PORT, for example --listen 127.0.0.1:8470"
        )
    return Address(bare, int(port))


def choose_tls(
    address: Address,
    store_certificate: tuple[Path, Path],
    given: tuple[Path | None, Path | None],
    *,
    plain: bool,
) -> ssl.SSLContext | None:
    """Return the TLS settings to serve with, or None for plain HTTP.

    Args:
        address: where the server listens.
        store_certificate: certificate and key of `init --self-signed`, used if they are there.
        given: what the command line names.
        plain: the command line asks for plain HTTP.

    Raises:
        ServerConfigurationError: the files cannot be used, or plain HTTP would be open to other machines
            without having been asked for.
    """
    certificate, key = given
    if (certificate is None) != (key is None):
        raise ServerConfigurationError(
            "certificate without key, or key without certificate", hint="give both: --certificate and --key"
        )
    if plain and certificate is not None:
        raise ServerConfigurationError("--no-tls contradicts --certificate", hint="leave one of them out")
    if plain:
        return None
    if certificate is not None and key is not None:
        return tls_context(certificate, key)
    if store_certificate[0].exists():
        return tls_context(*store_certificate)
    if not address.is_loopback:
        raise ServerConfigurationError(
            f"other machines would reach {address.host} over plain HTTP, where nobody can sign in",
            hint="give --certificate and --key (or 'init --self-signed'), or --no-tls behind a proxy",
        )
    return None


def listening_socket(address: Address) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        ServerConfigurationError: the address is taken, forbidden or not of this machine.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServerConfigurationError(
            f"cannot listen ({error.strerror}): {address.host}", hint="give an address of this machine"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(512)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ServerConfigurationError(
            f"cannot listen ({(error.strerror or '').lower()}): {address.host} port {address.port}",
            hint="choose another with --listen HOST:PORT, or stop who has it",
        ) from error
    return listener


async def serve(
    store: Store,
    settings: Settings,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[Serving], None],
) -> None:
    """Serve until `stop` is set, then let requests under way finish, up to `STOP_S`.

    Raises:
        ServerConfigurationError: it cannot listen, or cannot watch its folder.
    """
    listener = listening_socket(settings.address)
    runner = web.AppRunner(
        make_application(Context(store, proxies=settings.proxies, learns=settings.learns)),
        access_log=ACCESS,
        access_log_class=AccessLogger,
        keepalive_timeout=IDLE_S,
        shutdown_timeout=STOP_S,
        handler_cancellation=False,
        max_line_size=4096,
        max_field_size=4096,
    )
    connections = settings.connections
    if connections is None:
        connections = Connections(settings.proxies)
    accepting: asyncio.Server | None = None
    try:
        await runner.setup()
        server = runner.server
        assert server is not None
        handshake = HANDSHAKE_S if settings.tls is not None else None
        accepting = await asyncio.get_running_loop().create_server(
            lambda: GuardedProtocol(connections, server),
            sock=listener,
            ssl=settings.tls,
            backlog=512,
            ssl_handshake_timeout=handshake,
        )
        on_ready(Serving(_url(listener, settings), store.secrets.public))
        loop = asyncio.get_running_loop()
        packs = PackWorker(store, settings.relearn_s)
        deltas = DeltaWorker(store, settings.relearn_s)

        def wake() -> None:
            packs.wake()
            deltas.wake()

        watcher = Watcher(store, settings.patience, on_import=lambda _: loop.call_soon_threadsafe(wake))
        builders = [packs.run()] if settings.builds_packs else []
        if settings.builds_deltas:
            builders.append(deltas.run())
        await _until(stop, watcher.run(), *builders)
    finally:
        if accepting is not None:
            accepting.close()
        await runner.cleanup()
        listener.close()


async def _until(stop: asyncio.Event, *workers: Coroutine[object, object, object]) -> None:
    working: list[asyncio.Task[object]] = [asyncio.create_task(worker) for worker in workers]
    stopping: asyncio.Task[object] = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((*working, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            if task.done():
                task.result()  # raises what ended it
    finally:
        for task in (*working, stopping):
            task.cancel()
        await asyncio.gather(*working, stopping, return_exceptions=True)


def run(path: Path, settings_of: Callable[[Store], Settings], on_ready: Callable[[Serving], None]) -> None:
    """Serve the folder `path` until SIGTERM or SIGINT; a second signal does not wait for requests.

    Raises:
        StoreError: the folder cannot be used.
        ServerConfigurationError: it cannot be served so.
    """
    _raise_file_limit()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a broken lease of the watcher says so by this signal
    with open_store(path) as store, store.folder.serve_lock():
        settings = settings_of(store)
        condition = tidy(store)
        if condition.removed:
            LOG.warning("removed %d leftovers of interrupted imports", len(condition.removed))
        for package in condition.damaged:
            LOG.error(
                "package is missing or cut short: %s %s (%s); import the same package file again",
                package.name,
                package.version,
                package.object_digest.hex(),
            )
        asyncio.run(_serve_until_signal(store, settings, on_ready))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ending anyway: another one changes nothing


async def _serve_until_signal(store: Store, settings: Settings, on_ready: Callable[[Serving], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_quiet)
    serving = asyncio.create_task(serve(store, settings, stop=stop, on_ready=on_ready))

    def asked() -> None:
        if stop.is_set():
            serving.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _quiet(loop: asyncio.AbstractEventLoop, told: dict[str, object]) -> None:
    """Log what no task handles; handshakes with strangers and gone clients are no news."""
    error = told.get("exception")
    if isinstance(error, OSError):
        LOG.debug("connection: %s", error)
    else:
        loop.default_exception_handler(told)


def _url(listener: socket.socket, settings: Settings) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{shown}:{port}"


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
