"""Importing a package: verified to the last byte, then there, at once, or not at all.

Order, and what a crash leaves:
    1. the head is checked where the file lies (signature, trust, conflicts): nothing is written yet;
    2. the file is copied to objects/.arriving-*: removed at the next start;
    3. the copy, which nobody else can change, is verified whole and put on disk (fsync);
    4. it is renamed to objects/<sha256>: not in the database, so removed at the next start;
    5. the database commits: from here on it is published.
All under the import lock, so that cleaning never meets an import.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packageformat.manifest import Manifest
from packageformat.package import HEADER_SIZE
from packageformat.signature import fingerprint
from streamserver.database import catalogue
from streamserver.database.catalogue import StoredPackage
from streamserver.errors import MissingRuntimeError, StoreError, UntrustedPublisherError
from streamserver.packagefile import PIECE, VerifiedFile, read_head, verify_file
from streamserver.statefolder import ARRIVING, explained, sync_folder
from streamserver.store import Store, is_whole

FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, where the file system can
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ENOSYS)

Outcome = Literal["imported", "present", "healed"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: a new version, nothing (it was there), or a damaged copy replaced."""

    outcome: Outcome
    name: str
    version: str
    kind: str
    version_id: bytes
    size: int


def import_package(store: Store, source: Path) -> Imported:
    """Verify the package file `source` and publish it.

    Raises:
        FormatError: (or one of its kinds) it is not a package, is damaged, wrongly signed or too new.
        UntrustedPublisherError: its publisher's key is not trusted here.
        ConflictError: another package has its name and version; a `MissingRuntimeError` if it requires
            runtimes that are not here.
        StoreError: it cannot be read, or there is no space for it.
    """
    with explained(source):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return import_descriptor(store, source, descriptor)
    finally:
        os.close(descriptor)


def import_descriptor(store: Store, source: Path, descriptor: int) -> Imported:
    """Import an open file, as `import_package` does; `source` is how to call it in errors."""
    with explained(source):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"not a file: {source}", hint="give a package file (.ovp)")
        head = read_head(descriptor, status.st_size, None)
    _check_wanted(store, head.manifest, head.version_id)
    with store.folder.import_lock():
        arriving = store.folder.objects / f"{ARRIVING}{secrets.token_hex(8)}"
        try:
            verified = _copy_and_verify(descriptor, status.st_size, arriving, source)
            _check_wanted(store, verified.manifest, verified.version_id)
            return _take(store, verified, arriving)
        finally:
            with explained(arriving):
                arriving.unlink(missing_ok=True)


def _check_wanted(store: Store, manifest: Manifest, version_id: bytes) -> None:
    """Refuse what this server does not want, by its verified manifest."""
    manifest.require_support(manifest.architecture)  # other architectures are other machines' matter

    def question(db: sqlite3.Connection) -> tuple[bool, tuple[bytes, ...]]:
        catalogue.check_addable(
            db, version_id=version_id, name=manifest.name, version=manifest.version, kind=manifest.kind
        )
        trusted = {publisher.public_key for publisher in catalogue.list_publishers(db)}
        return manifest.publisher in trusted, catalogue.missing_runtimes(db, manifest.requires)

    trusted, missing = store.reader.ask(question)
    if not trusted:
        raise UntrustedPublisherError(
            f"{manifest.name} {manifest.version} is signed by a key that is not trusted"
            f" ({fingerprint(manifest.publisher)})",
            hint="if you know this publisher: 'streamserver trust add"
            f" {store.folder.path} {manifest.publisher.hex()}', then import it again",
        )
    if missing:
        raise MissingRuntimeError(
            f"{manifest.name} {manifest.version} requires a runtime that is not here:"
            f" {', '.join(one.hex() for one in missing)}"
        )


def _copy_and_verify(descriptor: int, size: int, arriving: Path, source: Path) -> VerifiedFile:
    with explained(arriving):
        free = os.statvfs(arriving.parent)
        if free.f_bavail * free.f_frsize < size:
            raise StoreError(
                f"no space for {size} bytes: {arriving.parent}",
                hint="free some space on its disk, then try again",
            )
        copy = os.open(arriving, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        with explained(arriving):
            _copy(descriptor, copy)
        verified = verify_file(source, copy)
        with explained(arriving):
            os.fsync(copy)
    finally:
        os.close(copy)
    return verified


def _copy(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_SHARE:
            raise
    else:
        return
    offset = 0
    while piece := os.pread(source, PIECE, offset):
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(target, rest) :]
        offset += len(piece)


def _take(store: Store, verified: VerifiedFile, arriving: Path) -> Imported:
    here: StoredPackage | None = store.reader.ask(lambda db: catalogue.find_package(db, verified.version_id))
    outcome: Outcome = "imported"
    if here is not None:
        whole = is_whole(store, here)
        if whole and here.object_digest != verified.digest:
            return _told(verified, "present")  # the same version, laid out otherwise: ours will do
        outcome = "present" if whole else "healed"
    path = store.folder.object_path(verified.digest)
    with explained(path):
        arriving.rename(path)  # a damaged copy of it, if there is one, is replaced
        sync_folder(path.parent)
    if here is not None and here.object_digest == verified.digest:
        return _told(verified, outcome)
    try:
        store.writer.run(lambda db: _record(db, verified, replace=here is not None))
    except BaseException:
        with explained(path):
            path.unlink(missing_ok=True)
        raise
    if here is not None:
        with explained(path):
            store.folder.object_path(here.object_digest).unlink(missing_ok=True)
    return _told(verified, outcome)


def _record(db: sqlite3.Connection, verified: VerifiedFile, *, replace: bool) -> None:
    manifest = verified.manifest
    assert len(verified.header_bytes) == HEADER_SIZE
    if replace:
        catalogue.replace_object(
            db,
            verified.version_id,
            header=verified.header_bytes,
            digest=verified.digest,
            size=verified.size,
        )
        return
    catalogue.add_package(
        db,
        StoredPackage(
            version_id=verified.version_id,
            name=manifest.name,
            version=manifest.version,
            kind=manifest.kind,
            title=manifest.title,
            manifest=verified.manifest_bytes,
            header=verified.header_bytes,
            object_digest=verified.digest,
            object_size=verified.size,
            plain_bytes=manifest.plain_bytes,
            pointer_generation=0,
            imported=int(time.time()),
        ),
        manifest.requires,
    )


def _told(verified: VerifiedFile, outcome: Outcome) -> Imported:
    manifest = verified.manifest
    return Imported(
        outcome, manifest.name, manifest.version, manifest.kind, verified.version_id, verified.size
    )
