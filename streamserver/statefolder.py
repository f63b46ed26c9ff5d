"""The server's folder on disk: where everything is, who may read it, and its locks.

    DIR/state.db               users, groups, packages, entitlements (SQLite)
    DIR/objects/<sha256>       package files, immutable, named by their digest
    DIR/objects/.arriving-*    copies not yet verified; leftovers go at the next start
    DIR/incoming/              drop packages here while the server runs
    DIR/rejected/              what was dropped and refused, with the reason beside it
    DIR/secrets/               0700: signing.key, capability.key, certificate.key
    DIR/certificate.pem        only after `init --self-signed`

Locks are flock(2) on files in DIR: `serve.lock` (one server), `import.lock` (one import or cleaning).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packageformat.limits import SEED_SIZE
from packageformat.signature import public_key
from streamserver.capability import SECRET_SIZE
from streamserver.errors import ServerConfigurationError, StoreError

DATABASE = "state.db"
ARRIVING = ".arriving-"


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

    def create(self) -> None:
        """Make the folders and secrets.

        Raises:
            StoreError: there is a server already, the folder holds other things, or it cannot be written.
        """
        with explained(self.path):
            if self.database.exists():
                raise StoreError(f"there is a server already: {self.path}", hint="choose another folder")
            if self.path.exists() and any(self.path.iterdir()):
                raise StoreError(f"folder is not empty: {self.path}", hint="choose a new or an empty folder")
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o750)
            for folder in (self.objects, self.incoming, self.rejected):
                folder.mkdir(exist_ok=True)
            self._signing_key.parent.mkdir(mode=0o700, exist_ok=True)
            write_new(self._signing_key, secrets.token_bytes(SEED_SIZE), mode=0o600)
            write_new(self._capability_key, secrets.token_bytes(SECRET_SIZE), mode=0o600)

    def read_secrets(self) -> Secrets:
        """Return the server's keys.

        Raises:
            StoreError: missing, damaged or not readable.
        """
        found = []
        for path, size in ((self._signing_key, SEED_SIZE), (self._capability_key, SECRET_SIZE)):
            with explained(path):
                content = path.read_bytes()
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


def sync_folder(path: Path) -> None:
    """Put a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
