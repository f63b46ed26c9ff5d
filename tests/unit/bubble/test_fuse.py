from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bubble import fuse
from packageformat.errors import FormatError

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)


def test_structures_have_the_sizes_of_the_kernels_header():
    sizes = {
        "IN": 40,
        "OUT": 16,
        "ATTRIBUTES": 88,
        "ENTRY": 40,
        "INIT_OUT": 64,
        "STATFS_OUT": 80,
        "ATTRIBUTES_OUT": 16,
        "DIRECTORY_ENTRY": 24,
        "INTERRUPT_IN": 8,
    }
    assert {name: getattr(fuse, name).size for name in sizes} == sizes


@given(u64, st.binary(max_size=300))
def test_a_reply_says_its_length_and_whose_it_is(unique, body):
    data = fuse.reply(unique, body)
    assert fuse.OUT.unpack_from(data) == (len(data), 0, unique)
    assert data[16:] == body
    assert fuse.OUT.unpack(fuse.failure(unique, 5)) == (16, -5, unique)


@given(u64, u64, st.binary(min_size=1, max_size=255), st.integers(0, 15))
def test_folder_entries_are_padded_to_eight_bytes(node, offset, name, kind):
    data = fuse.directory_entry(node, offset, name, kind)
    assert len(data) % 8 == 0
    assert fuse.DIRECTORY_ENTRY.unpack_from(data) == (node, offset, len(name), kind)
    assert data[24 : 24 + len(name)] == name


def init_body(minor: int = 45, readahead: int = 131072, flags: int = (1 << 64) - 1) -> bytes:
    return struct.pack("<5I", 7, minor, readahead, flags & 0xFFFF_FFFF, flags >> 32)


@given(st.integers(31, 60), u32)
def test_init_takes_no_more_than_the_kernel_offers(minor, readahead):
    init = fuse.Init.decode(init_body(minor, readahead))
    values = fuse.INIT_OUT.unpack(init.reply())
    assert values[0] == 7
    assert values[1] <= minor
    assert values[2] == readahead
    taken = values[3] | values[10] << 32
    assert taken & ~init.features == 0
    assert taken == fuse.WANTED
    assert fuse.INIT_OUT.unpack(init.reply(readahead=0))[2] == 0


def test_a_kernel_without_no_open_mode_is_refused():
    with pytest.raises(FormatError, match="too old"):
        fuse.Init.decode(init_body(flags=fuse.WANTED & ~fuse.Feature.NO_OPEN_SUPPORT))
