"""Tables by columns: what was there comes back, as FORMAT.md tells it; relocations compress better."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.compression import compress
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.records import RECORD_SIZE, by_columns, by_rows
from tests.vectors.tablepack import relocations

anything = st.integers(0, 500).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def rows_as_told(data: bytes) -> bytes:
    """Return the records of columns, read number by number (FORMAT.md, *Launch pack*)."""
    count = len(data) // 24
    columns = [data[number * count : (number + 1) * count] for number in range(24)]
    numbers = [0, 0, 0]
    rows = bytearray()
    for record in range(count):
        others = bytes(column[record] for column in columns[6:])
        for index in range(3):
            numbers[index] += columns[2 * index][record] + 256 * columns[2 * index + 1][record]
            rows += struct.pack("<H", numbers[index] % 65536) + others[6 * index : 6 * index + 6]
    return bytes(rows) + data[24 * count :]


@given(anything)
def test_any_bytes_come_back_both_ways(data: bytes) -> None:
    assert by_rows(by_columns(data)) == data
    assert by_columns(by_rows(data)) == data
    assert len(by_columns(data)) == len(data)


@given(anything)
def test_columns_are_read_as_the_page_tells(data: bytes) -> None:
    assert by_rows(data) == rows_as_told(data)
    assert by_rows(memoryview(data)) == rows_as_told(data)


@pytest.mark.parametrize("size", [PAGE_SIZE, PAGE_SIZE + 1, BLOCK_SIZE, (65536 + 3) * RECORD_SIZE + 5])
def test_the_largest_steps_are_added_up_over_any_length(size: int) -> None:
    data = b"\xff" * size
    assert by_rows(data) == rows_as_told(data)
    assert by_columns(by_rows(data)) == data


@pytest.mark.parametrize("phase", range(0, RECORD_SIZE, 8))
@pytest.mark.parametrize("pages", [1, 16])
def test_relocations_compress_to_much_less_wherever_a_page_begins_in_them(phase: int, pages: int) -> None:
    table = relocations(5000)[phase : phase + pages * PAGE_SIZE]
    assert len(compress(by_columns(table), 19)) < 0.75 * len(compress(table, 19))
