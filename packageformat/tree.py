"""The tree of a package: its entries in preorder, held in columns.

A tree cannot be wrong: whatever makes one (`build_tree`, `decode_tree`, `merge`) has checked it. Names
are single components, a parent is a folder (so no symbolic link is in the way), a hard link points back
at a file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from packageformat.columns import Columns, columns_of, decode_columns, encode_columns
from packageformat.entry import Entry, Kind, Node
from packageformat.limits import BLOCK_SIZE

__all__ = ["Entry", "Kind", "Node", "Tree", "build_tree", "decode_tree", "encode_tree"]


class Tree:
    """An immutable tree. Entry 0 is the root folder; siblings are sorted by their names' bytes.

    Block numbers are implied: the files in order have ceil(size / 65536) blocks each, numbered from 0
    through the whole tree. A hard link has its file's blocks.
    """

    __slots__ = (
        "_children",
        "_file_entries",
        "_file_starts",
        "_first_blocks",
        "_paths",
        "block_count",
        "columns",
        "depths",
        "gids",
        "kinds",
        "links",
        "modes",
        "mtimes_ns",
        "names",
        "opaques",
        "parents",
        "plain_bytes",
        "sizes",
        "targets",
        "uids",
        "xattrs",
    )

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.kinds = columns.kinds
        self.opaques = columns.opaques
        self.depths = columns.depths
        self.names = columns.names
        self.parents = columns.parents
        self.modes = columns.modes
        self.uids = columns.uids
        self.gids = columns.gids
        self.mtimes_ns = columns.mtimes_ns
        self.sizes = columns.sizes
        self.links = columns.links
        self.targets = columns.targets
        self.xattrs = columns.xattrs
        entries: list[int] = []
        starts: list[int] = []
        block = 0
        for index, size in enumerate(self.sizes):
            if size:
                entries.append(index)
                starts.append(block)
                block += -(-size // BLOCK_SIZE)
        self._file_entries = entries
        self._file_starts = starts
        self._first_blocks = dict(zip(entries, starts, strict=True))
        self.block_count = block
        self.plain_bytes = sum(self.sizes)
        self._children: dict[int, list[int]] | None = None
        self._paths: dict[bytes, int] | None = None

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> Entry:
        if not 0 <= index < len(self.kinds):
            raise IndexError(index)
        return Entry(
            Kind(self.kinds[index]),
            self.names[index],
            self.parents[index],
            self.modes[index],
            self.uids[index],
            self.gids[index],
            self.mtimes_ns[index],
            self.sizes[index],
            self.target(index),
            self.links[index],
            self.xattrs.get(index, ()),
            bool(self.opaques[index]),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        return (
            self.kinds == other.kinds
            and self.opaques == other.opaques
            and self.depths == other.depths
            and all(
                tuple(mine) == tuple(theirs)
                for mine, theirs in (
                    (self.names, other.names),
                    (self.modes, other.modes),
                    (self.uids, other.uids),
                    (self.gids, other.gids),
                    (self.mtimes_ns, other.mtimes_ns),
                    (self.sizes, other.sizes),
                    (self.links, other.links),
                )
            )
            and self.targets == other.targets
            and self.xattrs == other.xattrs
        )

    def __hash__(self) -> int:
        return hash((self.kinds, self.depths, tuple(self.sizes)))

    def __repr__(self) -> str:
        return f"<Tree of {len(self)} entries, {self.block_count} blocks>"

    def target(self, index: int) -> bytes:
        """Return the text of a symbolic link, or the path of a hard link's file; empty for others."""
        link = self.links[index]
        return self.path(link) if link >= 0 else self.targets.get(index, b"")

    def node(self, index: int) -> Node:
        """Return the entry as a builder would add it."""
        entry = self[index]
        return Node(
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.size,
            entry.target,
            entry.xattrs,
            entry.opaque,
        )

    def path(self, index: int) -> bytes:
        """Return the path of an entry, relative to the root, whose own is empty."""
        parts: list[bytes] = []
        while index:
            parts.append(self.names[index])
            index = self.parents[index]
        return b"/".join(reversed(parts))

    def paths(self) -> list[bytes]:
        """Return the path of each entry, in order."""
        paths = [b""]
        parents = self.parents
        for index, name in enumerate(self.names[1:], 1):
            parent = parents[index]
            paths.append(paths[parent] + b"/" + name if parent else name)
        return paths

    def find(self, path: bytes) -> int | None:
        """Return the index of the entry at `path`, or None. Symbolic links are not followed."""
        if self._paths is None:
            self._paths = {found: index for index, found in enumerate(self.paths())}
        return self._paths.get(path)

    def has(self, path: bytes) -> bool:
        """Return whether there is an entry at `path`, without making the table that `find` makes."""
        if self._paths is not None:
            return path in self._paths
        name = path.rpartition(b"/")[2]
        start = 0
        names = list(self.names)
        while True:
            try:
                start = names.index(name, start)
            except ValueError:
                return False
            if self.path(start) == path:
                return True
            start += 1

    def children(self, index: int) -> Sequence[int]:
        """Return the indexes of a folder's entries, sorted by name."""
        if self._children is None:
            children: dict[int, list[int]] = {}
            for child, parent in enumerate(self.parents):
                children.setdefault(parent, []).append(child)
            children[0].remove(0)
            self._children = children
        return self._children.get(index, ())

    def first_block(self, index: int) -> int:
        """Return the number of the first block of a FILE, or of a HARDLINK's file; -1 if it has none."""
        link = self.links[index]
        return self._first_blocks.get(link if link >= 0 else index, -1)

    def file_size(self, index: int) -> int:
        """Return the bytes of a FILE, or of a HARDLINK's file."""
        link = self.links[index]
        return self.sizes[link if link >= 0 else index]

    def file_block_count(self, index: int) -> int:
        """Return how many blocks a FILE, or a HARDLINK's file, has."""
        return -(-self.file_size(index) // BLOCK_SIZE)

    def files(self) -> Iterable[tuple[int, int]]:
        """Return each FILE that has bytes, in order: its entry and the number of its first block."""
        return zip(self._file_entries, self._file_starts, strict=True)

    def block_place(self, block: int) -> tuple[int, int]:
        """Return the entry that holds a block, and the block's offset in that file, in bytes.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < self.block_count:
            raise IndexError(block)
        position = bisect_right(self._file_starts, block) - 1
        return self._file_entries[position], (block - self._file_starts[position]) * BLOCK_SIZE

    def block_size(self, block: int) -> int:
        """Return the plain bytes of a block: 65536, or fewer in the last block of a file."""
        entry, offset = self.block_place(block)
        return min(BLOCK_SIZE, self.sizes[entry] - offset)

    def block_sizes(self) -> list[int]:
        """Return the plain bytes of every block, in order."""
        sizes: list[int] = []
        for entry in self._file_entries:
            whole, rest = divmod(self.sizes[entry], BLOCK_SIZE)
            sizes.extend([BLOCK_SIZE] * whole)
            if rest:
                sizes.append(rest)
        return sizes


def build_tree(nodes: Mapping[bytes, Node]) -> Tree:
    """Return the tree of `nodes`, keyed by path; the root `b""` is made if it is not there.

    Of names that are hard links of one file, whichever comes first in the tree becomes the FILE.

    Raises:
        FormatError: a parent that is missing or no folder, a name or attribute beyond the limits, a hard
        link
            to something else than a file.
    """
    return Tree(columns_of(nodes))


def encode_tree(tree: Tree) -> bytes:
    """Return the one encoding of `tree` (FORMAT.md, *Tree*); its SHA-256 is the manifest's tree digest."""
    return encode_columns(tree.columns)


def decode_tree(data: bytes) -> Tree:
    """Return the tree that `data`, untrusted, encodes.

    Raises:
        FormatError: `data` is not the encoding of a tree within the limits.
    """
    return Tree(decode_columns(data))
