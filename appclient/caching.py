"""The cache as a whole: how much is in it, whether it is sound, and what may go.

Runs in a thread beside the agent's loop. A block is forgotten under the rules of bubble.cachefile, so
views that read at the same moment see either the block or a missing one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appclient.errors import storage_error
from bubble.cachefile import CacheFolder
from packageformat.hashing import block_id
from packageformat.limits import DIGEST_SIZE
from packageformat.package import Package
from packageformat.tree import Kind

_log = logging.getLogger(__name__)

_SCRATCH_SECONDS = 3600

NAMED_MAX = 1000
"""Damaged blocks that are named one by one."""


@dataclass(frozen=True, slots=True)
class Held:
    """How much of one package is in the cache."""

    version: bytes
    name: str  # "name version"
    files: int  # distinct contents of the package
    files_here: int  # of them, those with at least one block in the cache
    plain_bytes: int
    bytes_here: int  # plain bytes in the cache; contents that packages share count for each


@dataclass(slots=True)
class Soundness:
    """What a check of the cache found."""

    blocks: int = 0  # that were checked
    damaged: list[str] = field(default_factory=list)  # dropped, for people
    damaged_count: int = 0
    unknown: int = 0  # contents that belong to no kept package: not checked


def held(package: Package, cache: CacheFolder) -> Held:
    """Return how much of `package` is in the cache.

    Raises:
        CacheError: the cache cannot be read.
    """
    files = here = bytes_here = 0
    for _, content, size in contents_of(package):
        files += 1
        try:
            file = cache.open(content, size)
            if file is None:
                continue
            missing = sum(file.block_size(block) for block in file.missing_blocks())
        except OSError as error:
            raise storage_error("reading the cache", cache.path, error) from error
        here += missing < size
        bytes_here += size - missing
    manifest = package.manifest
    name = f"{manifest.name} {manifest.version}"
    return Held(package.version_id, name, files, here, manifest.plain_bytes, bytes_here)


def verify(packages: Iterable[Package], cache: CacheFolder) -> Soundness:
    """Check every block in the cache against its id, and drop those that are wrong.

    Raises:
        CacheError: the cache cannot be read, or a damaged block not dropped.
    """
    found = Soundness()
    checked: set[bytes] = set()
    for package in packages:
        for entry, content, size in contents_of(package):
            if content in checked:
                continue
            checked.add(content)
            try:
                _verify_file(package, entry, content, size, cache, found)
            except OSError as error:
                raise storage_error("checking", cache.place(content), error) from error
    found.unknown = sum(content not in checked for content, _ in cache.contents())
    return found


def sweep(kept: Iterable[Package], cache: CacheFolder) -> tuple[int, int]:
    """Drop every content that belongs to none of the packages to keep; return contents and bytes freed.

    Raises:
        CacheError: the cache cannot be written.
    """
    wanted = {content for package in kept for _, content, _ in contents_of(package)}
    count = size = 0
    for content, place in list(cache.contents()):
        if content in wanted:
            continue
        try:
            size += place.stat().st_blocks * 512
            cache.forget(content)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error("removing", place, error) from error
        count += 1
    return count, size


def remove_scratch(folders: Iterable[Path], now: float) -> None:
    """Remove what writers that were killed left unfinished: files `.NAME.new`, an hour old."""
    for folder in folders:
        for place in folder.rglob(".*.new"):
            with suppress(OSError):
                if now - place.lstat().st_mtime > _SCRATCH_SECONDS:
                    place.unlink()


def disk_bytes(folders: Collection[Path]) -> int:
    """Return the bytes of disk that folders take."""
    total = 0
    for folder in folders:
        for place in folder.rglob("*"):
            try:
                total += place.lstat().st_blocks * 512
            except OSError:
                continue
    return total


def contents_of(package: Package) -> Iterable[tuple[int, bytes, int]]:
    """Yield entry, content id and size of each distinct content of a package."""
    tree = package.tree
    known: set[bytes] = set()
    for entry, kind in enumerate(tree.kinds):
        if kind == Kind.FILE and tree.sizes[entry]:
            content = package.content_id(entry)
            if content not in known:
                known.add(content)
                yield entry, content, tree.sizes[entry]


def _verify_file(
    package: Package, entry: int, content: bytes, size: int, cache: CacheFolder, found: Soundness
) -> None:
    file = cache.open(content, size)
    if file is None:
        return
    ids = package.block_ids_of(entry)
    for block in range(file.blocks):
        plain = file.read_block(block)
        if plain is None:
            continue
        found.blocks += 1
        expected = ids[block * DIGEST_SIZE : (block + 1) * DIGEST_SIZE]
        if block_id(plain) != expected:
            file.forget_block(block)
            path = package.tree.path(entry).decode("utf-8", "replace")
            told = f"block {block} of /{path} in {package.manifest.name} {package.manifest.version}"
            _log.warning("damaged in the cache, dropped: %s (%s)", told, expected.hex())
            found.damaged_count += 1
            if len(found.damaged) < NAMED_MAX:
                found.damaged.append(told)
