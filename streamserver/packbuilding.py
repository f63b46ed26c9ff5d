"""Building launch packs: what is missing or overtaken, one after the other, each there whole or not at all.

What a crash leaves: a file objects/.arriving-* or an object that the database does not name. Both go at the
server's next start; the build begins again. One builder at a time (`packs.lock`); publishing a pack takes
the import lock for a moment, building takes none.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Literal

from packageformat.compression import decompress
from packageformat.errors import FormatError, MillstreamError
from packageformat.launchpack import PackReader, language_pack
from packageformat.launchprofile import decode_profiles, extents_of
from packageformat.packbuild import Each, build_pack
from packageformat.packdirectory import PackDirectory, PackExtent, decode_directory
from packageformat.packplan import with_late_pages
from packageformat.profileorder import in_due_time
from packageformat.stack import bubble_id
from streamserver.capability import LIFETIME_S
from streamserver.database import objects, packs
from streamserver.database.packs import LanguagePack, StoredPack, StoredProfile
from streamserver.errors import DamagedObjectError
from streamserver.objectfile import put_object
from streamserver.packclasses import GAIN_MIN, RULES, classes_of, gain, touched_pages
from streamserver.packlanguages import LEVEL, language_extents
from streamserver.packletters import LaunchLetters
from streamserver.packtwins import twins_of
from streamserver.packwork import plan
from streamserver.relearning import relearn
from streamserver.statefolder import explained
from streamserver.store import Store
from streamserver.storedlayers import StoredLayer, StoredLayers

GRACE_S = LIFETIME_S + 300
"""Seconds that a replaced pack stays: URLs for it are about, and downloads under way."""


@dataclass(frozen=True, slots=True)
class Built:
    """What became of one application's pack."""

    profile: StoredProfile
    outcome: Literal["built", "kept", "overtaken", "failed"]  # kept: cutting it anew would not pay
    pack: StoredPack | None = None
    error: MillstreamError | None = None
    seconds: float = 0.0


Progress = Callable[[StoredProfile, int, int], None]
"""Told of an application, and plain bytes done of all."""


def check_pack(store: Store, pack: StoredPack) -> None:
    """Check the bytes of a stored pack.

    Raises:
        DamagedObjectError: they are not those that were built.
    """
    path = store.folder.object_path(pack.object_digest)
    with explained(path):
        whole = path.exists() and sha256(path.read_bytes()).digest() == pack.object_digest
    if not whole:
        raise DamagedObjectError(
            f"launch pack of {pack.application} is damaged: {path}",
            hint="'streamserver packs build --again' builds it anew",
        )


def bring_up_to_date(
    store: Store, *, again: bool = False, threads: int = 1, progress: Progress | None = None
) -> Iterator[Built]:
    """Merge reports, build what is missing, remove what has expired; give what was done, as it is done.

    Args:
        store: the server's.
        again: build every pack anew.
        threads: how many frames are compressed at once.
        progress: told how far a build is.

    Raises:
        StoreError: the folder or the database cannot be used.
    """
    with store.folder.packs_lock(), StoredLayers(store) as layers, ThreadPoolExecutor(threads) as pool:
        work = plan(store, now=time.time())
        for profile in work.merge:
            try:
                relearn(store, layers, profile, now=time.time())
            except MillstreamError as error:
                yield Built(profile, "failed", error=error)
        work = plan(store, now=time.time())
        profiles, stacks = store.reader.ask(_profiles_and_stacks)
        builder = _Builder(store, layers, (profiles, stacks), map if threads == 1 else pool.map, progress)
        for profile in profiles if again else work.build:
            yield builder.build(profile)
        for profile in () if again else work.weigh:
            built = builder.weigh(profile)
            if built is not None:
                yield built
        remove_expired(store, now=time.time())


def _profiles_and_stacks(
    db: sqlite3.Connection,
) -> tuple[list[StoredProfile], dict[bytes, tuple[bytes, ...]]]:
    profiles = packs.list_profiles(db)
    return profiles, packs.stacks_of(db, profiles)


def remove_expired(store: Store, *, now: float) -> int:
    """Remove retired objects whose time is over; return how many."""
    with store.folder.import_lock():
        gone: set[bytes] = store.reader.ask(lambda db: objects.expired_objects(db, now=int(now)))
        for digest in gone:
            path = store.folder.object_path(digest)
            with explained(path):
                path.unlink(missing_ok=True)
        if gone:
            store.writer.run(lambda db: objects.forget_retired(db, gone))
    return len(gone)


