"""Hypothesis strategies of trees and packages."""

from __future__ import annotations

from hypothesis import strategies as st

from packageformat.tree import Kind, Node, Tree, build_tree

NAMES = st.sampled_from([b"a", b"b", b"bin", b"lib", b"usr", b"\xff", b"name with space", b"x" * 255])
MODES = st.integers(0, 0o7777)
OWNERS = st.integers(0, 0xFFFFFFFE)
TIMES = st.integers(-(2**40) * 10**9, 2**40 * 10**9)
XATTRS = st.dictionaries(
    st.sampled_from([b"user.a", b"security.capability", b"user.b"]), st.binary(max_size=9)
)


@st.composite
def nodes(draw: st.DrawFn, *, layer: bool = True) -> dict[bytes, Node]:
    """Return nodes of a tree; with `layer`, whiteouts and opaque folders among them."""
    kinds = [Kind.FOLDER, Kind.FOLDER, Kind.FILE, Kind.FILE, Kind.SYMLINK, Kind.HARDLINK]
    if layer:
        kinds.append(Kind.WHITEOUT)
    found: dict[bytes, Node] = {b"": draw(folders(layer))}
    places = [b""]
    files: list[bytes] = []
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(places))
        name = draw(NAMES)
        path = parent + b"/" + name if parent else name
        if path in found:
            continue
        kind = draw(st.sampled_from(kinds))
        if kind == Kind.HARDLINK and not files:
            kind = Kind.FILE
        if kind == Kind.FOLDER:
            found[path] = draw(folders(layer))
            places.append(path)
        elif kind == Kind.FILE:
            size = draw(st.sampled_from([0, 1, 4096, 65535, 65536, 65537, 200_000]))
            found[path] = Node(
                kind, draw(MODES), draw(OWNERS), draw(OWNERS), draw(TIMES), size, xattrs=draw(sorted_xattrs())
            )
            files.append(path)
        elif kind == Kind.SYMLINK:
            found[path] = Node(kind, 0o777, target=draw(st.sampled_from([b"..", b"/etc/passwd", b"a"])))
        elif kind == Kind.HARDLINK:
            found[path] = Node(kind, target=draw(st.sampled_from(files)))
        else:
            found[path] = Node(kind)
    return found


@st.composite
def folders(draw: st.DrawFn, layer: bool) -> Node:
    """Return a folder."""
    return Node(
        Kind.FOLDER,
        draw(MODES),
        mtime_ns=draw(TIMES),
        xattrs=draw(sorted_xattrs()),
        opaque=layer and draw(st.booleans()),
    )


@st.composite
def sorted_xattrs(draw: st.DrawFn) -> tuple[tuple[bytes, bytes], ...]:
    """Return extended attributes in their order; most often none."""
    return tuple(sorted(draw(st.one_of(st.just({}), st.just({}), XATTRS)).items()))


def trees(*, layer: bool = True) -> st.SearchStrategy[Tree]:
    """Return trees: layers, or merged ones without whiteouts and opaque folders."""
    return nodes(layer=layer).map(build_tree)
