"""The publisher's key: a file for its owner alone, and its public half; each says which one it is."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from packageformat.keytext import (
    PRIVATE_TAG,
    PUBLIC_TAG,
    is_private,
    key_of_text,
    private_text,
    public_text,
)
from packageformat.limits import SEED_SIZE
from packageformat.signature import fingerprint, generate_key, public_key
from sequencer.errors import HostError, StorageError

PUBLIC_SUFFIX = ".pub"


def write_key(path: Path) -> str:
    """Make a new key at `path`, its public half at `path`.pub; return the fingerprint.

    Raises:
        HostError: there is a key already: it is never replaced.
        StorageError: it cannot be written.
    """
    if not path.parent.is_dir():
        raise StorageError(f"no folder for the key: {path.parent}", hint="make it first, or name another")
    seed = generate_key(secrets.token_bytes(SEED_SIZE))
    public = public_key(seed)
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for place in (path, public_path):
        if place.exists():
            raise HostError(f"{place} exists", hint="choose another name; a key is never replaced")
    try:
        _write_new(path, private_text(seed), 0o600)
        _write_new(public_path, public_text(public), 0o644)
    except FileExistsError as error:
        raise HostError(f"{path} exists", hint="choose another name; a key is never replaced") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="choose another folder") from error
    return fingerprint(public)


def read_key(path: Path) -> bytes:
    """Return the private key (seed, 32 bytes) in the file `path`.

    Raises:
        HostError: it cannot be read, others can read it too, or it is no key.
    """
    hint = f"make one: sequencer keygen {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="ascii") as file:
            mode = os.fstat(descriptor).st_mode
            text = file.read(1024) if stat.S_ISREG(mode) else ""
    except OSError as error:
        raise HostError(f"cannot read the key {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise HostError(f"{path} is not a key", hint=hint) from error
    if key_of_text(text, PUBLIC_TAG, bare=False) is not None:
        raise HostError(
            f"this is a public key: {path}", hint="--key takes the private one, which signs packages"
        )
    if mode & 0o077:
        raise HostError(
            f"the key {path} is open to others (mode {mode & 0o777:04o})", hint=f"run: chmod 600 {path}"
        )
    seed = key_of_text(text, PRIVATE_TAG, bare=True)
    if seed is None:
        raise HostError(f"{path} is not a key", hint=hint)
    return seed


def read_public_key(path: Path) -> bytes:
    """Return the public key in the file `path`.

    Raises:
        HostError: it cannot be read, or is none.
    """
    hint = "name a KEY.pub of keygen"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            text = file.read(4096) if stat.S_ISREG(os.fstat(descriptor).st_mode) else ""
    except OSError as error:
        raise HostError(f"cannot read a public key in {path}: {error.strerror}", hint=hint) from error
    if is_private(text):
        raise HostError(f"this is a private key: {path}", hint=hint)
    key = key_of_text(text, PUBLIC_TAG, bare=path.suffix == PUBLIC_SUFFIX)
    if key is None:
        raise HostError(f"{path} is not a public key", hint=hint)
    return key


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a new file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(partial)  # fails if there is one by now
    finally:
        partial.unlink(missing_ok=True)
