"""Kept descriptors: bounded, never closed in use, never of an old file."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamserver.descriptors import Descriptors
from streamserver.errors import DamagedObjectError


async def test_no_more_than_the_bound_stay_open_and_those_in_use_do(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(10)]
    for path in paths:
        path.write_bytes(path.name.encode() * 10)
    kept = Descriptors(kept=3)
    with ExitStack() as stack:
        held = [stack.enter_context(kept.lease(path)) for path in paths]
        for path, one in zip(paths, held, strict=True):
            assert await one.read(0, 10) == path.read_bytes()
    assert len(kept) <= 3
    with kept.lease(paths[0]) as one:
        kept.close()
        assert await one.read(5, 5) == b"00000"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(one.descriptor)


async def test_a_file_put_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"old")
    kept = Descriptors()
    with kept.lease(path) as old:
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        with kept.lease(path) as new:
            assert (await old.read(0, 3), await new.read(0, 3)) == (b"old", b"new")
    path.unlink()
    with pytest.raises(FileNotFoundError), kept.lease(path):
        pass
    kept.close()


async def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"short")
    kept = Descriptors()
    with kept.lease(path) as one, pytest.raises(DamagedObjectError):
        await one.read(0, 100)
    kept.close()
