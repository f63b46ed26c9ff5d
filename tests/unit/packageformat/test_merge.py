"""The merge of layers, against overlayfs's rules written down once more in the plainest way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from packageformat.merge import diff, merge
from packageformat.tree import Kind, Node, Tree, build_tree
from tests.unit.packageformat.strategies import trees

FILE = Node(Kind.FILE, 0o644, size=5)
FOLDER = Node(Kind.FOLDER, 0o755)
WHITEOUT = Node(Kind.WHITEOUT)


@settings(max_examples=40)
@given(trees(layer=False), trees(layer=False))
def test_a_layer_turns_the_base_into_what_was_captured(base: Tree, captured: Tree) -> None:
    assert merge([base, diff(base, captured)]).tree == captured


@settings(max_examples=40)
@given(trees(layer=False), trees(layer=False), trees(layer=False))
def test_two_captures_in_a_row_stack(base: Tree, first: Tree, second: Tree) -> None:
    assert merge([base, diff(base, first), diff(first, second)]).tree == second


@settings(max_examples=40)
@given(trees(layer=False))
def test_one_whole_layer_is_itself(tree: Tree) -> None:
    assert merge([tree]).tree == tree


@settings(max_examples=40)
@given(trees(layer=False))
def test_nothing_changed_is_an_empty_layer(tree: Tree) -> None:
    assert len(diff(tree, tree)) == 1


def naive(layers: list[Tree]) -> dict[bytes, tuple[int, int]]:
    """Return path -> (layer, entry) of what shows, one layer over the other, the slow way."""
    shown: dict[bytes, tuple[int, int]] = {}
    for layer, tree in enumerate(layers):
        for index in range(len(tree)):
            path = tree.path(index)
            folder_over_folder = (
                tree.kinds[index] == Kind.FOLDER
                and not tree.opaques[index]
                and path in shown
                and layers[shown[path][0]].kinds[shown[path][1]] == Kind.FOLDER
            )
            if not folder_over_folder:
                below = path + b"/" if path else b""
                shown = (
                    {
                        other: place
                        for other, place in shown.items()
                        if other != path and not other.startswith(below)
                    }
                    if path
                    else {}
                )
            if tree.kinds[index] != Kind.WHITEOUT:
                shown[path] = (layer, index)
    return shown


@settings(max_examples=40)
@given(st.lists(trees(), min_size=1, max_size=4))
def test_any_layers_show_what_overlayfs_would_show(layers: list[Tree]) -> None:
    merged = merge(layers)
    shown = naive(layers)
    assert [merged.tree.path(index) for index in range(len(merged.tree))] == sorted(
        shown, key=lambda path: path.split(b"/") if path else []
    )
    for index in range(len(merged.tree)):
        layer, entry = merged.sources[index]
        assert (layer, entry) == shown[merged.tree.path(index)]
        assert merged.tree.file_size(index) == layers[layer].file_size(entry)
        assert not merged.tree.opaques[index]
        assert merged.tree.kinds[index] != Kind.WHITEOUT


def test_hard_links_stay_together_when_the_first_name_is_hidden() -> None:
    link = Node(Kind.HARDLINK, target=b"a")
    base = build_tree({b"a": FILE, b"b": link, b"c": link})
    merged = merge([base, build_tree({b"a": WHITEOUT})])
    assert merged.tree == build_tree({b"b": FILE, b"c": Node(Kind.HARDLINK, target=b"b")})
    assert merged.sources[1] == (0, 2)


def test_a_file_over_a_folder_hides_all_of_it() -> None:
    base = build_tree({b"d": FOLDER, b"d/x": FILE})
    assert merge([base, build_tree({b"d": FILE})]).tree == build_tree({b"d": FILE})


def test_a_changed_file_with_equal_attributes_is_told_by_its_content() -> None:
    tree = build_tree({b"d": FOLDER, b"d/x": FILE, b"d/y": FILE})
    changed = tree.find(b"d/x")
    layer = diff(tree, tree, lambda _base, captured: captured != changed)
    assert layer.find(b"d/x") is not None
    assert layer.find(b"d/y") is None
