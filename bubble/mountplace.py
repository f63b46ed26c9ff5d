"""Folders and files to mount on, opened or made without following a link: an application may have made it."""

from __future__ import annotations

import os
from pathlib import Path

from bubble import namespaces


def folder_in(folder: int, name: bytes) -> int:
    """Return a descriptor of the folder `name` in `folder`, made if it is not there."""
    try:
        return namespaces.open_within(folder, name, os.O_PATH | os.O_DIRECTORY, links=False)
    except FileNotFoundError:
        os.mkdir(name, 0o700, dir_fd=folder)
        return namespaces.open_within(folder, name, os.O_PATH | os.O_DIRECTORY, links=False)


def file_in(folder: int, name: bytes) -> int:
    """Return a descriptor of the file `name` in `folder`, made empty if it is not there."""
    try:
        return namespaces.open_within(folder, name, links=False)
    except FileNotFoundError:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
        return namespaces.open_within(folder, name, links=False)


def place_in(folder: Path, path: Path, *, is_folder: bool) -> int:
    """Return a descriptor of `path`, relative, below the trusted `folder`; what is missing is made."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    *parents, name = [os.fsencode(part) for part in path.parts]
    for step, make in [
        *((parent, folder_in) for parent in parents),
        (name, folder_in if is_folder else file_in),
    ]:
        further = make(descriptor, step)
        os.close(descriptor)
        descriptor = further
    return descriptor


def open_real(path: Path) -> int:
    """Return a descriptor of the file or folder at a path without links.

    Raises:
        OSError: there is none, or a link has come to stand in the path since it was resolved.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return namespaces.open_within(root, os.fsencode(path), links=False)
    finally:
        os.close(root)


def pin(folder: Path, path: Path, *, is_folder: bool = True) -> None:
    """Make a folder or file a mount point of its own, which nobody in the bubble can rename or remove."""
    target = place_in(folder, path, is_folder=is_folder)
    try:
        tree = namespaces.copy_mount(target)
        try:
            namespaces.place_mount(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)
