"""Building deltas: for each pair of versions that clients really hold, each there whole or not at all.

Which pairs those are, the database says: the current version of a package, and the versions before it whose
pointers clients asked for lately. One builder at a time (`deltas.lock`); a crash leaves what a crash of the
builder of packs leaves, and the server's next start removes it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from packageformat.delta import PageNumbers, decode_delta, delta_head_size, read_region, unpack_delta_frame
from packageformat.deltabuild import DeltaSide, build_delta
from packageformat.errors import FormatError, MillstreamError
from streamserver.database import deltas
from streamserver.database.deltas import StoredDelta, VersionPair
from streamserver.objectfile import put_object
from streamserver.packbuilding import GRACE_S, remove_expired
from streamserver.store import Store, is_delta_whole
from streamserver.storedlayers import StoredLayer, StoredLayers


@dataclass(frozen=True, slots=True)
class BuiltDelta:
    """What became of one pair."""

    pair: VersionPair
    delta: StoredDelta | None = None  # None: a version is gone, or the build failed
    error: MillstreamError | None = None
    seconds: float = 0.0


def missing_deltas(store: Store, *, now: float) -> list[VersionPair]:
    """Return the pairs whose delta is to be built: it is not there, or damaged. Reads no objects."""

    def question(db: sqlite3.Connection) -> tuple[list[VersionPair], list[StoredDelta]]:
        return deltas.held_pairs(db, now=int(now)), deltas.list_deltas(db)

    pairs, there = store.reader.ask(question)
    whole = {(one.old_version_id, one.new_version_id) for one in there if is_delta_whole(store, one)}
    return [pair for pair in pairs if (pair.old_version_id, pair.new_version_id) not in whole]


def bring_deltas_up_to_date(store: Store, *, again: bool = False) -> Iterator[BuiltDelta]:
    """Drop overtaken deltas, build what is missing, give what was done, as it is done.

    Args:
        store: the server's.
        again: build every delta anew.

    Raises:
        StoreError: the folder or the database cannot be used.
    """
    with store.folder.deltas_lock(), StoredLayers(store) as layers:
        until = int(time.time()) + GRACE_S
        store.writer.run(lambda db: deltas.drop_overtaken(db, retired_until=until))
        now = int(time.time())
        wanted = (
            store.reader.ask(lambda db: deltas.held_pairs(db, now=now))
            if again
            else missing_deltas(store, now=now)
        )
        for pair in wanted:
            yield _built(store, layers, pair)
        remove_expired(store, now=time.time())


def _built(store: Store, layers: StoredLayers, pair: VersionPair) -> BuiltDelta:
    began = time.monotonic()
    try:
        old, new = layers.stack([pair.old_version_id, pair.new_version_id])
        data = build_delta(_side(old), _side(new), _plain_sizes(new))
        _check(data, old, new)
        delta = StoredDelta(
            pair.old_version_id, pair.new_version_id, sha256(data).digest(), len(data), int(time.time())
        )
        until = int(time.time()) + GRACE_S
        taken = put_object(store, data, lambda db: deltas.put_delta(db, delta, retired_until=until))
    except MillstreamError as error:
        return BuiltDelta(pair, error=error)
    return BuiltDelta(pair, delta if taken else None, seconds=time.monotonic() - began)


def _side(layer: StoredLayer) -> DeltaSide:
    package = layer.package
    return DeltaSide(package.version_id, package.tree, package.block_ids, layer.block)


def _plain_sizes(layer: StoredLayer):  # type: ignore[no-untyped-def]  # int -> int
    layout = layer.package.layout
    return lambda block: layout.place(layout.frame_of(block))[1]


def _check(data: bytes, old: StoredLayer, new: StoredLayer) -> None:
    """Read a delta that was just built as a client does.

    Raises:
        FormatError: it does not verify.
    """
    pages = PageNumbers(old.package.tree)
    package = new.package
    head = data[: delta_head_size(data)]
    delta = decode_delta(head, package.tree, package.version_id, pages, old.package.version_id)
    if delta.size != len(data):
        raise FormatError("a delta whose frames do not make up its bytes")
    for number, frame in enumerate(delta.directory.frames):
        region = read_region(frame, pages, lambda block, start, end: old.block(block)[start:end])
        assert region is not None
        offset, size = delta.place(number)
        unpack_delta_frame(frame, package.tree, package.block_id, data[offset : offset + size], region)
