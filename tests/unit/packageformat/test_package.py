"""Packages: read in any pieces, verified whole, and no damage served."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.compression import compress, decompress
from packageformat.errors import CorruptBlockError, FormatError, SignatureError
from packageformat.hashing import block_id, file_content_id, page_hashes
from packageformat.header import HEADER_SIZE
from packageformat.layout import Layout, decode_layout, encode_frame, encode_layout, plan_frames, unpack_frame
from packageformat.limits import FRAME_PLAIN_MAX
from packageformat.package import PackageParser
from packageformat.tree import Kind, Node, build_tree
from tests.vectors.parsers import read_package
from tests.vectors.sample import CONTENTS, PUBLISHER, SAMPLE, SERVER, plain_blocks

PACKAGE = SAMPLE.package
TREE = PACKAGE.tree


def parse(file: bytes, step: int | None = None) -> PackageParser:
    parser = PackageParser(len(file), PACKAGE.version_id, {PUBLISHER})
    while needs := parser.needs():
        for offset, size in needs:
            size = min(size, step) if step else size
            parser.feed(offset, file[offset : offset + size])
    return parser


@pytest.mark.parametrize("step", [None, 1, 100, 513])
def test_a_package_is_read_in_pieces_of_any_size(step: int | None) -> None:
    assert parse(SAMPLE.file, step).package == PACKAGE


def test_two_ranges_are_enough_and_one_with_the_header_of_a_pointer() -> None:
    parser = PackageParser(len(SAMPLE.file))
    assert parser.needs() == [(0, HEADER_SIZE)]
    parser.feed(0, SAMPLE.file[:HEADER_SIZE])
    head_size = PACKAGE.header.head_size
    assert parser.needs() == [(HEADER_SIZE, head_size - HEADER_SIZE)]
    pointed = PackageParser(None, PACKAGE.version_id, header=PACKAGE.header)
    assert pointed.needs() == [(HEADER_SIZE, head_size - HEADER_SIZE)]
    pointed.feed(HEADER_SIZE, SAMPLE.file[HEADER_SIZE:head_size])
    assert pointed.package == PACKAGE


def test_more_than_was_asked_for_is_welcome_and_a_gap_is_a_bug() -> None:
    parser = PackageParser(None)
    parser.feed(0, SAMPLE.file)
    assert parser.package == PACKAGE
    with pytest.raises(ValueError, match="only 0 bytes"):
        PackageParser(None).feed(1, b"x")


def test_every_file_reads_back_from_its_frames() -> None:
    blocks: dict[int, bytes] = {}
    for frame in range(len(PACKAGE.layout.frames)):
        offset, size = PACKAGE.frame_extent(frame)
        blocks |= unpack_frame(
            TREE, PACKAGE.block_ids, PACKAGE.layout.blocks(frame), SAMPLE.file[offset : offset + size]
        )
    for path, plain in CONTENTS.items():
        entry = TREE.find(path)
        assert entry is not None
        first = TREE.first_block(entry)
        found = b""
        for block in range(first, first + TREE.file_block_count(entry)):
            holder = next(
                b
                for b in PACKAGE.layout.blocks(PACKAGE.layout.frame_of(block))
                if PACKAGE.block_id(b) == PACKAGE.block_id(block)
            )
            found += blocks[holder]
        assert found == plain
        assert PACKAGE.content_id(entry) == file_content_id(len(plain), PACKAGE.block_ids_of(entry))


def test_names_of_one_file_have_one_content() -> None:
    file, link = TREE.find(b"usr/bin/calculator"), TREE.find(b"usr/bin/other-name")
    assert file is not None
    assert link is not None
    assert PACKAGE.content_id(file) == PACKAGE.content_id(link)


@given(st.integers(0, len(SAMPLE.file) - 1), st.integers(0, 7))
def test_one_flipped_bit_is_never_served(place: int, bit: int) -> None:
    damaged = bytearray(SAMPLE.file)
    damaged[place] ^= 1 << bit
    if place < PACKAGE.header.head_size:
        with pytest.raises(FormatError):
            parse(bytes(damaged))
        return
    frame = PACKAGE.layout.frame_at(place - PACKAGE.header.head_size)
    offset, size = PACKAGE.frame_extent(frame)
    try:
        found = unpack_frame(
            TREE, PACKAGE.block_ids, PACKAGE.layout.blocks(frame), bytes(damaged[offset : offset + size])
        )
    except CorruptBlockError as error:
        assert len(error.expected) == 32
        return
    assert all(plain == SAMPLE.blocks[block] for block, plain in found)  # zstd did not need that bit


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600, len(SAMPLE.file) - 1])
def test_a_package_that_is_cut_short_is_told_at_once(size: int) -> None:
    with pytest.raises(FormatError, match=r"too short|cut short"):
        PackageParser(size).feed(0, SAMPLE.file[:HEADER_SIZE])


def test_another_version_or_publisher_than_expected_is_refused() -> None:
    with pytest.raises(FormatError, match="was expected"):
        PackageParser(None, bytes(32)).feed(0, SAMPLE.file)
    with pytest.raises(SignatureError, match="not trusted"):
        PackageParser(None, trusted={SERVER}).feed(0, SAMPLE.file)


@given(st.binary(max_size=700))
def test_any_bytes_end_in_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_package(data)


def test_frames_hold_one_block_of_a_large_file_or_many_small_files() -> None:
    source = random.Random(1)
    contents = {b"%02d" % i: source.randbytes(30_000) for i in range(20)} | {
        b"large": source.randbytes(200_000)
    }
    tree = build_tree({path: Node(Kind.FILE, 0o644, size=len(plain)) for path, plain in contents.items()})
    ids = b"".join(map(block_id, plain_blocks(tree, contents)))
    plan = plan_frames(tree, ids)
    assert [len(frame) for frame in plan] == [8, 8, 1, 1, 1, 1, 4]
    for frame in plan:
        assert sum(map(tree.block_size, frame)) <= FRAME_PLAIN_MAX
    layout = Layout([7] * len(plan), plan, tree, ids)
    assert decode_layout(encode_layout(layout), tree, ids) == layout
    assert layout.place(2) == (14, 7)


def test_equal_blocks_are_stored_once_and_found_twice() -> None:
    first, second = TREE.find(b"usr/share/calculator/digits"), TREE.find(b"usr/share/calculator/digits.copy")
    assert first is not None
    assert second is not None
    layout = PACKAGE.layout
    assert layout.frame_of(TREE.first_block(first)) == layout.frame_of(TREE.first_block(second))
    assert TREE.first_block(second) not in layout.blocks(layout.frame_of(TREE.first_block(second)))


def test_an_incompressible_frame_still_fits_its_limit() -> None:
    plain = random.Random(3).randbytes(65536)
    stored = encode_frame([plain] * 4)
    assert decompress(stored, FRAME_PLAIN_MAX) == plain * 4
    assert len(compress(random.Random(4).randbytes(FRAME_PLAIN_MAX))) <= FRAME_PLAIN_MAX + 4096


@given(st.binary(max_size=5000), st.binary(max_size=100))
def test_compressed_bytes_come_back(plain: bytes, dictionary: bytes) -> None:
    stored = compress(plain, 3, dictionary)
    assert decompress(stored, len(plain), dictionary) == plain
    with pytest.raises(FormatError):
        decompress(stored, len(plain) + 1, dictionary)
    with pytest.raises(FormatError):
        decompress(stored + b"\0", len(plain), dictionary)


def test_a_bomb_is_refused_before_it_grows() -> None:
    bomb = compress(bytes(300 << 20))
    with pytest.raises(FormatError, match="where 65536 were expected"):
        decompress(bomb, 65536)
    with pytest.raises(FormatError, match="cannot hold"):
        decompress(bomb[:20], 300 << 20)


def test_page_hashes_make_up_the_block_id() -> None:
    assert len(page_hashes(bytes(65536))) == 16 * 32
    assert len(page_hashes(bytes(4097))) == 2 * 32
    assert block_id(b"a") != block_id(b"a\0")
    for wrong in (b"", bytes(65537)):
        with pytest.raises(FormatError):
            block_id(wrong)
