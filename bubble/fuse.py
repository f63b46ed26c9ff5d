"""The FUSE protocol, and the only door to /dev/fuse. Layouts: Linux's uapi/linux/fuse.h, 7.31 and later.

Pure but for `open_device`: requests are bytes that somebody read, replies are bytes that somebody writes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum

from packageformat.errors import FormatError

DEVICE = "/dev/fuse"
FOREVER = 0x7FFF_FFFF
"""Seconds for which the kernel may keep an entry, an attribute or a name that is not there."""

BUFFER_SIZE = 1 << 17
"""Bytes of the buffer for one request: more than any request of a read-only file system."""

READ_MAX = 1 << 20
"""Bytes of the largest READ: 256 pages, the kernel's own limit."""

IN = struct.Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extension length, padding
OUT = struct.Struct("<IiQ")  # length, -errno, unique
ATTRIBUTES = struct.Struct("<6Q10I")
ENTRY = struct.Struct("<4Q2I")  # node, generation, seconds and nanoseconds of both lifetimes
READ_IN = struct.Struct("<QQI")  # handle, offset, size
INTERRUPT_IN = struct.Struct("<Q")
INIT_IN = struct.Struct("<4I")  # major, minor, readahead, flags
INIT_OUT = struct.Struct("<4IHHIIHHII24x")
STORE_OUT = struct.Struct("<QQII")  # node, offset, size, padding
NOTIFY_STORE = 4
STATFS_OUT = struct.Struct("<5Q4I24x")
ATTRIBUTES_OUT = struct.Struct("<QII")
DIRECTORY_ENTRY = struct.Struct("<QQII")  # node, offset of the next, length of the name, type

NO_ENTRY = ENTRY.pack(0, 0, FOREVER, FOREVER, 0, 0) + bytes(ATTRIBUTES.size)
"""The answer to a LOOKUP of a name that does not exist and never will."""


class Opcode(IntEnum):
    """The requests that a read-only file system may see."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    GETXATTR = 22
    LISTXATTR = 23
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46
    STATX = 52


class Feature:
    """Bits of INIT."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    INIT_EXT = 1 << 30
    HAS_RESEND = 1 << 39


WANTED = (
    Feature.ASYNC_READ
    | Feature.PARALLEL_DIROPS
    | Feature.MAX_PAGES
    | Feature.CACHE_SYMLINKS
    | Feature.DO_READDIRPLUS
    | Feature.EXPLICIT_INVAL_DATA
    | Feature.INIT_EXT
    | Feature.NO_OPEN_SUPPORT
    | Feature.NO_OPENDIR_SUPPORT
    | Feature.HAS_RESEND
)
REQUIRED = Feature.NO_OPEN_SUPPORT | Feature.NO_OPENDIR_SUPPORT


@dataclass(frozen=True, slots=True)
class Init:
    """What the kernel offers when a file system is mounted."""

    minor: int  # of protocol 7
    readahead: int  # bytes, the most that the kernel will read ahead
    features: int

    @classmethod
    def decode(cls, body: bytes | memoryview) -> Init:
        """Return the body of an INIT request.

        Raises:
            FormatError: the kernel is older than what the view needs (Linux 5.4).
        """
        major, minor, readahead, flags = INIT_IN.unpack_from(body)
        if len(body) >= 20 and flags & Feature.INIT_EXT:
            flags |= struct.unpack_from("<I", body, 16)[0] << 32
        if major != 7 or flags & REQUIRED != REQUIRED:
            raise FormatError(
                f"the kernel speaks FUSE {major}.{minor}, too old for a view", hint="use Linux 5.4 or later"
            )
        return cls(minor, readahead, flags)

    def reply(self, *, readahead: int | None = None) -> bytes:
        """Return the body of the answer.

        Args:
            readahead: bytes that the kernel may read ahead at most; None leaves it its own.
        """
        features = self.features & WANTED
        return INIT_OUT.pack(
            7,
            min(self.minor, 45),
            self.readahead if readahead is None else min(self.readahead, readahead),
            features & 0xFFFF_FFFF,
            256,  # requests in the background: one that waits for the network must not hold up others
            192,
            4096,  # largest write: there are none
            1,  # nanoseconds of a time stamp's grain
            READ_MAX // 4096,
            0,
            features >> 32,
            0,
        )


def reply(unique: int, body: bytes = b"") -> bytes:
    """Return a whole reply."""
    return OUT.pack(OUT.size + len(body), 0, unique) + body


def store_head(node: int, offset: int, size: int) -> bytes:
    """Return what goes before `size` bytes that the kernel shall keep at `offset` of a node."""
    return OUT.pack(OUT.size + STORE_OUT.size + size, NOTIFY_STORE, 0) + STORE_OUT.pack(node, offset, size, 0)


def failure(unique: int, error: int) -> bytes:
    """Return a reply that says errno `error`."""
    return OUT.pack(OUT.size, -error, unique)


RESEND = OUT.pack(OUT.size, 7, 0)
"""FUSE_NOTIFY_RESEND: the kernel asks again whatever it has asked and nobody has answered."""


def directory_entry(node: int, next_offset: int, name: bytes, kind: int) -> bytes:
    """Return one entry of READDIR; `kind` is st_mode >> 12."""
    data = DIRECTORY_ENTRY.pack(node, next_offset, len(name), kind) + name
    return data + bytes(-len(data) % 8)


def mount_options(descriptor: int, uid: int, gid: int) -> str:
    """Return the options to mount a view whose requests come over `descriptor`."""
    return (
        f"fd={descriptor},rootmode=40000,user_id={uid},group_id={gid},"
        f"default_permissions,allow_other,max_read={READ_MAX}"
    )


def open_device() -> int:
    """Open /dev/fuse. Must be done inside the user namespace that mounts it.

    Raises:
        OSError: it is not there, or closed to this user.
    """
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
