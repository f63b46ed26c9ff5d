"""One entry of a tree: its kinds, and its attributes as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from packageformat.errors import FormatError
from packageformat.limits import NAME_MAX, XATTR_VALUE_MAX, XATTRS_AN_ENTRY_MAX

Xattrs = tuple[tuple[bytes, bytes], ...]

OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")
"""Prefixes of overlayfs's own marks: a package must not speak to the overlay above it."""


class Kind(IntEnum):
    """What an entry is. Devices, sockets and pipes do not exist."""

    FOLDER = 0
    FILE = 1
    SYMLINK = 2
    HARDLINK = 3
    WHITEOUT = 4


@dataclass(frozen=True, slots=True)
class Node:
    """An entry as a builder adds it, without place.

    A HARDLINK and a WHITEOUT have no attributes of their own. Owners are those of the packaged system.
    """

    kind: Kind
    mode: int = 0  # permission, set-id and sticky bits, 0 to 0o7777
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0  # nanoseconds since 1970
    size: int = 0  # bytes of a FILE
    target: bytes = b""  # a SYMLINK's text, or the path of a HARDLINK's file inside the tree
    xattrs: Xattrs = ()  # name and value, sorted by name
    opaque: bool = False  # a FOLDER that hides what lower layers have at its place


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree. `parent` and `link` are indexes of entries; `link` is -1 but for a HARDLINK."""

    kind: Kind
    name: bytes
    parent: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    target: bytes
    link: int
    xattrs: Xattrs
    opaque: bool


def check_xattrs(xattrs: Xattrs) -> Xattrs:
    """Return `xattrs` if they may stand in a tree.

    Raises:
        FormatError: too many or too large, not sorted by name, a name twice, or a mark of overlayfs.
    """
    if len(xattrs) > XATTRS_AN_ENTRY_MAX:
        raise FormatError(f"an entry with {len(xattrs)} extended attributes, allowed {XATTRS_AN_ENTRY_MAX}")
    last = b""
    for name, value in xattrs:
        if not 0 < len(name) <= NAME_MAX or b"\0" in name or name.startswith(OVERLAY_XATTRS):
            raise FormatError(f"an extended attribute that is not allowed: {name!r}")
        if len(value) > XATTR_VALUE_MAX:
            raise FormatError(f"an extended attribute of {len(value)} bytes, allowed {XATTR_VALUE_MAX}")
        if name <= last:
            raise FormatError("extended attributes that are not sorted by name")
        last = name
    return xattrs
