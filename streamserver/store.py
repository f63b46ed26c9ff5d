"""The store: a server's folder, its secrets and its database, open together."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packageformat.errors import FormatError
from packageformat.limits import LABEL_MAX
from packageformat.names import check_text
from streamserver.database import catalogue
from streamserver.database.catalogue import StoredPackage
from streamserver.database.connection import explained as explained_database
from streamserver.database.connection import open_database
from streamserver.database.deltas import StoredDelta
from streamserver.database.objects import known_objects, objects_beside
from streamserver.database.packs import LanguagePack, StoredPack
from streamserver.database.reader import Reader
from streamserver.database.writer import Writer
from streamserver.errors import StoreError
from streamserver.statefolder import ARRIVING, Secrets, StateFolder, explained, write_new

if TYPE_CHECKING:
    from streamserver.certificate import SelfSigned


@dataclass(frozen=True, slots=True)
class Store:
    """An open server's state. Reads and writes are safe from any thread."""

    folder: StateFolder
    secrets: Secrets
    reader: Reader
    writer: Writer


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open the server's state in `path`.

    Raises:
        StoreError: there is none, or it cannot be used.
    """
    folder = StateFolder(path.absolute())
    reader = Reader(open_database(folder.database), folder.database)
    try:
        secrets = folder.read_secrets()
        with Writer(open_database(folder.database), folder.database) as writer:
            yield Store(folder, secrets, reader, writer)
    finally:
        reader.close()  # by its lock: a thread that nobody waits for any more may be asking


def create_store(path: Path, name: str, certificate: SelfSigned | None = None) -> None:
    """Make a new server in `path`, an empty folder or none: all of it, or nothing.

    Raises:
        StoreError: the folder cannot be used, or `name` is no name for people.
    """
    try:
        if not check_text(name, 4 * LABEL_MAX):
            raise StoreError("server without a name", hint="give --name NAME")
    except FormatError as error:
        raise StoreError(f"not a name for a server: {name[:40]!a}", hint="one short line of text") from error
    folder = StateFolder(path.absolute())
    with folder.created():
        if certificate is not None:
            with explained(folder.path):
                write_new(folder.certificate_key, certificate.key, mode=0o600)
                write_new(folder.certificate, certificate.certificate, mode=0o644)
        connection = open_database(folder.database, create=True)
        try:
            with explained(folder.database):
                folder.database.chmod(0o600)
            with explained_database(folder.database):
                connection.execute("BEGIN IMMEDIATE")
                catalogue.create_server(connection, name, now=int(time.time()))
                connection.execute("COMMIT")
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """What a look found: object names removed, packages whose file is missing or short."""

    removed: tuple[str, ...]
    damaged: tuple[StoredPackage, ...]


def tidy(store: Store) -> StoreCondition:
    """Remove what an interrupted import left, and look whether every package's file is there in full.

    Reads no content (`streamserver check` does). Leaves everything alone while another program imports.

    Raises:
        StoreError: the folder cannot be read or written.
    """
    with store.folder.import_lock(wait=False) as held, explained(store.folder.objects):
        packages: list[StoredPackage] = store.reader.ask(catalogue.list_packages)
        known = {digest.hex() for digest in store.reader.ask(known_objects)}
        removed = []
        if held:
            for path in store.folder.objects.iterdir():
                if path.name.startswith(ARRIVING) or (_is_object_name(path.name) and path.name not in known):
                    path.unlink(missing_ok=True)
                    removed.append(path.name)
        damaged = tuple(package for package in packages if not is_whole(store, package))
    return StoreCondition(tuple(sorted(removed)), damaged)


def is_whole(store: Store, package: StoredPackage) -> bool:
    """Tell whether the package's file is there in its full size. Its content is not read."""
    try:
        return store.folder.object_path(package.object_digest).stat().st_size == package.object_size
    except FileNotFoundError:
        return False


def is_pack_whole(store: Store, pack: StoredPack | LanguagePack) -> bool:
    """Tell whether a pack's file is there in its full size. Its content is not read."""
    try:
        return store.folder.object_path(pack.object_digest).stat().st_size == pack.object_size
    except FileNotFoundError:
        return False


def is_delta_whole(store: Store, delta: StoredDelta) -> bool:
    """Tell whether a delta's file is there in its full size. Its content is not read."""
    try:
        return store.folder.object_path(delta.object_digest).stat().st_size == delta.object_size
    except FileNotFoundError:
        return False


def remove_packages(store: Store, name: str, version: str | None) -> list[StoredPackage]:
    """Remove a package's versions and their files.

    Raises:
        UnknownNameError: there is none.
        ConflictError: another package requires it.
    """

    def change(db: sqlite3.Connection) -> tuple[list[StoredPackage], set[bytes]]:
        ids = catalogue.version_ids(db, name, version)
        beside = objects_beside(db, ids)
        gone = catalogue.remove_package(db, name, version)
        return gone, {package.object_digest for package in gone} | beside

    with store.folder.import_lock():
        gone, digests = store.writer.run(change)
        for digest in digests:
            path = store.folder.object_path(digest)
            with explained(path):
                path.unlink(missing_ok=True)
    return gone


def _is_object_name(name: str) -> bool:
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
