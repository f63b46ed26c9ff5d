"""The vectors guard the format: good ones byte for byte, bad ones must fail cleanly."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from packageformat.errors import FormatError
from packageformat.limits import MEMORY_FACTOR, MEMORY_FIXED
from tests.vectors import make
from tests.vectors.parsers import parser_of

GOOD = sorted((make.FOLDER / "good").iterdir())
BAD = sorted((make.FOLDER / "bad").iterdir())


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_a_good_vector_reads_and_writes_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    assert parser_of(path.name)(data) == data


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_bad_vector_fails_cleanly(path: Path) -> None:
    data = path.read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            parser_of(path.name)(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_FIXED + MEMORY_FACTOR * len(data)
    assert "\n" not in caught.value.line()
    assert caught.value.exit_code in (10, 11, 12, 13)


def test_the_good_vectors_are_what_the_format_makes_today() -> None:
    made = make.good()
    assert {path.name: path.read_bytes() for path in GOOD} == made


def test_the_bad_vectors_on_disk_are_those_that_are_made_and_what_was_found() -> None:
    stored = {path.name: path.read_bytes() for path in BAD if "found" not in path.name}
    assert stored == make.bad()