@dataclass(frozen=True, slots=True)
class _Located:
    """A profile's pages as they lie in the stack."""

    layers: list[StoredLayer]
    extents: list[PackExtent]
    missing: int  # pages that are not in this stack
    window_pages: int  # of the extents, that lead to the first window


class _Builder:
    """Builds packs of the profiles that were there at the beginning."""

    def __init__(
        self,
        store: Store,
        layers: StoredLayers,
        known: tuple[list[StoredProfile], dict[bytes, tuple[bytes, ...]]],
        each: Each,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._layers = layers
        self._profiles, self._stacks = known
        self._each = each
        self._progress = progress
        self._touched: dict[bytes, dict[bytes, int]] = {}  # by the digest of the profile

    def build(self, profile: StoredProfile) -> Built:
        """Build one application's pack and let the pointer name it."""
        began = time.monotonic()
        try:
            others = self._others(profile)
            self._pack_languages(profile)  # first: the pack itself says that both are there
            pack = self._packed(profile, others)
        except MillstreamError as error:
            return Built(profile, "failed", error=error)
        return Built(profile, "built" if pack else "overtaken", pack, seconds=time.monotonic() - began)

    def weigh(self, profile: StoredProfile) -> Built | None:
        """Build a pack anew if that pays for who ran another application; None if it is gone."""
        key = (profile.version_id, profile.application)
        there = self._store.reader.ask(lambda db: packs.list_packs(db, profile.version_id))
        pack = next((one for one in there if (one.version_id, one.application) == key), None)
        if pack is None:
            return None
        try:
            others = self._others(profile)
            directory = self._directory(pack)
            new = [other for other in others if not pack.has_considered(other.digest)]
            if any(gain(directory, self._touches(other)) > GAIN_MIN for other in new):
                return self.build(profile)
        except MillstreamError as error:
            return Built(profile, "failed", error=error)
        digests = b"".join(other.digest for other in others)
        self._store.writer.run(lambda db: packs.consider(db, pack, digests))
        return Built(profile, "kept", pack)

    def _others(self, profile: StoredProfile) -> list[StoredProfile]:
        return packs.others_of(profile, self._profiles, self._stacks)

    def _located(self, profile: StoredProfile) -> _Located:
        """Find a profile's pages in its version's stack."""
        documents = self._store.reader.ask(
            lambda db: packs.profile_document(db, profile.version_id, profile.application)
        )
        stack = self._store.reader.ask(lambda db: packs.stack_of(db, profile.version_id))
        found = decode_profiles(documents[1]).of(profile.application) if documents else None
        if found is None:
            raise FormatError(f"no launch profile of {profile.application}")
        found = in_due_time(found)
        index = self._layers.index(stack)
        layers = self._layers.stack(stack)
        trees = [layer.package.tree for layer in layers]
        extents, missing = extents_of(found, index, trees)
        before, _ = extents_of(found.before_window(), index, trees)

        def file_size(layer: int, block: int) -> int:
            return trees[layer].file_size(trees[layer].block_place(block)[0])

        window = sum(extent.pages for extent in before)
        extents, window = with_late_pages(extents, window, file_size)
        return _Located(layers, extents, missing, window)

    def _twins(self, layers: list[StoredLayer], extents: list[PackExtent]) -> list[tuple[int, int]]:
        """Return the files whose block ids a pack of these pages proves as well."""
        index = self._layers.twins([layer.package.version_id for layer in layers])
        return twins_of(extents, index, [layer.package.tree for layer in layers])

    def _touches(self, profile: StoredProfile) -> dict[bytes, int]:
        found = self._touched.get(profile.digest)
        if found is None:
            try:
                place = self._located(profile)
                found = touched_pages(place.extents, _namer(place.layers))
            except MillstreamError:
                found = {}  # its own build says what is wrong with it
            self._touched[profile.digest] = found
        return found

    def _packed(self, profile: StoredProfile, others: list[StoredProfile]) -> StoredPack | None:
        touched = [self._touches(other) for other in others]
        place = self._located(profile)
        layers, extents = place.layers, place.extents
        pages = sum(extent.pages for extent in extents)
        if not pages:
            raise FormatError(
                f"launch profile of {profile.application}: none of its pages is in {profile.name}"
                f" {profile.version}",
                hint="train the package again, then import its profile",
            )
        data = build_pack(
            profile.application,
            [layer.source for layer in layers],
            extents,
            lambda layer, block: layers[layer].block(block),
            class_of=classes_of(extents, _namer(layers), touched),
            each=self._watched(profile, pages),
            window_pages=place.window_pages,
            also=self._twins(layers, extents),
        )
        considered = b"".join(other.digest for other in others)
        pack = _stored_pack(profile, place, data, considered)
        return pack if self._published(pack, data) else None

    def _pack_languages(self, profile: StoredProfile) -> None:
        """Build the packs of files and letters for other languages, if the launch touches such files."""
        place = self._located(profile)
        layers = place.layers
        trees = [layer.package.tree for layer in layers]
        letters = LaunchLetters(place.extents, trees, lambda layer, block: layers[layer].block(block))
        until = int(time.time()) + GRACE_S
        for language, files in language_extents(place.extents, trees).items():
            extents = [*files, *letters.extents(files)]
            data = build_pack(
                language_pack(profile.application, language),
                [layer.source for layer in layers],
                extents,
                lambda layer, block: layers[layer].block(block),
                level=LEVEL,
                also=self._twins(layers, extents),
            )
            pack = LanguagePack(
                profile.version_id,
                profile.application,
                language,
                bubble_id([layer.package.version_id for layer in layers]),
                sha256(data).digest(),
                len(data),
            )
            put_object(self._store, data, partial(packs.put_language_pack, pack=pack, retired_until=until))

    def _watched(self, profile: StoredProfile, pages: int) -> Each:
        progress, each = self._progress, self._each
        if progress is None:
            return each

        def watched(function, groups):  # type: ignore[no-untyped-def]  # the shape of `Each`
            groups = list(groups)
            done = 0
            for group, result in zip(groups, each(function, groups), strict=True):
                done += sum(extent.pages for extent in group)
                progress(profile, done, pages)
                yield result

        return watched

    def _published(self, pack: StoredPack, data: bytes) -> bool:
        until = int(time.time()) + GRACE_S
        return put_object(self._store, data, lambda db: packs.put_pack(db, pack, retired_until=until))

    def _directory(self, pack: StoredPack) -> PackDirectory:
        return read_directory(self._store, pack)


def read_directory(store: Store, pack: StoredPack) -> PackDirectory:
    """Return the directory of a stored pack; its frames are not read.

    Raises:
        DamagedObjectError: it is damaged.
    """
    path = store.folder.object_path(pack.object_digest)
    with explained(path), path.open("rb") as file:
        preamble = file.read(64)
        stored, plain = int.from_bytes(preamble[12:16], "little"), int.from_bytes(preamble[16:20], "little")
        packed = file.read(min(stored, pack.object_size))
    try:
        return decode_directory(decompress(packed, plain))
    except FormatError as error:
        raise DamagedObjectError(f"launch pack of {pack.application} is damaged: {error}") from error


def _stored_pack(profile: StoredProfile, place: _Located, data: bytes, considered: bytes) -> StoredPack:
    """Return the row of a pack that was just built, after reading it as a client does.

    Raises:
        FormatError: it does not verify.
    """
    reader = PackReader([layer.trusted for layer in place.layers], profile.application)
    reader.feed(data)
    if not reader.complete:
        raise FormatError(f"launch pack of {profile.application} does not verify")
    return StoredPack(
        version_id=profile.version_id,
        application=profile.application,
        bubble_id=bubble_id([layer.package.version_id for layer in place.layers]),
        object_digest=sha256(data).digest(),
        object_size=len(data),
        pages=sum(extent.pages for extent in place.extents),
        unresolved=place.missing,
        profile_digest=profile.digest,
        rules=RULES,
        considered=considered,
        built=int(time.time()),
        window_size=_window_size(reader, place.window_pages),
    )


def _window_size(reader: PackReader, window_pages: int) -> int:
    """Return the bytes of a pack up to the frame that ends the pages before the window."""
    assert reader.directory is not None
    left = window_pages
    end = 0
    for frame, (start, size) in zip(reader.directory.frames, reader.frame_places(), strict=True):
        if left <= 0:
            break
        left -= sum(extent.pages for extent in frame.extents)
        end = start + size
    return end


def _namer(layers: list[StoredLayer]) -> Callable[[int, int], bytes]:
    return lambda layer, block: layers[layer].package.block_id(block)
