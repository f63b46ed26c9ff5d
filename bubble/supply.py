"""The supplier's end: a server for views that bring the blocks which their cache lacks.

    async with serve_views(socket_path, image_of, supplier):
        ...   # views connect and ask while this block runs

The agent and the sequencer both use it, each with its own `Supplier`. Readers of one block share one
fetch, whichever view they belong to; a view that goes away cancels nothing that another still waits for.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from bubble.supplymessage import SIZE, Message, Word, decode_message, encode_message
from bubble.viewimage import ViewImage, load
from packageformat.errors import FormatError, MillstreamError

_log = logging.getLogger(__name__)

_EXPECTED_MAX = 16
_EXPECTED_BYTES = SIZE << 16
"""Bubbles without a view for which is remembered what the view is to hear, and bytes of that for each."""

ImageOf = Callable[[bytes], "ViewImage | Path | Awaitable[ViewImage | Path]"]


class Supplier(Protocol):
    """Whoever can bring blocks into the cache that the views read (see cachefile.py)."""

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        """Return when pages of block `block` of the package version `layer` are in the cache.

        Called for a block that may be there already, and several times at once for one block only if a
        view says that it is damaged.

        Args:
            layer: version id, 32 bytes.
            block: number in that package.
            pages: bit n: page n of the block; 0 means all. More may be brought.
            urgency: 0 when an application waits for it, higher when it can wait.

        Raises:
            OSError: its errno reaches the application (EIO, ENOSPC).
            Exception: anything else becomes EIO there and a line in the log here.
        """

    async def damaged(self, layer: bytes, block: int) -> None:
        """Forget a block that is damaged in the cache. `bring` is called right after."""


class ViewServer:
    """What serves the views of one socket. Made by `serve_views`."""

    def __init__(self, image_of: ImageOf, supplier: Supplier, tasks: asyncio.TaskGroup) -> None:
        self._image_of = image_of
        self._supplier = supplier
        self._tasks = tasks
        self._on_their_way: dict[tuple[bytes, int, int], asyncio.Task[int]] = {}
        self._writers: dict[asyncio.StreamWriter, bytes] = {}  # and whose view it is
        self._expected: OrderedDict[bytes, bytes] = OrderedDict()  # what views hear that do not run yet
        self.views = 0  # connected now
        self.needs = 0  # blocks asked for since the start
        self.damages = 0  # blocks reported damaged since the start

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one view until it goes away."""
        self.views += 1
        self._writers[writer] = b""
        try:
            hello = decode_message(await reader.readexactly(SIZE))
            if hello.word is not Word.HELLO:
                raise FormatError(f"a view that begins with {hello.word.name}")
            self._writers[writer] = hello.digest
            writer.write(self._expected.pop(hello.digest, b""))
            image = await self._known_image(hello.digest)
            while True:
                message = decode_message(await reader.readexactly(SIZE))
                if message.word not in (Word.NEED, Word.DAMAGED):
                    raise FormatError(f"a view that says {message.word.name}")
                if image is None:
                    image = await self._known_image(hello.digest)
                self._tasks.create_task(self._settle(image, message, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (MillstreamError, OSError, LookupError) as error:
            _log.warning("a view was turned away: %r", error)
        finally:
            self.views -= 1
            self._writers.pop(writer, None)
            writer.close()

    def tell(self, bubble: bytes, came: Iterable[tuple[int, int, int]]) -> None:
        """Tell the views of a bubble what has come into the cache though nobody has asked.

        One that is just starting, and of which files are expected, hears it when it is there.

        Args:
            bubble: its id.
            came: content (a node of its view), block, and pages of it.
        """
        if bubble not in self._writers.values() and bubble not in self._expected:
            return
        self._say_or_keep(
            bubble,
            b"".join(
                encode_message(Message(Word.CAME, content=content, block=block, pages=pages))
                for content, block, pages in came
            ),
        )

    def expect(self, bubble: bytes, contents: Iterable[int]) -> None:
        """Tell the view of a bubble which files pages are on their way for; one that is just starting, too.

        Args:
            bubble: its id.
            contents: nodes of its view, in the order in which they are wanted.
        """
        self._say_or_keep(
            bubble, b"".join(encode_message(Message(Word.SOON, content=content)) for content in contents)
        )

    def _say_or_keep(self, bubble: bytes, data: bytes) -> None:
        if not self._say(bubble, data):
            self._expected[bubble] = (self._expected.pop(bubble, b"") + data)[-_EXPECTED_BYTES:]
            while len(self._expected) > _EXPECTED_MAX:
                self._expected.popitem(last=False)

    def _say(self, bubble: bytes, data: bytes) -> bool:
        """Send messages to the views of a bubble; return whether there is one."""
        writers = [writer for writer, digest in self._writers.items() if digest == bubble]
        for writer in writers:
            with suppress(ConnectionError, RuntimeError):
                writer.write(data)
        return bool(writers)

    async def hang_up(self) -> None:
        """Close the connection of every view."""
        for writer in tuple(self._writers):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def cancel(self) -> None:
        """Give up what is on its way. The views will ask the next server again."""
        for task in tuple(self._on_their_way.values()):
            task.cancel()

    async def _known_image(self, bubble_id: bytes) -> ViewImage | None:
        """Return a view's image, or None if it cannot be had: its reads then fail, which beats waiting."""
        try:
            return await self._image(bubble_id)
        except (MillstreamError, OSError, LookupError) as error:
            _log.warning("the reads of a view fail for lack of its image: %r", error)
            return None

    async def _image(self, bubble_id: bytes) -> ViewImage:
        image = self._image_of(bubble_id)
        if isinstance(image, Awaitable):
            image = await image
        if isinstance(image, Path):
            image = load(await asyncio.to_thread(image.read_bytes))
        return image

    async def _settle(self, image: ViewImage | None, message: Message, writer: asyncio.StreamWriter) -> None:
        """Bring the block of one message and tell the view how that went."""
        error = errno.EIO if image is None else await self._bring(image, message)
        reply = Message(
            Word.FAILED if error else Word.HAVE,
            content=message.content,
            block=message.block,
            pages=message.pages,
            error=error,
        )
        with suppress(ConnectionError, RuntimeError):
            writer.write(encode_message(reply))

    async def _bring(self, image: ViewImage, message: Message) -> int:
        """Return 0 when the block is in the cache, else an errno."""
        try:
            content = image.content(message.content)
        except IndexError:
            return errno.EINVAL
        if message.block >= content.block_count:
            return errno.EINVAL
        key = (content.layer, content.layer_first_block + message.block, message.pages)
        damaged = message.word is Word.DAMAGED
        self.needs += 1
        self.damages += damaged
        task = self._on_their_way.get(key)
        if task is None:
            task = self._tasks.create_task(self._fetch(*key, message.urgency, damaged=damaged))
            self._on_their_way[key] = task
            task.add_done_callback(lambda _: self._on_their_way.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, layer: bytes, block: int, pages: int, urgency: int, *, damaged: bool) -> int:
        try:
            if damaged:
                _log.warning("block %d of package %s is damaged in the cache", block, layer.hex())
                await self._supplier.damaged(layer, block)
            await self._supplier.bring(layer, block, pages, urgency)
        except OSError as error:
            _log.warning("block %d of package %s cannot be brought: %s", block, layer.hex(), error)
            return error.errno if error.errno in (errno.ENOSPC, errno.EDQUOT) else errno.EIO
        except MillstreamError as error:
            _log.warning("block %d of package %s cannot be brought: %s", block, layer.hex(), error.line())
            return errno.EIO
        except Exception:  # noqa: BLE001 - a reader in the bubble is owed a reply
            _log.exception("block %d of package %s cannot be brought: a bug", block, layer.hex())
            return errno.EIO
        return 0


@asynccontextmanager
async def serve_views(socket_path: Path, image_of: ImageOf, supplier: Supplier) -> AsyncIterator[ViewServer]:
    """Serve views on a unix socket while the block runs.

    Args:
        socket_path: where to listen, at most 107 bytes; a socket that a dead server left is replaced. Only
            its folder's mode (0700) keeps others out.
        image_of: bubble id -> its view image, loaded or as a file; may be a coroutine function; raises
            KeyError or a MillstreamError if it does not know the bubble: then that view's reads fail.
        supplier: brings the blocks.

    Raises:
        OSError: the socket cannot be made.
    """
    async with asyncio.TaskGroup() as tasks:
        server_of_views = ViewServer(image_of, supplier, tasks)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await server_of_views.answer(reader, writer)
            except asyncio.CancelledError:
                pass  # the server ends
            except Exception:  # noqa: BLE001 - one view's trouble is not the others'
                _log.exception("a view was turned away: a bug")

        listener, inode = _listen(socket_path)
        server = await asyncio.start_unix_server(answer, sock=listener)
        try:
            yield server_of_views
        finally:
            server.close()
            await server_of_views.hang_up()
            server_of_views.cancel()
            _stop_listening(socket_path, inode)


def _listen(place: Path) -> tuple[socket.socket, int]:
    """Return a listening socket at `place` and the inode of its file."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        place.unlink(missing_ok=True)
        listener.bind(str(place))
        place.chmod(0o600)
        return listener, place.stat().st_ino
    except BaseException:
        listener.close()
        raise


def _stop_listening(place: Path, inode: int) -> None:
    """Remove the socket's file, unless a newer server has put its own there."""
    with suppress(FileNotFoundError):
        if place.stat().st_ino == inode:
            place.unlink()
