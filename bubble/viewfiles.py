"""Answers to everything that a view image alone can answer: names, attributes, folders, links. Pure."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from itertools import chain

from bubble import fuse
from bubble.fuse import ATTRIBUTES, DIRECTORY_ENTRY, ENTRY, FOREVER, Opcode
from bubble.namesahead import AHEAD, NamesAhead
from bubble.viewimage import ViewImage

_ATTRIBUTES_HEAD = fuse.ATTRIBUTES_OUT.pack(FOREVER, 0, 0)
_NO_ATTRIBUTES = bytes(ENTRY.size + ATTRIBUTES.size)
_SECOND = 1_000_000_000
_UNSIGNED = (1 << 64) - 1
_DOTS = 2
"""Entries of a folder before its children: itself, and what it is in."""


class ViewFiles:
    """The files of one view as the kernel sees them. A node of the kernel's is one of the image's plus one.

    Args of the constructor:
        image: what is shown.
        uid, gid: the owner of everything: packaged owners would be foreign to the user's namespace.
        ahead: the names that are wanted soon; without it, no folder has a second listing.
        met: is called with each of the image's nodes that the kernel is about to be told of.
    """

    def __init__(
        self,
        image: ViewImage,
        uid: int,
        gid: int,
        ahead: NamesAhead | None = None,
        met: Callable[[int], None] | None = None,
    ) -> None:
        self._ahead = ahead
        self._met = met
        self._image = image
        self._uid = uid
        self._gid = gid

    def answer(self, opcode: int, unique: int, node: int, body: memoryview) -> bytes:
        """Return the whole reply to a request; empty if none is due.

        Raises:
            OSError: with the errno for the caller.
        """
        if opcode == Opcode.LOOKUP:
            return fuse.reply(unique, self._lookup(node, bytes(body[:-1])))
        if opcode == Opcode.GETATTR:
            return fuse.reply(unique, _ATTRIBUTES_HEAD + self.attributes(self._number(node)))
        if opcode == Opcode.READLINK:
            return fuse.reply(unique, self._link(node))
        if opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
            _, offset, size = fuse.READ_IN.unpack_from(body)
            return fuse.reply(unique, self._entries(node, offset, size, plus=opcode == Opcode.READDIRPLUS))
        if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            return b""
        if opcode in (Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.ACCESS):
            return fuse.reply(unique)
        if opcode == Opcode.STATFS:
            return fuse.reply(unique, fuse.STATFS_OUT.pack(1 << 20, 0, 0, 0, 0, 4096, 255, 4096, 0))
        return fuse.failure(unique, errno.ENOSYS)  # OPEN and OPENDIR too: then the kernel stops asking

    def content(self, node: int) -> int | None:
        """Return the number of a file's content, None if it is empty.

        Raises:
            OSError: EISDIR or EINVAL: it is not a file.
        """
        number = self._number(node)
        mode, size, _, _ = self._image.attributes(number)
        if not stat.S_ISREG(mode):
            raise _error(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL)
        return number if size else None

    def size(self, node: int) -> int:
        """Return the bytes of a file."""
        return self._image.size(self._number(node))

    def attributes(self, number: int) -> bytes:
        """Return the attributes of one of the image's nodes as the kernel wants them."""
        mode, size, mtime_ns, links = self._image.attributes(number)
        seconds, nanoseconds = divmod(mtime_ns, _SECOND)
        seconds &= _UNSIGNED
        return ATTRIBUTES.pack(
            number + 1,
            size,
            (size + 511) // 512,
            seconds,
            seconds,
            seconds,
            nanoseconds,
            nanoseconds,
            nanoseconds,
            mode,
            links,
            self._uid,
            self._gid,
            0,
            4096,
            0,
        )

    def _number(self, node: int) -> int:
        """Return the image's node for the kernel's, which is one more: the root's must be 1."""
        try:
            self._image.mode(node - 1)
        except IndexError as error:
            raise _error(errno.ESTALE) from error
        return node - 1

    def _found(self, number: int) -> bytes:
        if self._met is not None:
            self._met(number)
        return ENTRY.pack(number + 1, 0, FOREVER, FOREVER, 0, 0) + self.attributes(number)

    def _lookup(self, node: int, name: bytes) -> bytes:
        folder = self._folder(node)
        if name == b".":
            return self._found(folder)
        if name == b"..":
            return self._found(self._image.parent(folder))
        number = self._image.child(folder, name)
        return fuse.NO_ENTRY if number is None else self._found(number)

    def _link(self, node: int) -> bytes:
        number = self._number(node)
        if not stat.S_ISLNK(self._image.mode(number)):
            raise _error(errno.EINVAL)
        return self._image.target(number)

    def _folder(self, node: int) -> int:
        number = self._number(node)
        if not stat.S_ISDIR(self._image.mode(number)):
            raise _error(errno.ENOTDIR)
        return number

    def _entries(self, node: int, offset: int, size: int, *, plus: bool) -> bytes:
        """Return entries of a folder from `offset` on, as many as fit."""
        image = self._image
        folder = self._folder(node)
        listed: Iterable[tuple[bytes, int]]
        if offset >= AHEAD:
            listed = () if self._ahead is None else self._ahead.entries(folder, offset - AHEAD)
        else:
            dots = ((b".", folder), (b"..", image.parent(folder))) if offset < _DOTS else ()
            listed = chain(dots[offset:], image.children(folder)[max(offset - _DOTS, 0) :])
        found: list[bytes] = []
        room = size
        for place, (name, number) in enumerate(listed, offset + 1):
            length = (len(_NO_ATTRIBUTES) if plus else 0) + DIRECTORY_ENTRY.size + len(name)
            length += -length % 8
            if length > room:
                break
            room -= length
            if plus:  # the kernel looks neither of the first two up
                found.append(_NO_ATTRIBUTES if place <= _DOTS else self._found(number))
            found.append(fuse.directory_entry(number + 1, place, name, image.mode(number) >> 12))
        return b"".join(found)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
