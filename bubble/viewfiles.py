"""Answers to everything that a view image alone can answer: names, attributes, folders, links. Pure."""

from __future__ import annotations

import errno
import os
import stat

from bubble import fuse
from bubble.fuse import ATTRIBUTES, DIRECTORY_ENTRY, ENTRY, FOREVER, Opcode
from bubble.viewimage import NO_CONTENT, ViewImage

_ATTRIBUTES_HEAD = fuse.ATTRIBUTES_OUT.pack(FOREVER, 0, 0)
_NO_ATTRIBUTES = bytes(ENTRY.size + ATTRIBUTES.size)
_SECOND = 1_000_000_000
_UNSIGNED = (1 << 64) - 1


class ViewFiles:
    """The files of one view as the kernel sees them. A node is an entry's number plus one.

    Args of the constructor:
        image: what is shown.
        uid, gid: the owner of everything: packaged owners would be foreign to the user's namespace.
    """

    def __init__(self, image: ViewImage, uid: int, gid: int) -> None:
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
            return fuse.reply(unique, _ATTRIBUTES_HEAD + self.attributes(self._entry(node)))
        if opcode == Opcode.READLINK:
            return fuse.reply(unique, self._link(node))
        if opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
            _, offset, size = fuse.READ_IN.unpack_from(body)
            return fuse.reply(unique, self._folder(node, offset, size, plus=opcode == Opcode.READDIRPLUS))
        if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            return b""
        if opcode in (Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.ACCESS):
            return fuse.reply(unique)
        if opcode == Opcode.STATFS:
            return fuse.reply(
                unique, fuse.STATFS_OUT.pack(1 << 20, 0, 0, len(self._image), 0, 4096, 255, 4096, 0)
            )
        return fuse.failure(unique, errno.ENOSYS)  # OPEN and OPENDIR too: then the kernel stops asking

    def content(self, node: int) -> int | None:
        """Return the number of a file's content, None if it is empty.

        Raises:
            OSError: EISDIR or EINVAL: it is not a file.
        """
        entry = self._entry(node)
        mode = self._image.modes[entry]
        if not stat.S_ISREG(mode):
            raise _error(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL)
        number = self._image.payloads[entry]
        return None if number == NO_CONTENT else number

    def size(self, node: int) -> int:
        """Return the bytes of a file."""
        return self._image.sizes[self._entry(node)]

    def path_of(self, content: int) -> bytes:
        """Return the first path that has this content. Slow: for the log."""
        image = self._image
        for entry, number in enumerate(image.payloads):
            if number == content and stat.S_ISREG(image.modes[entry]):
                parts = []
                while entry:
                    parts.append(image.name(entry))
                    entry = image.parents[entry]
                return b"/".join(reversed(parts))
        return b"?"

    def attributes(self, entry: int) -> bytes:
        """Return an entry's attributes as the kernel wants them."""
        image = self._image
        entry = image.inodes[entry]
        size = image.sizes[entry]
        seconds, nanoseconds = divmod(image.mtimes_ns[entry], _SECOND)
        seconds &= _UNSIGNED
        return ATTRIBUTES.pack(
            entry + 1,
            size,
            (size + 511) // 512,
            seconds,
            seconds,
            seconds,
            nanoseconds,
            nanoseconds,
            nanoseconds,
            image.modes[entry],
            image.links[entry],
            self._uid,
            self._gid,
            0,
            4096,
            0,
        )

    def _entry(self, node: int) -> int:
        if not 0 < node <= len(self._image.modes):
            raise _error(errno.ESTALE)
        return node - 1

    def _found(self, entry: int) -> bytes:
        node = self._image.inodes[entry] + 1
        return ENTRY.pack(node, 0, FOREVER, FOREVER, 0, 0) + self.attributes(entry)

    def _lookup(self, node: int, name: bytes) -> bytes:
        folder = self._entry(node)
        if name == b".":
            return self._found(folder)
        if name == b"..":
            return self._found(self._image.parents[folder])
        entry = self._image.child(folder, name)
        return fuse.NO_ENTRY if entry is None else self._found(entry)

    def _link(self, node: int) -> bytes:
        entry = self._entry(node)
        if not stat.S_ISLNK(self._image.modes[entry]):
            raise _error(errno.EINVAL)
        return self._image.target(entry)

    def _folder(self, node: int, offset: int, size: int, *, plus: bool) -> bytes:
        """Return entries of a folder from `offset` on, as many as fit."""
        image = self._image
        folder = self._entry(node)
        if not stat.S_ISDIR(image.modes[folder]):
            raise _error(errno.ENOTDIR)
        children = image.children(folder)
        found: list[bytes] = []
        room = size
        for place in range(offset, len(children) + 2):
            if place < 2:
                entry = folder if place == 0 else image.parents[folder]
                name = b"." if place == 0 else b".."
                head = _NO_ATTRIBUTES if plus else b""  # the kernel looks neither up
            else:
                entry = children[place - 2]
                name = image.name(entry)
                head = b""
            owner = image.inodes[entry]
            length = (len(head) or (len(_NO_ATTRIBUTES) if plus else 0)) + DIRECTORY_ENTRY.size + len(name)
            length += -length % 8
            if length > room:
                break
            room -= length
            if plus and not head:
                head = self._found(entry)
            found.append(head)
            found.append(fuse.directory_entry(owner + 1, place + 1, name, image.modes[owner] >> 12))
        return b"".join(found)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
