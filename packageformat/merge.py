"""The merge of layers into one tree, and its reverse. Pure; the rules are overlayfs's.

From the top down: a whiteout hides what is below it; a folder over a folder joins it, unless it is
opaque; anything else replaces what is below. A folder's attributes are those of the topmost layer that
has it. The merged tree has neither whiteouts nor opaque folders. Hard links of one file stay together as
far as they are visible; the first visible name becomes the FILE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from packageformat.columns import Columns
from packageformat.entry import Kind, Node, Xattrs
from packageformat.errors import FormatError
from packageformat.limits import STACK_MAX, TREE_ENTRIES_MAX
from packageformat.tree import Tree, build_tree

_FOLDER, _FILE, _SYMLINK, _HARDLINK, _WHITEOUT = (int(kind) for kind in Kind)


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged tree, and where each of its entries comes from."""

    tree: Tree
    sources: Sequence[tuple[int, int]]  # (layer, entry there); a name made FILE may come from a HARDLINK


def merge(trees: Sequence[Tree]) -> Merged:
    """Return the tree that these layers, bottom first, show together.

    Raises:
        FormatError: there are none, more than a bubble may have, or they show more than a tree may hold.
    """
    if not 0 < len(trees) <= STACK_MAX:
        raise FormatError(f"a bubble is of 1 to {STACK_MAX} packages")
    sources: list[tuple[int, int]] = []
    depths = bytearray()
    parents: list[int] = []
    all_kinds = [tree.kinds for tree in trees]
    all_names = [tree.names for tree in trees]
    all_opaques = [tree.opaques for tree in trees]
    all_children = [tree.children for tree in trees]

    def visible(folders: list[tuple[int, int]]) -> list[tuple[bytes, list[tuple[int, int]]]]:
        """Return what joined folders (topmost first) show.

        names in order, each with its places, topmost first.
        """
        if len(folders) == 1:
            layer, folder = folders[0]
            kinds, names = all_kinds[layer], all_names[layer]
            return [
                (names[child], [(layer, child)])
                for child in all_children[layer](folder)
                if kinds[child] != _WHITEOUT
            ]
        found: dict[bytes, list[tuple[int, int]]] = {}
        closed: set[bytes] = set()
        for layer, folder in folders:
            kinds, names, opaques = all_kinds[layer], all_names[layer], all_opaques[layer]
            for child in all_children[layer](folder):
                name = names[child]
                if name in closed:
                    continue
                kind = kinds[child]
                if kind != _FOLDER:
                    closed.add(name)
                    if kind != _WHITEOUT and name not in found:
                        found[name] = [(layer, child)]
                    continue
                found.setdefault(name, []).append((layer, child))
                if opaques[child]:
                    closed.add(name)
        return sorted(found.items())

    def roots() -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for layer in range(len(trees) - 1, -1, -1):
            found.append((layer, 0))
            if all_opaques[layer][0]:
                break
        return found

    first = roots()
    sources.append(first[0])
    depths.append(0)
    parents.append(0)
    # Depth first without recursion: folders to go on with, each with its place in the merged tree.
    stack = [(iter(visible(first)), 0)]
    while stack:
        names_left, parent = stack[-1]
        for _, places in names_left:
            layer, entry = places[0]
            index = len(sources)
            sources.append((layer, entry))
            depths.append(len(stack))
            parents.append(parent)
            if all_kinds[layer][entry] == _FOLDER:
                stack.append((iter(visible(places)), index))
                break
        else:
            stack.pop()
    if len(sources) > TREE_ENTRIES_MAX:
        raise FormatError(f"packages that show {len(sources)} entries together, allowed {TREE_ENTRIES_MAX}")
    tree = _tree_of(trees, sources, bytes(depths), parents)
    return Merged(tree, sources)


