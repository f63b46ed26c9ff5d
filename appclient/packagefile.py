"""One file of a package, read whole through the cache: for icons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appclient.layer import Layer
from packageformat.errors import CorruptBlockError, FormatError
from packageformat.tree import Kind, Tree

FILE_BYTES_MAX = 4 << 20
_LINKS_MAX = 16


async def read_file(layer: Layer, path: bytes, bring: Callable[[int], Awaitable[None]]) -> bytes:
    """Return the content of the file at `path` of a package; links inside the package are followed.

    Args:
        layer: the package.
        path: in the package, without a leading slash.
        bring: brings a block of the package, by its number there, into the cache.

    Raises:
        FormatError: no such file, or longer than FILE_BYTES_MAX.
        MillstreamError: a block cannot be had.
    """
    tree = layer.tree
    entry = resolve(tree, path)
    size = tree.file_size(entry)
    if size > FILE_BYTES_MAX:
        raise FormatError(f"{path!r} has {size} bytes, allowed {FILE_BYTES_MAX}")
    first = tree.first_block(entry)
    parts = []
    for block in range(first, first + tree.file_block_count(entry)):
        await bring(block)
        plain = layer.read_block(block)
        if plain is None:
            raise CorruptBlockError(f"{layer.describe(block)} does not stay in the cache")
        parts.append(plain)
    return b"".join(parts)


def resolve(tree: Tree, path: bytes) -> int:
    """Return the entry of the file at `path`, links followed as if the package were the whole system.

    Raises:
        FormatError: there is none, or the links go in a circle.
    """
    wanted = path.split(b"/")
    entry = 0
    links = 0
    while wanted:
        name, *wanted = wanted
        if name in (b"", b"."):
            continue
        if name == b"..":
            entry = tree.parents[entry]
            continue
        found = tree.find(b"/".join(part for part in (tree.path(entry), name) if part))
        if found is None:
            raise FormatError(f"no file {path!r} in the package")
        if tree.kinds[found] != Kind.SYMLINK:
            entry = found
            continue
        links += 1
        if links > _LINKS_MAX:
            raise FormatError(f"links in a circle at {path!r}")
        target = tree.target(found)
        if target.startswith(b"/"):
            entry = 0
        wanted = [*target.split(b"/"), *wanted]
    if tree.kinds[entry] not in (Kind.FILE, Kind.HARDLINK):
        raise FormatError(f"{path!r} in the package is no file")
    return entry
