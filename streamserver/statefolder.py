"""The server's folder on disk: where everything is, who may read it, and its locks.

    DIR/state.db               users, groups, packages, entitlements (SQLite)
    DIR/objects/<sha256>       package files, immutable, named by their digest
    DIR/objects/.arriving-*    copies not yet verified; leftovers go at the next start
    DIR/incoming/              drop packages here while the server runs
    DIR/rejected/              what was dropped and refused, with the reason beside it
    DIR/secrets/               0700: signing.key, capability.key, certificate.key
    DIR/certificate.pem        only after `init --self-signed`

Locks are flock(2) on files in DIR: `serve.lock` (one server), `import.lock` (one import or cleaning),
`packs.lock` (one builder of launch packs).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from packageformat.limits import SEED_SIZE
from packageformat.signature import public_key
from streamserver.capability import SECRET_SIZE
from streamserver.database.connection import is_unfinished
from streamserver.errors import ServerConfigurationError, StoreError

DATABASE = "state.db"
ARRIVING = ".arriving-"
_UNFINISHED = ".unfinished"  # there while `init` is at work
_FOLDERS = ("objects", "incoming", "rejected")
_MADE = (*_FOLDERS, "secrets", "certificate.pem")  # and the database's files


@dataclass(frozen=True, slots=True)
class Secrets:
    """The server's own keys. `seed` is the Ed25519 private key that clients pin by its public half."""

    seed: bytes
    capability: bytes

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return public_key(self.seed)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths of a server's state."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / DATABASE

    @property
    def objects(self) -> Path:
        """Stored package files."""
        return self.path / "objects"

    @property
    def incoming(self) -> Path:
        """Packages dropped for import."""
        return self.path / "incoming"

    @property
    def rejected(self) -> Path:
        """Dropped packages that were refused."""
        return self.path / "rejected"

    @property
    def certificate(self) -> Path:
        """The certificate that `init --self-signed` makes."""
        return self.path / "certificate.pem"

    @property
    def certificate_key(self) -> Path:
        """Its private key."""
        return self.path / "secrets" / "certificate.key"

    @property
    def _signing_key(self) -> Path:
        return self.path / "secrets" / "signing.key"

    @property
    def _capability_key(self) -> Path:
        return self.path / "secrets" / "capability.key"

    def object_path(self, digest: bytes) -> Path:
        """Return where the object of this SHA-256 is stored."""
        return self.objects / digest.hex()

    @contextmanager
    def created(self) -> Iterator[None]:
        """Make the folders and secrets; what the body adds to them makes the server whole.

        If either fails, everything that was made is removed. A mark lies in the folder until the end, so
        that what a killed `init` left is known and made anew by the next one.

        Raises:
            StoreError: there is a server already, the folder holds other things, or it cannot be written.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with explained(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"not a folder: {self.path}", hint="choose a new or an empty folder")
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                _remove_empty(missing)
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise
                raise StoreError(
                    f"folder cannot be made ({(error.strerror or '').lower()}): {self.path}",
                    hint="choose one on a disk, below a folder that you may write",
                ) from error
            try:
                self._check_free()
                mark = os.open(self.path / _UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                _remove_empty(missing)
                raise
        try:
            with explained(self.path):
                try:
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise StoreError(
                        f"another 'init' is at work: {self.path}", hint="wait until it has ended"
                    ) from error
                self._check_free()  # again: nobody else makes it any more
            try:
                with explained(self.path):
                    self._remove_made()
                    self._make()
                yield
            except BaseException:
                with suppress(OSError):
                    self._remove_made()
                    (self.path / _UNFINISHED).unlink()
                    _remove_empty(missing)
                raise
            with explained(self.path):
                sync_folder(self.path)
                (self.path / _UNFINISHED).unlink()
        finally:
            os.close(mark)

    def _check_free(self) -> None:
        if self.database.exists() and not is_unfinished(self.database):
            raise StoreError(f"there is a server already: {self.path}", hint="choose another folder")
        begun = (self.path / _UNFINISHED).exists() or self.database.exists()
        for place in self.path.iterdir():
            known = begun and (place.name in _MADE or place.name.startswith((DATABASE, ".unfinished")))
            stored = place.name in _FOLDERS and any(place.iterdir()) if known else True
            if stored:
                raise StoreError(f"folder is not empty: {self.path}", hint="choose a new or an empty folder")

    def _make(self) -> None:
        self.path.chmod(0o750)
        for folder in (self.objects, self.incoming, self.rejected):
            folder.mkdir()
        self._signing_key.parent.mkdir(mode=0o700)
        write_new(self._signing_key, secrets.token_bytes(SEED_SIZE), mode=0o600)
        write_new(self._capability_key, secrets.token_bytes(SECRET_SIZE), mode=0o600)

    def _remove_made(self) -> None:
        """Remove what an `init` that did not end has made: it holds nothing of anybody's yet."""
        for place in self.path.iterdir():
            if place.name in _MADE and place.is_dir():
                shutil.rmtree(place)
            elif place.name in _MADE or place.name.startswith(DATABASE):
                place.unlink()

    def read_secrets(self) -> Secrets:
        """Return the server's keys.

        Raises:
            StoreError: missing, damaged or not readable.
        """
        found = []
        for path, size in ((self._signing_key, SEED_SIZE), (self._capability_key, SECRET_SIZE)):
            try:
                with explained(path):
                    content = path.read_bytes()
            except StoreError as error:
                if path.exists():
                    raise
                raise StoreError(
                    f"the server's key is missing: {path}", hint="restore it from a backup"
                ) from error
            if len(content) != size:
                raise StoreError(f"key is damaged: {path}", hint="restore it from a backup")
            found.append(content)
        return Secrets(*found)

    @contextmanager
    def import_lock(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock that keeps imports apart from each other and from cleaning.

        Yields False, without the lock, if `wait` is False and another program has it.
        """
        with explained(self.path):
            descriptor = os.open(self.path / "import.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
            except BlockingIOError:
                held = False
            yield held
        finally:
            os.close(descriptor)

    @contextmanager
    def deltas_lock(self) -> Iterator[None]:
        """Hold the lock of the one builder of deltas; wait for another one to end."""
        with self._waited_for("deltas.lock"):
            yield

    @contextmanager
    def packs_lock(self) -> Iterator[None]:
        """Hold the lock of the one builder of launch packs; wait for another one to end."""
        with self._waited_for("packs.lock"):
            yield

    @contextmanager
    def _waited_for(self, name: str) -> Iterator[None]:
        with explained(self.path):
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def serve_lock(self) -> Iterator[None]:
        """Hold the lock of the one server that runs on this folder.

        Raises:
            ServerConfigurationError: another one runs.
        """
        with explained(self.path):
            descriptor = os.open(self.path / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServerConfigurationError(
                    f"another server runs on this folder: {self.path}", hint="stop it first"
                ) from error
            yield
        finally:
            os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the file system's errors into a `StoreError` that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space on its disk, then try again",
            errno.EDQUOT: "free some space in this user's quota, then try again",
            errno.EROFS: "its disk is mounted read-only: mount it writable",
            errno.EACCES: "give this user permission, or run as the server's user",
            errno.EPERM: "give this user permission, or run as the server's user",
            errno.ENOENT: "check the path",
            errno.ENOTDIR: "check the path: a part of it is a file",
            errno.ENAMETOOLONG: "choose a shorter path",
        }
        where = error.filename or path
        raise StoreError(
            f"{(error.strerror or type(error).__name__).lower()}: {where}",
            hint=hints.get(error.errno or 0, StoreError.hint),
        ) from error


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that is not there yet, on disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    sync_folder(path.parent)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that were made in vain, innermost first."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def sync_folder(path: Path) -> None:
    """Put a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
