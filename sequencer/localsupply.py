"""Blocks for a bubble's view, out of package files on this machine: no server, no network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bubble.cachefile import CacheFolder
from bubble.composition import write_view
from bubble.supply import Supplier, ViewServer, serve_views
from packageformat.layout import unpack_frame
from packageformat.limits import BLOCK_SIZE
from sequencer.packagefile import PackageFile

START_S = 30.0
"""Seconds that the server of views may take to listen."""


class LocalSupplier:
    """Brings blocks from package files into a cache (a `bubble.supply.Supplier`)."""

    def __init__(self, files: Sequence[PackageFile], cache: CacheFolder) -> None:
        self._files = {file.package.version_id: file for file in files}
        self._cache = cache
        self.writing = threading.Lock()  # two makers of one cache file would undo each other's: held by all
        self.brought = 0  # blocks asked for and brought
        self.stored_bytes = 0  # of the frames that were read for them

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        """Put `block` of the package `layer`, and what shares its frame, into the cache.

        Raises:
            CorruptBlockError: the package file is damaged there.
            KeyError: no such package is at hand.
        """
        await asyncio.to_thread(self._bring, layer, block)

    async def damaged(self, layer: bytes, block: int) -> None:
        """Forget a block that is damaged in the cache."""
        package = self._files[layer].package
        entry, offset = package.tree.block_place(block)
        cached = self._cache.open(package.content_id(entry), package.tree.sizes[entry])
        if cached is not None:
            cached.forget_block(offset // BLOCK_SIZE)

    def _bring(self, layer: bytes, block: int) -> None:
        file = self._files[layer]
        package = file.package
        frame = package.layout.frame_of(block)
        stored = file.frame(frame)
        wanted = package.block_id(block)
        found = unpack_frame(package.tree, package.block_ids, package.layout.blocks(frame), stored)
        for number, plain in found:
            self._write(file, number, plain)
            if number != block and package.block_id(number) == wanted:
                self._write(file, block, plain)
        self.brought += 1
        self.stored_bytes += len(stored)

    def _write(self, file: PackageFile, block: int, plain: bytes) -> None:
        package = file.package
        entry, offset = package.tree.block_place(block)
        with self.writing:
            cached = self._cache.create(package.content_id(entry), package.tree.sizes[entry])
            if not cached.has_block(offset // BLOCK_SIZE):
                cached.write_block(offset // BLOCK_SIZE, plain)


def write_view_image(files: Sequence[PackageFile], path: Path) -> None:
    """Write the view image of a stack, bottom first, to `path`, and what belongs to it beside that."""
    packages = [file.package for file in files]
    write_view(path, [(one.version_id, one.tree, one.block_ids) for one in packages])


@contextmanager
def supply(
    socket_path: Path,
    image: Path,
    supplier: Supplier,
    attend: Callable[[ViewServer], Coroutine[None, None, None]] | None = None,
) -> Iterator[None]:
    """Serve views at `socket_path` from a thread of its own while the block runs.

    Args:
        socket_path: where.
        image: of every view.
        supplier: brings the blocks.
        attend: runs beside it, in the same thread, and may tell views what has come; it has begun when the
            block runs, and is cancelled at its end.

    Raises:
        OSError: the socket cannot be made.
        Exception: at the end of the block, if that did not raise: what ended the service before.
    """
    ready: list[BaseException | None] = []
    listening = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with (
            serve_views(socket_path, lambda bubble: image, supplier) as views,
            asyncio.TaskGroup() as more,
        ):
            attending = more.create_task(attend(views)) if attend else None
            await asyncio.sleep(0)
            ready.append(None)
            listening.set()
            await stop.wait()
            if attending:
                attending.cancel()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            ready.append(error)
            listening.set()
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run, name="local supply")
    thread.start()
    try:
        listening.wait(START_S)
        if ready and ready[0] is not None:
            raise ready[0]
        yield
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if ready[-1] is not None:
        raise ready[-1]
