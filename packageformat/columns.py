"""A tree's columns: checked, made of nodes, and as bytes.

Depth, not a parent number, says where an entry belongs: in preorder that is enough, it cannot point wrong,
and it compresses to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise

from packageformat.encoding import Value, decode, encode
from packageformat.entry import Kind, Node, Xattrs, check_xattrs
from packageformat.errors import FormatError
from packageformat.limits import (
    BLOCK_SIZE,
    BLOCKS_MAX,
    DEPTH_MAX,
    FILE_SIZE_MAX,
    FORMAT_VERSION,
    MODE_MAX,
    MTIME_SECONDS_MAX,
    NAME_MAX,
    OWNER_MAX,
    PATH_MAX,
    SYMLINK_TARGET_MAX,
    TREE_BYTES_MAX,
    TREE_ENTRIES_MAX,
    XATTR_VALUE_MAX,
    XATTRS_AN_ENTRY_MAX,
    XATTRS_BYTES_MAX,
)
from packageformat.names import check_path
from packageformat.record import Record

MAGIC = b"OVPTREE1"
OPAQUE_BIT = 0x80
PREAMBLE = struct.Struct("<8s6I")
"""Magic, entries, bytes of names, hard links, symbolic links, bytes of their targets, bytes of xattrs."""

BYTES_AN_ENTRY = 1 + 1 + 1 + 2 + 4 + 4 + 8 + 4 + 8
"""Kind, depth, name length, mode, uid, gid, mtime seconds, mtime nanoseconds, size."""

_FOLDER, _FILE, _SYMLINK, _HARDLINK, _WHITEOUT = (int(kind) for kind in Kind)
_NS = 1_000_000_000
_KIND_OF = bytes(marked & ~OPAQUE_BIT for marked in range(256))
_OPAQUE_OF = bytes(marked >> 7 for marked in range(256))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a tree, one item an entry."""

    kinds: bytes
    opaques: bytes
    depths: bytes
    names: Sequence[bytes]
    parents: Sequence[int]
    modes: Sequence[int]
    uids: Sequence[int]
    gids: Sequence[int]
    mtimes_ns: Sequence[int]
    sizes: Sequence[int]
    links: Sequence[int]  # a HARDLINK's file, else -1
    targets: Mapping[int, bytes]  # of symbolic links
    xattrs: Mapping[int, Xattrs]  # of entries that have some


def parents_of(kinds: bytes, depths: bytes, names: Sequence[bytes]) -> list[int]:
    """Return each entry's parent, after checking the shape: preorder, parents that are folders, sorted names.

    Raises:
        FormatError: the entries are not a tree, or a name or path is not allowed.
    """
    if not kinds or kinds[0] != _FOLDER or depths[0] or names[0]:
        raise FormatError("a tree that does not begin with its root")
    # A stack has tens of thousands of entries, and a launch waits for this loop: as little as can be in it.
    folders = [0] * (DEPTH_MAX + 1)  # at each depth, the entry that is open there
    last_names = [b""] * (DEPTH_MAX + 2)  # at each depth, the name of the sibling before
    lengths = [0] * (DEPTH_MAX + 2)  # at each depth, the bytes of the open folder's path with a slash
    parents = [0]
    append = parents.append
    deepest = 1  # where the next entry may be
    longest = 0
    for index, depth, name, kind in zip(
        range(1, len(kinds)),
        islice(depths, 1, None),
        islice(names, 1, None),
        islice(kinds, 1, None),
        strict=True,
    ):
        if not 0 < depth <= deepest or depth > DEPTH_MAX:
            raise FormatError("a tree whose entry has no parent folder")
        if name <= last_names[depth]:
            raise FormatError("a tree whose names are empty, doubled or not sorted")
        last_names[depth] = name
        append(folders[depth - 1])
        if kind == _FOLDER:
            folders[depth] = index
            deepest = depth + 1
            last_names[deepest] = b""
            lengths[depth] = length = lengths[depth - 1] + len(name) + 1
            if length > longest:
                longest = length
        else:
            deepest = depth
    if b"." in names or b".." in names:
        raise FormatError("a name that would climb out of its folder: . or ..")
    if longest + NAME_MAX > PATH_MAX:
        _check_paths(parents, names)
    joined = b"".join(names)
    if b"/" in joined or b"\0" in joined:
        raise FormatError("a name that would climb out of its folder")
    if max(map(len, names)) > NAME_MAX:
        raise FormatError(f"a name of more than {NAME_MAX} bytes")
    return parents


