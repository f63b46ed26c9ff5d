"""Opening a path as if a folder were the root, beside whatever else the machine does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bubble import namespaces

RENAMING = """
import os, sys
one, other = sys.argv[1:]
open(one, "w").close()
print("renaming", flush=True)
parent = os.getppid()
while os.getppid() == parent:
    os.rename(one, other)
    os.rename(other, one)
"""


@contextmanager
def renaming(folder: Path) -> Iterator[None]:
    """Another process renames in a loop, for as long as the block lasts."""
    command = [sys.executable, "-c", RENAMING, str(folder / "one"), str(folder / "other")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "renaming\n"
            yield
        finally:
            process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A folder with `usr/bin/editor`, a link out of it, and a file beside it."""
    (tmp_path / "secret").write_text("not for them")
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/editor").write_text("the editor")
    (tmp_path / "root/usr/up").symlink_to("../../../secret")
    descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_path_with_two_dots_is_found_while_others_rename(root: int, tmp_path: Path) -> None:
    with renaming(tmp_path):
        for _ in range(3000):
            os.close(namespaces.open_within(root, b"/usr/../usr/bin/../bin/../bin/editor"))


def test_without_links_too(root: int, tmp_path: Path) -> None:
    with renaming(tmp_path):
        for _ in range(3000):
            os.close(namespaces.open_within(root, b"usr/../usr/bin/../bin/../bin/editor", links=False))


def test_what_is_not_there_is_said_at_once_and_nothing_leads_out(root: int, tmp_path: Path) -> None:
    with renaming(tmp_path):
        for path, links, number in (
            (b"usr/bin/../bin/viewer", True, errno.ENOENT),
            (b"../secret", True, errno.ENOENT),  # as in chroot: the root's `..` is the root
            (b"usr/up", True, errno.ENOENT),
            (b"usr/up", False, errno.ELOOP),
            (b"../secret", False, errno.EXDEV),
        ):
            with pytest.raises(OSError) as caught:
                namespaces.open_within(root, path, links=links)
            assert caught.value.errno == number, path