def _tree_of(
    trees: Sequence[Tree], sources: Sequence[tuple[int, int]], depths: bytes, parents: Sequence[int]
) -> Tree:
    """Return the tree of the chosen entries; names of one file find one another again."""
    kinds = bytearray(len(sources))
    links = [-1] * len(sources)
    # Where a layer has hard links: the merged place of each file's first visible name.
    linked = [set(tree.links) - {-1} for tree in trees]
    first_names: dict[tuple[int, int], int] = {}
    holders = list(sources)
    targets: dict[int, bytes] = {}
    xattrs: dict[int, Xattrs] = {}
    for index, (layer, entry) in enumerate(sources):
        tree = trees[layer]
        kind = tree.kinds[entry]
        if kind == _HARDLINK or (kind == _FILE and entry in linked[layer]):
            holder = (layer, tree.links[entry] if kind == _HARDLINK else entry)
            first = first_names.setdefault(holder, index)
            if first == index:
                kind, entry = _FILE, holder[1]
                holders[index] = holder
            else:
                kind, links[index] = _HARDLINK, first
                # A HARDLINK has no attributes of its own.
                holders[index] = (layer, -1)
        elif kind == _SYMLINK:
            targets[index] = tree.targets[entry]
        kinds[index] = kind
        if kind != _HARDLINK and entry in tree.xattrs:
            xattrs[index] = tree.xattrs[entry]

    def column(columns: Sequence[Sequence[int]]) -> list[int]:
        return [columns[layer][entry] if entry >= 0 else 0 for layer, entry in holders]

    names = [tree.names for tree in trees]
    return Tree(
        Columns(
            bytes(kinds),
            bytes(len(sources)),
            depths,
            [names[layer][entry] for layer, entry in sources],
            parents,
            column([tree.modes for tree in trees]),
            column([tree.uids for tree in trees]),
            column([tree.gids for tree in trees]),
            column([tree.mtimes_ns for tree in trees]),
            column([tree.sizes for tree in trees]),
            links,
            targets,
            xattrs,
        )
    )


def _same_content(base_entry: int, captured_entry: int) -> bool:
    return True


def diff(base: Tree, captured: Tree, same_content: Callable[[int, int], bool] = _same_content) -> Tree:
    """Return the layer that turns `base` into `captured`.

    Merging that layer over `base` gives `captured` again.

    Args:
        base: a merged tree, without whiteouts or opaque folders.
        captured: the tree as it is after; likewise.
        same_content: whether a file of `base` and a file of `captured` (indexes of their FILE entries), of
            one path and with equal attributes, hold the same bytes.
    """
    base_paths = base.paths()
    base_index = {path: index for index, path in enumerate(base_paths)}
    paths = captured.paths()
    groups = _groups(captured, paths)
    base_groups = _groups(base, base_paths)
    nodes: dict[bytes, Node] = {}

    def file_of(tree: Tree, index: int) -> int:
        return tree.links[index] if tree.links[index] >= 0 else index

    for index, path in enumerate(paths):
        before = base_index.get(path, -1)
        kind = captured.kinds[index]
        if before >= 0:
            if kind in (_FILE, _HARDLINK) and base.kinds[before] in (_FILE, _HARDLINK):
                mine, theirs = file_of(captured, index), file_of(base, before)
                unchanged = (
                    groups.get(mine) == base_groups.get(theirs)
                    and captured.node(mine) == base.node(theirs)
                    and same_content(theirs, mine)
                )
            else:
                unchanged = captured.node(index) == base.node(before)
            if unchanged and index:
                continue
        nodes[path] = captured.node(index)
    captured_paths = set(paths)
    for path, index in base_index.items():
        if path in captured_paths:
            continue
        above = base_paths[base.parents[index]]
        place = captured.find(above)
        if place is not None and captured.kinds[place] == _FOLDER:
            nodes[path] = Node(Kind.WHITEOUT)
    return build_tree(_with_folders(nodes, captured))


def _groups(tree: Tree, paths: Sequence[bytes]) -> Mapping[int, frozenset[bytes]]:
    """Return, for each file with hard links, the paths of all its names."""
    groups: dict[int, set[bytes]] = {}
    for index, link in enumerate(tree.links):
        if link >= 0:
            groups.setdefault(link, {paths[link]}).add(paths[index])
    return {index: frozenset(group) for index, group in groups.items()}


def _with_folders(nodes: Mapping[bytes, Node], captured: Tree) -> Mapping[bytes, Node]:
    complete = dict(nodes)
    for path in nodes:
        above = path
        while b"/" in above:
            above = above.rpartition(b"/")[0]
            if above in complete:
                break
            index = captured.find(above)
            assert index is not None
            complete[above] = captured.node(index)
    return complete
