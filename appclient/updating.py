"""Blocks of a new version from what the cache holds of an old one: copies, and the frames of a delta.

The choosing and decoding is in `deltas`, without network; here are the requests and the writes. Whatever goes
wrong costs only what was tried: the package, or its launch pack, has every block.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

from appclient.deltas import FIRST_BYTES, PREAMBLE_SIZE, Order, Update, delta_head_size
from appclient.door import CapabilityExpiredError, Door
from appclient.layer import Layer
from appclient.session import DeltaReference, Origin
from appclient.statistics import Tally
from packageformat.errors import MillstreamError

_log = logging.getLogger(__name__)

_KEPT = 2
"""Deltas whose directories stay in memory."""

Told = Callable[[Sequence[int]], None]
"""Told of blocks that are in the cache now."""


class Updates:
    """The deltas of one user's packages. Made and used in the agent's loop."""

    def __init__(
        self,
        *,
        complete: Callable[[bytes], Awaitable[Layer]],
        origin_of: Callable[[bytes], Origin | None],
        door: Callable[[], Door],
        writer: Executor,
    ) -> None:
        """Prepare.

        Args:
            complete: returns the layer of a version with the rest of its head.
            origin_of: where a version is, and the deltas to it, as the server last said.
            door: to the server.
            writer: one thread, which unpacks frames and writes the cache.
        """
        self._complete = complete
        self._origin_of = origin_of
        self._door = door
        self._writer = writer
        self._known: OrderedDict[bytes, Update] = OrderedDict()  # by the digest of the delta

    def has_delta(self, version: bytes) -> bool:
        """Return whether the server has told of a delta to this version from one that is here."""
        origin = self._origin_of(version)
        return origin is not None and bool(origin.deltas)

    async def bring(self, version: bytes, blocks: Sequence[int], tally: Tally, told: Told) -> bool:
        """Bring those of `blocks` that an old version and a delta give, first wanted first.

        Args:
            version: the new one.
            blocks: of it, in the order of their use.
            tally: what counts it.
            told: told of blocks as they come.

        Returns:
            Whether anything came. What did not come is to be had from the package, or its launch pack.
        """
        origin = self._origin_of(version)
        came = False
        for reference in origin.deltas if origin is not None else ():
            try:
                update = await self._update(reference, version, tally)
                came |= await self._apply(update, reference, blocks, tally, told, version)
            except CapabilityExpiredError:
                _log.info("the address of a delta is too old: the package has the blocks")
            except (MillstreamError, OSError) as error:
                _log.warning("a delta is of no use: %s", error)
            else:
                break
        return came

    async def _update(self, reference: DeltaReference, version: bytes, tally: Tally) -> Update:
        known = self._known.get(reference.digest)
        if known is not None:
            self._known.move_to_end(reference.digest)
            return known
        door = self._door()
        old, new = await self._complete(reference.old_version), await self._complete(version)
        first = min(FIRST_BYTES, reference.size)
        head = await _part(door, reference.path, 0, first, tally)
        size = delta_head_size(head[:PREAMBLE_SIZE])
        if size > first:
            head += await _part(door, reference.path, first, size - first, tally)
        loop = asyncio.get_running_loop()
        update = await loop.run_in_executor(self._writer, Update.read, head[:size], old, new)
        self._known[reference.digest] = update
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return update

    async def _apply(
        self,
        update: Update,
        reference: DeltaReference,
        blocks: Sequence[int],
        tally: Tally,
        told: Told,
        version: bytes,
    ) -> bool:
        loop = asyncio.get_running_loop()
        layer = await self._complete(version)
        order = await loop.run_in_executor(self._writer, update.order, blocks)
        copied = await loop.run_in_executor(self._writer, _copy, update, layer, order)
        if copied:
            told(copied)
        if order.delta_bytes >= order.plain_bytes:
            return bool(copied)
        wanted = frozenset(blocks)
        door = self._door()
        for span in update.spans(order.frames):
            data = await _part(door, reference.path, span.offset, span.size, tally)
            for frame, start, end in span.frames:
                found = await loop.run_in_executor(
                    self._writer, _write, update, layer, frame, data[start:end], wanted
                )
                told(found)
        return True


def _copy(update: Update, layer: Layer, order: Order) -> list[int]:
    """Write what the old version has as it is; in the writing thread."""
    copied = []
    for block, _ in order.copies:
        plain = update.copy(block)
        if plain is not None:
            layer.write_blocks([(block, plain)], ())
            copied.append(block)
    return copied


def _write(update: Update, layer: Layer, frame: int, stored: bytes, wanted: frozenset[int]) -> list[int]:
    """Unpack a frame of a delta and write its blocks; in the writing thread."""
    found = update.unpack(frame, stored)
    if found is None:
        return []
    same = {layer.package.block_id(block) for block, _ in found}
    others = [block for block in wanted if layer.package.block_id(block) in same]
    layer.write_blocks(found, others)
    return sorted({*(block for block, _ in found), *others})


async def _part(door: Door, path: str, offset: int, size: int, tally: Tally) -> bytes:
    tally.requests += 1
    async with door.part(path, offset, size) as content:
        data = await door.take(content, size)
    tally.bytes_received += size
    tally.delta_bytes += size
    return data
