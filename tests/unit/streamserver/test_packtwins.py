"""Twins: files with the content of a touched one are found in every layer, few of each, small ones first."""

from __future__ import annotations

import random
import time

from packageformat.entry import Kind, Node
from packageformat.hashing import block_id
from packageformat.limits import BLOCK_SIZE
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree, build_tree
from streamserver.packtwins import EXTRA_MIN, EXTRA_PART, TWINS_MAX, TwinIndex, twin_index, twins_of

KEYS, LICENCE, BIG = (random.Random(seed).randbytes(size) for seed, size in ((1, 900), (2, 50), (3, 300_000)))


def layer(files: dict[str, bytes], **links: str) -> tuple[Tree, bytes]:
    """Return the tree and the block ids of a layer with these files, and hard links to them."""
    nodes = {path.encode(): Node(Kind.FILE, 0o644, size=len(plain)) for path, plain in files.items()}
    nodes |= {path.encode(): Node(Kind.HARDLINK, target=file.encode()) for path, file in links.items()}
    tree = build_tree(nodes)
    ids = []
    for block in range(tree.block_count):
        entry, offset = tree.block_place(block)
        ids.append(block_id(files[tree.path(entry).decode()][offset : offset + BLOCK_SIZE]))
    return tree, b"".join(ids)


def stack(*layers: tuple[Tree, bytes]) -> tuple[list[Tree], TwinIndex]:
    return [tree for tree, _ in layers], twin_index(layers)


def test_twins_are_found_in_their_own_layer_and_in_others() -> None:
    below = layer({"a": LICENCE, "default": KEYS, "inkscape": KEYS})
    trees, index = stack(below, layer({"empty": b"", "keys": KEYS, "other": BIG}, more="keys"))
    assert index == {place: ((0, 1), (0, 2), (1, 0)) for place in ((0, 1), (0, 2), (1, 0))}
    assert twins_of([PackExtent(0, 1, 0, 1)], index, trees) == [(0, 2), (1, 0)]
    assert twins_of([PackExtent(1, 0, 0, 1), PackExtent(0, 1, 0, 1)], index, trees) == [(0, 2)]
    assert twins_of([PackExtent(0, 0, 0, 1), PackExtent(1, 3, 0, 4)], index, trees) == []


def test_a_twin_is_told_by_its_first_block_whichever_block_is_touched() -> None:
    trees, index = stack(layer({"a": BIG, "b": BIG}))
    assert twins_of([PackExtent(0, 3, 2, 1), PackExtent(0, 1, 0, 1)], index, trees) == [(0, 5)]


def test_of_a_common_content_few_twins_are_proved() -> None:
    trees, index = stack(layer({f"{number:04}": LICENCE for number in range(1000)} | {"big": bytes(1 << 26)}))
    touched = [PackExtent(0, 0, 0, 1), PackExtent(0, 1000, 0, 1)]
    assert twins_of(touched, index, trees) == [(0, number) for number in range(1, TWINS_MAX + 1)]


def test_all_twins_are_a_quarter_of_the_touched_blocks_and_the_smallest_come_first() -> None:
    contents = {name: random.Random(name).randbytes(1000) for name in map(str, range(100, 300))}
    files = {f"{name}{twin}": plain for name, plain in contents.items() for twin in "ab"}
    trees, index = stack(layer({"0": BIG, "1": BIG} | files))
    touched = [PackExtent(0, 0, 0, 1), *(PackExtent(0, 10 + 2 * number, 0, 1) for number in range(200))]
    found = twins_of(touched, index, trees)
    assert len(found) == (200 + 5) // EXTRA_PART
    assert (0, 5) not in found, "the large one, which costs most"
    assert len(twins_of(touched[:40], index, trees)) == EXTRA_MIN


def test_a_twin_that_is_too_large_is_left_out_whole() -> None:
    large = bytes(BLOCK_SIZE * (EXTRA_MIN + 1))
    trees, index = stack(layer({"a": large, "b": large}))
    assert twins_of([PackExtent(0, 0, 0, 1)], index, trees) == []


def test_a_stack_of_25000_files_is_indexed_at_once() -> None:
    tree = build_tree(
        {b"f%d" % number: Node(Kind.FILE, 0o644, size=9000 + number) for number in range(25_000)}
    )
    ids = random.Random(1).randbytes(32 * tree.block_count)
    started = time.process_time()
    assert twin_index([(tree, ids), (tree, ids)]).keys() == {
        (layer, first) for layer in (0, 1) for _, first in tree.files()
    }
    assert time.process_time() - started < 0.5
