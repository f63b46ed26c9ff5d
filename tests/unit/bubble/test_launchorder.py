"""The order of a launch on disk: what was written is read, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bubble.launchorder import RUNS_MAX, decode_order, encode_order, read_order, runs_of
from packageformat.errors import FormatError
from packageformat.hashing import digest

runs = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))


@given(runs)
def test_an_order_reads_back(some):
    assert decode_order(encode_order(some)) == some


@given(st.binary(max_size=200))
def test_nothing_else_is_an_order(data):
    with pytest.raises(FormatError):
        decode_order(data)
    with pytest.raises(FormatError, match="not one"):
        decode_order(data + digest(data)) if len(data) >= 16 else decode_order(bytes(16) + digest(bytes(16)))


def test_a_damaged_or_endless_order_is_refused_and_a_long_one_cut(tmp_path):
    good = encode_order([(1, 2, 3), (4, 5, 6)])
    place = tmp_path / "order"
    for at in range(0, len(good), 7):
        place.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(FormatError):
            read_order(place)
    place.write_bytes(good)
    assert read_order(place) == [(1, 2, 3), (4, 5, 6)]
    place.write_bytes(good + b"\0" * (17 << 20))
    with pytest.raises(FormatError):
        read_order(place)
    place.write_bytes(encode_order([(n, 0, 1) for n in range(RUNS_MAX + 5)]))
    assert len(read_order(place)) == RUNS_MAX


def test_pages_that_follow_each_other_are_one_run():
    pages = [(7, 3, 1), (7, 4, 2), (8, 6, 1), (7, 6, 1), (7, 8, 1)]
    assert runs_of(pages) == [(7, 3, 3), (8, 6, 1), (7, 6, 1), (7, 8, 1)]
