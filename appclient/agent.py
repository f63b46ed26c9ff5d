"""The agent: one process per user, started on demand. Its sockets, its life and its end.

It may be killed at any moment (README.md, *The agent*): what it does is in `service`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from contextlib import suppress

from appclient import wire
from appclient.folders import Folders
from appclient.service import Service
from appclient.standby import Standby
from appclient.wire import Message
from bubble.supply import ViewServer, serve_views

_log = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""An agent without views, commands and fetches ends itself after this time."""

COMMANDS_MAX = 64
"""Commands that are answered at once; more wait."""

_HOUSE_SECONDS = 1.0

_SETTLE_SECONDS = 0.5
"""A new agent first answers whoever waits for it, then starts its launcher."""

_BEAT_SECONDS = 5.0
"""While a command waits for its answer it hears from the agent so often (agentlink.SILENCE_SECONDS)."""


class _StopError(Exception):
    """Ends the agent's task group."""


def run_agent(folders: Folders, *, idle: float, patience: float) -> None:
    """Be the agent until idle or told to stop. The caller holds the agent's lock (agentlock)."""
    logging.basicConfig(
        level=logging.DEBUG if os.environ.get("MILLSTREAM_DEBUG") else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    gc.freeze()  # what is imported stays; and a launch makes some 100,000 objects, hardly any in a circle
    gc.set_threshold(100_000, 20, 50)
    asyncio.run(Agent(folders, idle=idle, patience=patience).serve())


class Agent:
    """Listens for commands and views, and knows when to end."""

    def __init__(self, folders: Folders, *, idle: float, patience: float) -> None:
        self._folders = folders
        self._idle = idle
        self._service = Service(folders, patience=patience)
        self._room = asyncio.Semaphore(COMMANDS_MAX)
        self._stopping = asyncio.Event()
        self._commands = 0
        self._last_use = time.monotonic()
        self._standby = Standby()

    async def serve(self) -> None:
        """Serve until told to stop, or idle."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        place = self._folders.agent_socket
        try:
            async with asyncio.TaskGroup() as tasks:
                self._service.fetching.start(tasks)
                self._service.packs.start_in(tasks)
                self._service.background.start(tasks)

                def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    tasks.create_task(self._talk(reader, writer))

                async with serve_views(
                    self._folders.supplier_socket, self._service.image_of, self._service
                ) as views:
                    self._service.tell = views.tell
                    self._service.soon = views.expect
                    tasks.create_task(self._keep_house(views))
                    with suppress(FileNotFoundError):
                        place.unlink()
                    server = await asyncio.start_unix_server(accept, place, limit=1 << 16)
                    _log.info("agent %d listens on %s", os.getpid(), place)
                    await self._stopping.wait()
                    with suppress(FileNotFoundError):
                        place.unlink()
                    server.close()
                raise _StopError  # noqa: TRY301 - ends the workers
        except* _StopError:
            pass
        finally:
            self._standby.close()
            await self._service.close()
            _log.info("agent %d ends", os.getpid())

    async def _keep_house(self, views: ViewServer) -> None:
        await asyncio.sleep(_SETTLE_SECONDS)
        while True:
            now = time.monotonic()
            self._standby.tend(now)
            await asyncio.sleep(_HOUSE_SECONDS)
            self._service.save()
            now = time.monotonic()
            service = self._service
            if (
                self._commands
                or views.views
                or service.fetching.busy
                or service.packs.busy
                or service.background.busy
            ):
                self._last_use = now
            elif now - self._last_use >= self._idle:
                _log.info("idle for %.0f s", self._idle)
                self._stopping.set()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one command."""
        self._commands += 1
        try:
            async with self._room:
                async with asyncio.timeout(30):
                    length = wire.length_of(await reader.readexactly(wire.LENGTH_SIZE))
                    question = wire.decode(await reader.readexactly(length))

                def tell(text: str) -> None:
                    writer.write(wire.encode(Message("progress", {"text": text})))

                if question.kind == "stop":
                    writer.write(wire.encode(Message("done", {"agent": os.getpid()})))
                    self._stopping.set()
                else:
                    async with asyncio.TaskGroup() as tasks:
                        beating = tasks.create_task(_beat(writer))
                        answer = await self._service.answer(question, tell)
                        beating.cancel()
                    writer.write(wire.encode(answer))
                async with asyncio.timeout(30):
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # the command went away
        except Exception:  # noqa: BLE001 - one command's trouble is not the others'
            _log.exception("a command was not answered: a bug")
        finally:
            self._commands -= 1
            self._last_use = time.monotonic()
            writer.close()


async def _beat(writer: asyncio.StreamWriter) -> None:
    """Tell a command again and again that its answer is being worked on."""
    while not writer.is_closing():
        await asyncio.sleep(_BEAT_SECONDS)
        writer.write(wire.encode(Message("working")))
