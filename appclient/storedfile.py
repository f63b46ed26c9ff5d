"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path

from appclient.errors import storage_error


def store(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` to `path`: whoever looks sees all of the old content or all of the new.

    Raises:
        CacheError: the disk is full, read-only, or damaged. `path` is as it was.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            scratch.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise
    except OSError as error:
        raise storage_error("writing", path, error) from error


def stored(path: Path, *, most: int) -> bytes | None:
    """Return the content of `path`, or None if there is none or it is longer than `most` bytes.

    Raises:
        CacheError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error("reading", path, error) from error
    return content if len(content) <= most else None


def store_json(path: Path, value: object) -> None:
    """Write `value` as JSON to `path`, whole or not at all, readable by the user only."""
    store(path, json.dumps(value, indent=1).encode() + b"\n")


def stored_json(path: Path, *, most: int = 1 << 20) -> object:
    """Return what `store_json` wrote, or None if there is nothing or it is damaged."""
    content = stored(path, most=most)
    if content is None:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None