def _check_paths(parents: Sequence[int], names: Sequence[bytes]) -> None:
    lengths = [0]
    for index in range(1, len(parents)):
        parent = parents[index]
        length = len(names[index]) + (lengths[parent] + 1 if parent else 0)
        if length > PATH_MAX:
            raise FormatError(f"a path of {length} bytes, allowed up to {PATH_MAX}")
        lengths.append(length)


def check_columns(columns: Columns) -> Columns:
    """Return `columns` if every attribute is within the limits and in its place; the shape is `parents_of`'s.

    Raises:
        FormatError: one is not.
    """
    kinds, sizes = columns.kinds, columns.sizes
    if len(kinds) > TREE_ENTRIES_MAX:
        raise FormatError(f"a tree of {len(kinds)} entries, allowed up to {TREE_ENTRIES_MAX}")
    if max(kinds) > _WHITEOUT:
        raise FormatError("a tree with an entry of an unknown kind")
    for what, column, least, most in (
        ("mode", columns.modes, 0, MODE_MAX),
        ("user id", columns.uids, 0, OWNER_MAX),
        ("group id", columns.gids, 0, OWNER_MAX),
        ("time", columns.mtimes_ns, -MTIME_SECONDS_MAX * _NS, MTIME_SECONDS_MAX * _NS),
        ("size", sizes, 0, FILE_SIZE_MAX),
    ):
        if min(column) < least or max(column) > most:
            raise FormatError(f"a tree with a {what} that is not allowed")
    blocks = 0
    for kind, size in zip(kinds, sizes, strict=True):
        if size:
            if kind != _FILE:
                raise FormatError("a tree with a size where there is no file")
            blocks += -(-size // BLOCK_SIZE)
    if blocks > BLOCKS_MAX:
        raise FormatError(f"a tree of {blocks} blocks, allowed up to {BLOCKS_MAX}")
    _check_links(columns)
    if any(kinds[index] in (_HARDLINK, _WHITEOUT) for index in columns.xattrs):
        raise FormatError("a hard link or whiteout with attributes of its own")
    for xattrs in columns.xattrs.values():
        check_xattrs(xattrs)
    opaque = columns.opaques.find(1)
    while opaque >= 0:
        if kinds[opaque] != _FOLDER:
            raise FormatError("an opaque entry that is no folder")
        opaque = columns.opaques.find(1, opaque + 1)
    return columns


def _check_links(columns: Columns) -> None:
    kinds, links = columns.kinds, columns.links
    for index in (*_indexes(kinds, _HARDLINK), *_indexes(kinds, _WHITEOUT)):
        kind = kinds[index]
        if columns.modes[index] or columns.uids[index] or columns.gids[index] or columns.mtimes_ns[index]:
            raise FormatError("a hard link or whiteout with attributes of its own")
        if kind == _HARDLINK and (not 0 < links[index] < index or kinds[links[index]] != _FILE):
            raise FormatError("a hard link that does not point back at a file")
    for target in columns.targets.values():
        if not 0 < len(target) <= SYMLINK_TARGET_MAX or b"\0" in target:
            raise FormatError("a symbolic link whose target is not allowed")


def _indexes(kinds: bytes, kind: int) -> Iterator[int]:
    index = kinds.find(kind)
    while index >= 0:
        yield index
        index = kinds.find(kind, index + 1)


def columns_of(nodes: Mapping[bytes, Node]) -> Columns:
    """Return the columns of `nodes`, keyed by path; of a hard-linked file's names the first becomes the FILE.

    Raises:
        FormatError: `nodes` are not a tree.
    """
    split = {check_path(path): node for path, node in nodes.items()}
    split.setdefault((), Node(Kind.FOLDER, 0o755))
    order = sorted(split)
    indexes = {parts: index for index, parts in enumerate(order)}
    chosen = [split[parts] for parts in order]
    for parts in order[1:]:
        parent = split.get(parts[:-1])
        if parent is None or parent.kind != Kind.FOLDER:
            raise FormatError(f"{b'/'.join(parts)!r} has no parent folder")
        if len(parts) > DEPTH_MAX:
            raise FormatError(f"folders nest deeper than {DEPTH_MAX}")
    links = [-1] * len(order)
    firsts: dict[int, int] = {}
    for index, node in enumerate(list(chosen)):
        if node.kind == Kind.HARDLINK:
            holder = indexes.get(check_path(node.target), -1)
            if holder < 0 or split[order[holder]].kind != Kind.FILE:
                raise FormatError(f"{b'/'.join(order[index])!r} is a hard link to no file: {node.target!r}")
            first = firsts.setdefault(holder, min(holder, index))
            if first == index:
                chosen[index], chosen[holder] = split[order[holder]], node
            links[index] = holder
    for index, holder in enumerate(list(links)):
        name_of_file = firsts.get(holder if holder >= 0 else index, -1)
        if name_of_file >= 0:
            links[index] = -1 if index == name_of_file else name_of_file
    for node in chosen:
        if node.kind != Kind.SYMLINK and node.kind != Kind.HARDLINK and node.target:
            raise FormatError("a target where there is no link")
    kinds = bytes(node.kind for node in chosen)
    depths = bytes(len(parts) for parts in order)
    names = tuple(parts[-1] if parts else b"" for parts in order)
    return check_columns(
        Columns(
            kinds,
            bytes(node.opaque for node in chosen),
            depths,
            names,
            tuple(parents_of(kinds, depths, names)),
            tuple(node.mode for node in chosen),
            tuple(node.uid for node in chosen),
            tuple(node.gid for node in chosen),
            tuple(node.mtime_ns for node in chosen),
            tuple(node.size for node in chosen),
            tuple(links),
            {index: node.target for index, node in enumerate(chosen) if node.kind == Kind.SYMLINK},
            {index: node.xattrs for index, node in enumerate(chosen) if node.xattrs},
        )
    )


def encode_columns(columns: Columns) -> bytes:
    """Return the one encoding of a tree's columns."""
    kinds = bytes(
        kind | OPAQUE_BIT if opaque else kind
        for kind, opaque in zip(columns.kinds, columns.opaques, strict=True)
    )
    count = len(kinds)
    names = b"".join(columns.names)
    links = [link for link in columns.links if link >= 0]
    targets = [columns.targets[index] for index in sorted(columns.targets)]
    text = b"".join(targets)
    xattrs = _encode_xattrs(columns.xattrs)
    encoded = b"".join(
        (
            PREAMBLE.pack(MAGIC, count, len(names), len(links), len(targets), len(text), len(xattrs)),
            kinds,
            columns.depths,
            bytes(map(len, columns.names)),
            struct.pack(f"<{count}H", *columns.modes),
            struct.pack(f"<{count}I", *columns.uids),
            struct.pack(f"<{count}I", *columns.gids),
            struct.pack(f"<{count}q", *[time // _NS for time in columns.mtimes_ns]),
            struct.pack(f"<{count}I", *[time % _NS for time in columns.mtimes_ns]),
            struct.pack(f"<{count}Q", *columns.sizes),
            struct.pack(f"<{len(links)}I", *links),
            struct.pack(f"<{len(targets)}H", *map(len, targets)),
            names,
            text,
            xattrs,
        )
    )
    if len(xattrs) > XATTRS_BYTES_MAX:
        raise FormatError(f"{len(xattrs)} bytes of extended attributes, allowed up to {XATTRS_BYTES_MAX}")
    if len(encoded) > TREE_BYTES_MAX:
        raise FormatError(f"a tree of {len(encoded)} bytes, allowed up to {TREE_BYTES_MAX}")
    return encoded


def decode_columns(data: bytes) -> Columns:
    """Return the columns that `data`, untrusted, encodes; checked.

    Raises:
        FormatError: `data` is not the encoding of a tree within the limits.
    """
    if not PREAMBLE.size < len(data) <= TREE_BYTES_MAX:
        raise FormatError(f"a tree of {len(data)} bytes, allowed up to {TREE_BYTES_MAX}")
    magic, count, names_size, links_count, targets_count, text_size, xattrs_size = PREAMBLE.unpack_from(data)
    if magic != MAGIC:
        raise FormatError(f"not a tree of format {FORMAT_VERSION}")
    if not 0 < count <= TREE_ENTRIES_MAX:
        raise FormatError(f"a tree of {count} entries, allowed up to {TREE_ENTRIES_MAX}")
    numbers = count * BYTES_AN_ENTRY + 4 * links_count + 2 * targets_count
    if PREAMBLE.size + numbers + names_size + text_size + xattrs_size != len(data):
        raise FormatError("a tree that is cut short or goes on after its end")
    position = PREAMBLE.size

    def take(size: int) -> bytes:
        nonlocal position
        position += size
        return data[position - size : position]

    marked = take(count)
    depths = take(count)
    name_sizes = take(count)
    modes = struct.unpack(f"<{count}H", take(2 * count))
    uids = struct.unpack(f"<{count}I", take(4 * count))
    gids = struct.unpack(f"<{count}I", take(4 * count))
    seconds = struct.unpack(f"<{count}q", take(8 * count))
    nanoseconds = struct.unpack(f"<{count}I", take(4 * count))
    sizes = struct.unpack(f"<{count}Q", take(8 * count))
    link_list = struct.unpack(f"<{links_count}I", take(4 * links_count))
    target_sizes = struct.unpack(f"<{targets_count}H", take(2 * targets_count))
    names = _cut(take(names_size), name_sizes)
    texts = _cut(take(text_size), target_sizes)
    if max(nanoseconds) >= _NS:
        raise FormatError("a tree with a time that is not one")
    kinds = marked.translate(_KIND_OF)
    if kinds.count(_HARDLINK) != links_count or kinds.count(_SYMLINK) != targets_count:
        raise FormatError("a tree whose links do not match its entries")
    columns = Columns(
        kinds,
        marked.translate(_OPAQUE_OF),
        depths,
        names,
        parents_of(kinds, depths, names),
        modes,
        uids,
        gids,
        [second * _NS + rest for second, rest in zip(seconds, nanoseconds, strict=True)],
        sizes,
        _spread(kinds, link_list),
        dict(zip(_indexes(kinds, _SYMLINK), texts, strict=True)),
        _decode_xattrs(take(xattrs_size), count),
    )
    return check_columns(columns)


def _cut(joined: bytes, sizes: Sequence[int]) -> list[bytes]:
    if sum(sizes) != len(joined):
        raise FormatError("a tree whose names do not match their sizes")
    return [joined[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]


def _spread(kinds: bytes, link_list: Sequence[int]) -> list[int]:
    links = [-1] * len(kinds)
    for index, link in zip(_indexes(kinds, _HARDLINK), link_list, strict=True):
        links[index] = link
    return links


def _encode_xattrs(xattrs: Mapping[int, Xattrs]) -> bytes:
    if not xattrs:
        return b""
    return encode(tuple((index, xattrs[index]) for index in sorted(xattrs)))


def _decode_xattrs(data: bytes, entries: int) -> dict[int, Xattrs]:
    if not data:
        return {}
    value = decode(data, max_bytes=XATTRS_BYTES_MAX)
    if not isinstance(value, tuple) or not value:
        raise FormatError("damaged extended attributes")
    found: dict[int, Xattrs] = {}
    last = -1
    for item in value:
        record = Record(item, "entry's extended attributes", 2)
        index = record.number(entries - 1)
        pairs = record.items(XATTRS_AN_ENTRY_MAX)
        if index <= last or not pairs:
            raise FormatError("extended attributes that are not in order")
        found[index] = tuple(_decode_pair(pair) for pair in pairs)
        last = index
    return found


def _decode_pair(pair: Value) -> tuple[bytes, bytes]:
    record = Record(pair, "extended attribute", 2)
    return record.octets(NAME_MAX), record.octets(XATTR_VALUE_MAX)
