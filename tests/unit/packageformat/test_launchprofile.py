"""Launch profiles: any bytes end in FormatError, and a profile finds its pages again after a rebuild."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.hashing import block_id, file_content_id
from packageformat.launchpack import PackExtent
from packageformat.launchprofile import (
    LaunchProfile,
    PackageProfiles,
    ProfileContent,
    ProfileRun,
    Touch,
    content_index,
    decode_profiles,
    encode_profiles,
    extents_of,
)
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.tree import Kind, Node, Tree, build_tree
from tests.vectors.sample import make_profiles

Layer = tuple[bytes, Tree, bytes]
BYTES = random.Random(5).randbytes(40 * PAGE_SIZE)
LIBRARY, PROGRAM, PICTURE = BYTES[: 35 * PAGE_SIZE + 9], BYTES[7 : 5 * PAGE_SIZE], BYTES[9:70_000]


def layer(number: int, files: dict[str, bytes], **others: Node) -> Layer:
    """Return a layer of these files and other entries, `/` in the names of others written `__`."""
    nodes = {path.replace("__", "/").encode(): node for path, node in others.items()}
    nodes |= {path.encode(): Node(Kind.FILE, 0o644, size=len(plain)) for path, plain in files.items()}
    for path in list(nodes):
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            nodes.setdefault(path, Node(Kind.FOLDER, 0o755))
    tree = build_tree(nodes)
    ids = []
    for block in range(tree.block_count):
        entry, offset = tree.block_place(block)
        ids.append(block_id(files[tree.path(entry).decode()][offset : offset + BLOCK_SIZE]))
    return bytes([number]) * 32, tree, b"".join(ids)


def content(path: str, plain: bytes) -> ProfileContent:
    ids = b"".join(block_id(plain[start : start + BLOCK_SIZE]) for start in range(0, len(plain), BLOCK_SIZE))
    return ProfileContent(file_content_id(len(plain), ids), len(plain), path.encode())


def profile(contents: list[ProfileContent], touches: list[tuple[int, int, int]]) -> LaunchProfile:
    found = tuple(Touch(number, first, pages, 0, 0) for number, first, pages in touches)
    return LaunchProfile("app", bytes(32), (ProfileRun("first launch", 1),), tuple(contents), found, 0)


def resolved(
    wanted: LaunchProfile, layers: list[Layer], close_gaps: int = 0
) -> tuple[list[tuple[int, ...]], int]:
    trees = [tree for _, tree, _ in layers]
    extents, missing = extents_of(wanted, content_index(layers), trees, close_gaps)
    return [(item.layer, item.block, item.first_page, item.pages) for item in extents], missing


CONTENTS = [content("usr/lib/library", LIBRARY), content("usr/bin/program", PROGRAM)]
BASE = layer(1, {"usr/lib/library": LIBRARY, "usr/share/picture": PICTURE})
APPLICATION = layer(2, {"usr/bin/program": PROGRAM})


@st.composite
def profiles(draw: st.DrawFn) -> LaunchProfile:
    contents = [
        ProfileContent(bytes([number + 1]) * 32, draw(st.integers(1, 300_000)), f"usr/{number}".encode())
        for number in range(draw(st.integers(0, 4)))
    ]
    runs = draw(
        st.lists(st.builds(ProfileRun, st.just("a run"), st.integers(0, 9999)), min_size=1, max_size=3)
    )
    pages = [(number, page) for number, item in enumerate(contents) for page in range(item.pages)]
    chosen = draw(st.lists(st.sampled_from(pages), unique=True, max_size=20)) if pages else []
    touches = tuple(
        Touch(number, page, 1, draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, len(runs) - 1)))
        for number, page in chosen
    )
    window = draw(st.integers(0, len(touches)))
    return LaunchProfile("app", bytes(range(32)), tuple(runs), tuple(contents), touches, window)


@given(st.lists(profiles(), max_size=3))
def test_what_is_written_is_read_again(found: list[LaunchProfile]) -> None:
    named = tuple(replace(item, application=f"app{number}") for number, item in enumerate(found))
    whole = PackageProfiles(bytes(range(1, 33)), named)
    assert decode_profiles(encode_profiles(whole)) == whole


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_profiles(data)


WHOLE = encode_profiles(make_profiles())


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_seen(place: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1 << bit
    with pytest.raises(FormatError):
        decode_profiles(bytes(damaged))


@pytest.mark.parametrize(
    "touches", [[(0, 0, 2), (0, 1, 1)], [(0, 36, 1)], [(0, 0, 0)], [(2, 0, 1)], [(1, 5, 1)], [(0, -1, 1)]]
)
def test_pages_that_are_not_there_or_twice_make_no_profile(touches: list[tuple[int, int, int]]) -> None:
    with pytest.raises(FormatError):
        profile(CONTENTS, touches)


def test_what_leads_to_the_window_is_a_profile_of_its_own() -> None:
    whole = make_profiles().profiles[0]
    part = whole.before_window()
    assert part.touches == whole.touches[:3]
    assert (part.pages, whole.pages) == (6, 28)
    assert whole.window_ms == 812
    assert make_profiles().of("never") is not None
    assert make_profiles().of("other") is None


def test_the_pages_are_given_in_order_and_split_at_blocks() -> None:
    wanted = profile(CONTENTS, [(0, 14, 20), (1, 4, 1), (0, 3, 2), (1, 0, 1), (1, 1, 1)])
    assert resolved(wanted, [BASE, APPLICATION]) == (
        [(0, 0, 14, 2), (0, 1, 0, 16), (0, 2, 0, 2), (1, 0, 4, 1), (0, 0, 3, 2), (1, 0, 0, 2)],
        0,
    )


def test_a_profile_survives_a_rebuild_that_moves_its_files() -> None:
    wanted = profile(CONTENTS, [(0, 3, 1), (1, 0, 5), (0, 33, 1)])
    moved = layer(3, {"opt/a-picture": PICTURE, "opt/library": LIBRARY, "opt/program": PROGRAM})
    empty = layer(4, {"usr/lib/other": b"other"})
    assert resolved(wanted, [empty, moved]) == ([(1, 2, 3, 1), (1, 5, 0, 5), (1, 4, 1, 1)], 0)
    assert resolved(wanted, [APPLICATION, BASE]) == ([(1, 0, 3, 1), (0, 0, 0, 5), (1, 2, 1, 1)], 0)


def test_a_content_that_is_there_twice_is_taken_from_the_lowest_layer() -> None:
    wanted = profile(CONTENTS, [(1, 0, 1)])
    again = layer(3, {"usr/a": PROGRAM, "usr/b": PROGRAM})
    assert resolved(wanted, [again, APPLICATION]) == ([(0, 0, 0, 1)], 0)
    assert resolved(wanted, [APPLICATION, again]) == ([(0, 0, 0, 1)], 0)


def test_a_changed_file_is_found_by_its_path_as_far_as_it_reaches() -> None:
    wanted = profile(CONTENTS, [(0, 1, 2), (0, 17, 4), (0, 30, 3), (1, 0, 1)])
    shorter = layer(3, {"usr/lib/library": BYTES[-19 * PAGE_SIZE :], "usr/share/picture": PICTURE})
    found, missing = resolved(wanted, [shorter, APPLICATION])
    assert found == [(0, 0, 1, 2), (0, 1, 1, 2), (1, 0, 0, 1)]
    assert missing == 2 + 3


def test_a_changed_file_is_the_one_that_the_merged_view_shows() -> None:
    wanted = profile(CONTENTS[:1], [(0, 0, 2)])
    below = layer(1, {"usr/lib/library": PICTURE})
    above = layer(2, {"usr/lib/library": PROGRAM})
    assert resolved(wanted, [below, above]) == ([(1, 0, 0, 2)], 0)
    assert resolved(wanted, [below, layer(2, {"usr/bin/x": b"x"})]) == ([(0, 0, 0, 2)], 0)
    for hidden in (
        layer(2, {}, usr__lib__library=Node(Kind.WHITEOUT)),
        layer(2, {}, usr__lib=Node(Kind.WHITEOUT)),
        layer(2, {}, usr__lib=Node(Kind.SYMLINK, 0o777, target=b"share")),
        layer(2, {}, usr__lib=Node(Kind.FOLDER, 0o755, opaque=True)),
        layer(2, {}, usr__lib__library=Node(Kind.FOLDER, 0o755)),
        layer(2, {"usr/lib/library": b""}),
    ):
        assert resolved(wanted, [below, hidden]) == ([], 2)


def test_two_contents_that_became_one_give_no_page_twice() -> None:
    wanted = profile([*CONTENTS, content("usr/lib/library", PICTURE)], [(0, 0, 4), (2, 2, 4)])
    changed = layer(1, {"usr/lib/library": BYTES[5:]})
    assert resolved(wanted, [changed]) == ([(0, 0, 0, 6)], 0)


def test_small_holes_are_closed_and_go_with_the_earlier_neighbour() -> None:
    wanted = profile(CONTENTS, [(0, 4, 1), (1, 0, 1), (0, 0, 1), (0, 8, 1), (0, 12, 2), (0, 16, 1)])
    assert resolved(wanted, [BASE, APPLICATION], 3) == (
        [(0, 0, 1, 7), (1, 0, 0, 1), (0, 0, 0, 1), (0, 0, 8, 6), (0, 1, 0, 1)],
        0,
    )
    assert len(resolved(wanted, [BASE, APPLICATION], 2)[0]) == 6


@given(profiles(), st.integers(0, 15))
def test_with_holes_closed_every_page_is_there_once(wanted: LaunchProfile, close_gaps: int) -> None:
    nodes = {item.path: Node(Kind.FILE, 0o644, size=item.size) for item in wanted.contents}
    tree = build_tree({b"usr": Node(Kind.FOLDER), **nodes})
    starts = [tree.first_block(tree.find(item.path) or 0) for item in wanted.contents]
    index = {item.content_id: (0, start) for item, start in zip(wanted.contents, starts, strict=True)}
    extents, missing = extents_of(wanted, index, [tree], close_gaps)
    assert missing == 0

    def pages(found: list[PackExtent]) -> list[tuple[int, int]]:
        return [
            (item.block, page)
            for item in found
            for page in range(item.first_page, item.first_page + item.pages)
        ]

    exact = pages(extents_of(wanted, index, [tree])[0])
    given_pages = pages(extents)
    assert len(set(given_pages)) == len(given_pages)
    assert set(exact) <= set(given_pages)
    assert exact == [
        (starts[touch.content] + touch.first_page // 16, touch.first_page % 16) for touch in wanted.touches
    ]
    for block in {block for block, _ in given_pages}:
        touched = sorted(page for number, page in exact if number == block)
        sent = {page for number, page in given_pages if number == block}
        for before, after in pairwise(touched):
            closed = after - before - 1 <= close_gaps
            assert (
                (set(range(before + 1, after)) <= sent)
                if closed
                else not set(range(before + 1, after)) & sent
            )
        assert min(sent) == touched[0]
        assert max(sent) == touched[-1]


def test_a_stack_of_25000_files_is_indexed_at_once() -> None:
    nodes = {b"f%d" % number: Node(Kind.FILE, 0o644, size=9000 + number) for number in range(25_000)}
    tree = build_tree(nodes)
    ids = random.Random(1).randbytes(32 * tree.block_count)
    started = time.process_time()
    index = content_index([(bytes(32), tree, ids)])
    assert time.process_time() - started < 0.2
    assert len(index) == 25_000
    assert index[file_content_id(9000, ids[: 32 * tree.file_block_count(1)])] == (0, 0)
