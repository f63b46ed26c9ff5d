"""The second listing of a folder: what a launch will look up."""

from __future__ import annotations

from pathlib import Path

import pytest

from bubble.composition import write_view
from bubble.namesahead import AHEAD, ENTRIES_MAX, NamesAhead
from bubble.viewfiles import ViewFiles
from bubble.viewimage import ROOT, ViewImage, load
from packageformat.entry import Kind, Node
from packageformat.hashing import digest
from packageformat.tree import build_tree
from tests.unit.bubble.test_viewimage import FOLDER, names_in

MANY = 3 * ENTRIES_MAX


def file(size: int = 10) -> Node:
    return Node(Kind.FILE, 0o644, size=size)


def link(target: bytes) -> Node:
    return Node(Kind.SYMLINK, 0o777, target=target)


BELOW = {
    b"usr": FOLDER,
    b"usr/lib": FOLDER,
    b"usr/lib/liba.so.1.2": file(),
    b"usr/lib/liba.so.1": link(b"liba.so.1.2"),
    b"usr/lib/liba.so": link(b"liba.so.1"),
    b"usr/lib/libb.so.7": file(),
    b"usr/lib/far": link(b"../lib/libb.so.7"),
    b"usr/lib/hidden": link(b"libb.so.7"),
    b"usr/lib/lost": FOLDER,
    b"usr/lib/lost/file": file(),
    b"usr/lib/moved": FOLDER,
    b"usr/lib/moved/deep": FOLDER,
    b"usr/lib/moved/deep/file": file(),
    b"usr/lib/moved/file": file(),
    b"usr/lib/turned": FOLDER,
    b"usr/lib/turned/file": file(),
    b"usr/share": FOLDER,
    **{b"usr/share/%03d" % number: file() for number in range(MANY)},
}
ABOVE = {
    b"usr": FOLDER,
    b"usr/lib": FOLDER,
    b"usr/lib/hidden": file(),
    b"usr/lib/lost": Node(Kind.WHITEOUT),
    b"usr/lib/moved": link(b"../share"),
    b"usr/lib/turned": file(),
}


@pytest.fixture
def image(tmp_path: Path) -> ViewImage:
    layers = []
    for label, nodes in ((b"below", BELOW), (b"above", ABOVE)):
        tree = build_tree(nodes)
        layers.append((digest(label), tree, b"".join(digest(b"%d" % n) for n in range(tree.block_count))))
    write_view(tmp_path / "image", layers)
    return load((tmp_path / "image").read_bytes())


def node(image: ViewImage, path: bytes) -> int:
    found = image.find(path)
    assert found is not None
    return found


def test_a_file_brings_its_folders_and_the_links_beside_it(image):
    ahead = NamesAhead(image)
    assert ahead.want([node(image, b"usr/lib/liba.so.1.2")]) == [(b"", 0), (b"usr", 0), (b"usr/lib", 0)]
    assert ahead.entries(ROOT, 0) == [(b"usr", node(image, b"usr"))]
    assert [name for name, _ in ahead.entries(node(image, b"usr/lib"), 0)] == [b"liba.so.1.2", b"liba.so.1"]
    assert ahead.want([node(image, b"usr/lib/liba.so.1.2")]) == [], "it is known"


def test_a_folder_is_listed_from_what_is_new(image):
    ahead = NamesAhead(image)
    ahead.want([node(image, b"usr/lib/liba.so.1.2")])
    assert ahead.want([node(image, b"usr/lib/libb.so.7"), node(image, b"usr/share/001")]) == [
        (b"usr/lib", 2),
        (b"usr", 1),
        (b"usr/share", 0),
    ]
    assert ahead.entries(node(image, b"usr/lib"), 2) == [(b"libb.so.7", node(image, b"usr/lib/libb.so.7"))], (
        "what is hidden is no link, and a link through another folder is looked up as it comes"
    )


@pytest.mark.parametrize(
    ("hidden", "listed"),
    [
        (b"lost/file", []),
        (b"moved/file", [b"moved"]),
        (b"moved/deep/file", [b"moved"]),
        (b"turned/file", [b"turned"]),
    ],
)
def test_what_another_layer_hides_is_wanted_by_nobody(image, hidden, listed):
    below = next(
        number << 20 | entry
        for number, layer in enumerate(image._layers)
        if (entry := layer.find(b"usr/lib/" + hidden)) is not None
    )
    ahead = NamesAhead(image)
    places = ahead.want([below, node(image, b"usr/share/001")])
    assert places[:2] == [(b"", 0), (b"usr", 0)]
    assert [name for name, _ in ahead.entries(node(image, b"usr/lib"), 0)] == listed
    assert [name for name, _ in ahead.entries(node(image, b"usr/share"), 0)] == [b"001"]


def test_what_there_is_not_is_refused(image):
    with pytest.raises(IndexError):
        NamesAhead(image).want([1 << 40])


@pytest.mark.parametrize("size", [200, 4096, 1 << 17])
def test_the_kernel_reads_the_wanted_names_behind_all_others(image, size):
    ahead = NamesAhead(image)
    told: list[int] = []
    view = ViewFiles(image, 1000, 1000, ahead, told.append)
    share, lib = node(image, b"usr/share"), node(image, b"usr/lib")
    wanted = [node(image, b"usr/share/%03d" % number) for number in range(MANY - 1, 0, -1)]
    ahead.want([*wanted, node(image, b"usr/lib/liba.so.1.2")])
    assert names_in(view, share, size, AHEAD) == [b"%03d" % number for number in range(MANY - 1, 0, -1)]
    assert told == wanted
    assert names_in(view, share, size, AHEAD + MANY - 2) == [b"001"]
    assert names_in(view, share, size, AHEAD + MANY) == names_in(view, share, size, (1 << 64) - 1) == []
    assert len(names_in(view, share, size)) == 2 + MANY, "the folder's own listing is whole"
    assert names_in(view, lib, size, AHEAD) == [b"liba.so.1.2", b"liba.so.1"]


def test_a_view_without_wanted_names_lists_none(image):
    assert names_in(ViewFiles(image, 1000, 1000), ROOT, 4096, AHEAD) == []
