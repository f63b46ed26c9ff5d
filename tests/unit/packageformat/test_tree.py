"""Trees: what is built is what is read, and what cannot be is refused."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.tree import Kind, Node, build_tree, decode_tree, encode_tree
from tests.unit.packageformat.strategies import nodes

FILE = Node(Kind.FILE, 0o644, size=5)
FOLDER = Node(Kind.FOLDER, 0o755)


@given(nodes())
def test_what_is_encoded_is_decoded_again(found: dict[bytes, Node]) -> None:
    tree = build_tree(found)
    assert decode_tree(encode_tree(tree)) == tree
    assert encode_tree(decode_tree(encode_tree(tree))) == encode_tree(tree)


@given(nodes())
def test_every_node_is_found_at_its_path_with_its_attributes(found: dict[bytes, Node]) -> None:
    tree = build_tree(found)
    assert len(tree) == len(found)
    for path, node in found.items():
        index = tree.find(path)
        assert index is not None
        assert tree.path(index) == path
        if node.kind not in (Kind.FILE, Kind.HARDLINK):
            assert tree.node(index) == node
        else:
            file = found[node.target] if node.kind == Kind.HARDLINK else node
            holder = tree.links[index] if tree.links[index] >= 0 else index
            assert tree.node(holder) == file
            assert tree.file_size(index) == file.size
    assert tree.find(b"no/such") is None


@given(nodes())
def test_entries_are_in_preorder_with_sorted_siblings(found: dict[bytes, Node]) -> None:
    tree = build_tree(found)
    paths = [tree.path(index).split(b"/") for index in range(1, len(tree))]
    assert paths == sorted(paths)
    for index in range(1, len(tree)):
        assert tree.parents[index] < index
        assert tree.kinds[tree.parents[index]] == Kind.FOLDER
        assert index in tree.children(tree.parents[index])
    assert 0 not in tree.children(0)


@given(nodes())
def test_blocks_are_numbered_through_the_files_in_order(found: dict[bytes, Node]) -> None:
    tree = build_tree(found)
    block = 0
    for index in range(len(tree)):
        if tree.kinds[index] != Kind.FILE:
            continue
        assert tree.first_block(index) == (block if tree.sizes[index] else -1)
        for offset in range(0, tree.sizes[index], 65536):
            assert tree.block_place(block) == (index, offset)
            assert tree.block_size(block) == min(65536, tree.sizes[index] - offset)
            block += 1
    assert tree.block_count == block
    assert tree.plain_bytes == sum(tree.block_sizes())


def test_the_first_name_of_a_hard_linked_file_is_the_file() -> None:
    link = Node(Kind.HARDLINK, target=b"m")
    tree = build_tree({b"m": FILE, b"z": link, b"a": link})
    assert [tree[index].kind for index in range(4)] == [Kind.FOLDER, Kind.FILE, Kind.HARDLINK, Kind.HARDLINK]
    assert tree[2].link == tree[3].link == 1
    assert tree[3].target == b"a"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({b"../etc": FILE}, "climb"),
        ({b"a/../b": FILE}, "climb"),
        ({b"/etc": FILE}, "0 bytes"),
        ({b"a\0": FILE}, "climb"),
        ({b"x" * 300: FILE}, "300 bytes"),
        ({b"a/b": FILE}, "no parent"),
        ({b"a": Node(Kind.SYMLINK, 0o777, target=b"/etc"), b"a/b": FILE}, "no parent"),
        ({b"a": Node(Kind.HARDLINK, target=b"b")}, "hard link to no file"),
        ({b"a": Node(Kind.HARDLINK, target=b"b"), b"b": FOLDER}, "hard link to no file"),
        ({b"a": Node(Kind.HARDLINK, 0o644, target=b"b"), b"b": FILE}, "attributes of its own"),
        ({b"a": Node(Kind.FILE, 0o10000)}, "mode"),
        ({b"a": Node(Kind.FILE, size=-1)}, "size"),
        ({b"a": Node(Kind.FOLDER, size=1)}, "size"),
        ({b"a": Node(Kind.FILE, target=b"b")}, "target"),
        ({b"a": Node(Kind.FILE, opaque=True)}, "opaque"),
        ({b"a": Node(Kind.SYMLINK, 0o777)}, "target"),
        ({b"a": Node(Kind.FILE, xattrs=((b"trusted.overlay.origin", b""),))}, "not allowed"),
        ({b"/".join([b"d"] * depth): FOLDER for depth in range(1, 130)}, "deeper"),
    ],
)
def test_what_cannot_be_is_refused(found: dict[bytes, Node], what: str) -> None:
    with pytest.raises(FormatError, match=what):
        build_tree(found)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_tree(data)


@given(nodes(), st.data())
def test_a_flipped_bit_is_refused_or_means_something_else(
    found: dict[bytes, Node], data: st.DataObject
) -> None:
    tree = build_tree(found)
    damaged = bytearray(encode_tree(tree))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = decode_tree(bytes(damaged))
    except FormatError:
        return
    assert other != tree
    assert encode_tree(other) == bytes(damaged)


def test_a_large_tree_is_read_quickly() -> None:
    source = random.Random(1)
    found = {b"d": FOLDER}
    folders = [b"d"]
    for number in range(25_000):
        path = source.choice(folders) + b"/entry-%d" % number
        found[path] = FOLDER if source.random() < 0.1 and path.count(b"/") < 9 else FILE
        if found[path] is FOLDER:
            folders.append(path)
    data = encode_tree(build_tree(found))
    started = time.process_time()
    decode_tree(data)
    assert time.process_time() - started < 0.5  # 0.05 s on a machine of 2026; a wide margin for a busy one
