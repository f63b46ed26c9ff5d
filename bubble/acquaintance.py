"""Files that a launch is about to touch are made known to the kernel before the application asks for them.

The kernel takes pages (pusher.py) only of files whose names it has learned. The view knows early which files
a launch wants, but cannot ask its own file system for anything: it would wait for itself. The bubble's keeper
can: it reads their folders, from where these list the wanted names (namesahead.py).

    view    introduce(door, places)           one byte, and a memory file with the folders
    keeper  meet(descriptor, view folder)     in a thread of its own

This leaves nothing but the kernel's own memory of the names. What fails is looked up by whoever needs it.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterable
from contextlib import suppress

from bubble import namespaces
from bubble.namesahead import AHEAD, Place
from bubble.offspring import memory_file

PLACES_MAX = 1 << 22
"""Bytes of places in one introduction, at most: forty thousand folders of a hundred."""

WORD = b"L"
"""The byte that a memory file of places comes with."""


def introduce(door: socket.socket, places: Iterable[Place]) -> bool:
    """Have wanted names read by the keeper, without waiting; return whether it was told.

    Args:
        door: the view's end of its socket to the keeper.
        places: folders, without a leading slash, those that are in others after them, and from which of its
            wanted names on each is to be read. What is beyond PLACES_MAX is left out.
    """
    told = bytearray()
    for path, first in places:
        place = b"%d/%b\0" % (first, path)
        if len(told) + len(place) > PLACES_MAX:
            break
        told += place
    try:
        memory = memory_file(bytes(told))
    except OSError:
        return False
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [memory]))
        door.sendmsg([WORD], [rights], socket.MSG_DONTWAIT)  # send_fds knows no flags
    except OSError:  # the keeper is slow, or gone
        return False
    finally:
        os.close(memory)
    return True


def meet(memory: int, folder: str) -> None:
    """Read the folders of an introduction; closes its memory file.

    Args:
        memory: the memory file's descriptor.
        folder: where the view is mounted.
    """
    try:
        told = os.pread(memory, PLACES_MAX, 0)
        view = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    finally:
        os.close(memory)
    try:
        for place in told.split(b"\0")[:-1]:
            first, _, path = place.partition(b"/")
            with suppress(OSError):  # hidden by another package, or the view has gone
                _read(view, path, int(first))
    finally:
        os.close(view)


def _read(view: int, path: bytes, first: int) -> None:
    """Read a folder's wanted names. The kernel learns them from that; nobody else wants to know."""
    place = namespaces.open_within(view, path, os.O_RDONLY | os.O_DIRECTORY, links=False)
    try:
        os.lseek(place, AHEAD + first, os.SEEK_SET)
        os.listdir(place)  # noqa: PTH208 - a descriptor
    finally:
        os.close(place)
