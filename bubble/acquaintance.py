"""Files that a launch is about to touch are looked up before the application asks for them.

The kernel takes pages (pusher.py) only of files that somebody has looked up. The view knows early which files
a launch pack holds, but cannot look anything up in its own file system: it would wait for itself. The
bubble's keeper can; it gets the paths over the socket that the two share.

    view    introduce(door, paths)            one byte, and a memory file with the paths
    keeper  meet(descriptor, view folder)     in a thread of its own

A look-up leaves nothing but the kernel's own memory of the name. One that fails is made by whoever needs it.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterable
from contextlib import suppress

from bubble import namespaces
from bubble.offspring import memory_file

PATHS_MAX = 1 << 22
"""Bytes of paths in one introduction, at most: forty thousand files of a hundred."""

WORD = b"L"
"""The byte that a memory file of paths comes with."""


def introduce(door: socket.socket, paths: Iterable[bytes]) -> bool:
    """Have files of the view looked up, without waiting; return whether the keeper was told.

    Args:
        door: the view's end of its socket to the keeper.
        paths: without a leading slash, in the order in which they are wanted. What is beyond PATHS_MAX is
            left out.
    """
    told = bytearray()
    for path in paths:
        if len(told) + len(path) >= PATHS_MAX:
            break
        told += path + b"\0"
    try:
        names = memory_file(bytes(told))
    except OSError:
        return False
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [names]))
        door.sendmsg([WORD], [rights], socket.MSG_DONTWAIT)  # send_fds knows no flags
    except OSError:  # the keeper is slow, or gone
        return False
    finally:
        os.close(names)
    return True


def meet(names: int, folder: str) -> None:
    """Look up the files of an introduction; closes its memory file.

    Args:
        names: the memory file's descriptor.
        folder: where the view is mounted.
    """
    try:
        told = os.pread(names, PATHS_MAX, 0)
        view = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    finally:
        os.close(names)
    try:
        for path in told.split(b"\0")[:-1]:
            with suppress(OSError):  # hidden by another package, or the view has gone
                os.close(namespaces.open_within(view, path, links=False))
    finally:
        os.close(view)
