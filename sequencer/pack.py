"""A captured tree packed into a package file: hashed, compressed, signed, written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from packageformat.hashing import block_id
from packageformat.hashtree import root, split
from packageformat.layout import Layout, encode_frame, plan_frames
from packageformat.limits import BLOCK_SIZE
from packageformat.manifest import Manifest, encode_manifest, version_id
from packageformat.package import assemble_head
from packageformat.signature import sign
from packageformat.tree import Kind, Tree, encode_tree
from sequencer.errors import StorageError

Opener = Callable[[Sequence[int]], list[int]]
"""Opens FILE entries of the tree; the descriptors are the caller's to close."""

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all."""

FILES_AT_ONCE = 64
THREADS = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def hash_blocks(tree: Tree, opener: Opener, progress: Progress) -> bytes:
    """Return the ids of all blocks of `tree`, concatenated.

    Raises:
        StorageError: a file changed its size since the scan.
    """
    ids: list[bytes] = []
    done = 0
    for index, descriptor in _open_files(tree, opener):
        size = tree.sizes[index]
        for offset in range(0, size, BLOCK_SIZE):
            plain = _read(tree, index, descriptor, offset)
            ids.append(block_id(plain))
        done += size
        progress(done, tree.plain_bytes)
    return b"".join(ids)


def write_package(
    path: Path,
    tree: Tree,
    block_ids: bytes,
    manifest: Callable[[bytes, int, bytes], Manifest],
    seed: bytes,
    opener: Opener,
    progress: Progress,
) -> Manifest:
    """Write the package to `path`, replacing one that is there; nothing half-written remains.

    Args:
        path: the file.
        tree: the captured layer.
        block_ids: from `hash_blocks`.
        manifest: makes the manifest of tree digest, tree size and root of the block ids.
        seed: the publisher's private key.
        opener: opens FILE entries of `tree`.
        progress: is told of the bytes read.

    Returns:
        The manifest in the package.

    Raises:
        StorageError: the disk is full or read-only, or a file changed since the scan.
    """
    tree_bytes = encode_tree(tree)
    made = manifest(sha256(tree_bytes).digest(), len(tree_bytes), root(split(block_ids)))
    manifest_bytes = encode_manifest(made)
    signature = sign("manifest", manifest_bytes, seed)
    frames = plan_frames(tree, block_ids)
    with _atomic(path) as descriptor, _spool(path) as spool:
        sizes = _write_frames(spool, tree, frames, opener, progress)
        layout = Layout(sizes, frames, tree, block_ids)
        head = assemble_head(manifest_bytes, signature, tree, block_ids, layout, layout.stored_bytes)
        _write(descriptor, head)
        _copy(spool, descriptor, layout.stored_bytes)
    return made


def package_id(manifest: Manifest) -> bytes:
    """Return the version id of a manifest."""
    return version_id(encode_manifest(manifest))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        StorageError: the disk is full or read-only.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all.

    Raises:
        StorageError: the disk is full or read-only.
    """
    with _atomic(path) as descriptor:
        _write(descriptor, data)


def _write_frames(
    spool: int, tree: Tree, frames: Sequence[tuple[int, ...]], opener: Opener, progress: Progress
) -> list[int]:
    sizes: list[int] = []
    waiting: list[Future[bytes]] = []
    source = _Source(tree, opener)
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for blocks in frames:
                plains = [source.block(block) for block in blocks]
                done += sum(map(len, plains))
                waiting.append(pool.submit(encode_frame, plains))
                if len(waiting) > 4 * THREADS:
                    stored = waiting.pop(0).result()
                    _write(spool, stored)
                    sizes.append(len(stored))
                    progress(done, tree.plain_bytes)
            for future in waiting:
                stored = future.result()
                _write(spool, stored)
                sizes.append(len(stored))
            progress(tree.plain_bytes, tree.plain_bytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            source.close()
    return sizes


class _Source:
    """Blocks of a tree by number; best asked for in rising order. Keeps the files of one batch open."""

    def __init__(self, tree: Tree, opener: Opener) -> None:
        self._tree = tree
        self._opener = opener
        self._files = [
            index for index, kind in enumerate(tree.kinds) if kind == Kind.FILE and tree.sizes[index]
        ]
        self._rank = {index: rank for rank, index in enumerate(self._files)}
        self._open: dict[int, int] = {}

    def block(self, number: int) -> bytes:
        index, offset = self._tree.block_place(number)
        if index not in self._open:
            self.close()
            rank = self._rank[index]
            batch = self._files[rank : rank + FILES_AT_ONCE]
            self._open = dict(zip(batch, self._opener(batch), strict=True))
        return _read(self._tree, index, self._open[index], offset)

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}


def _open_files(tree: Tree, opener: Opener) -> Iterator[tuple[int, int]]:
    files = [index for index, kind in enumerate(tree.kinds) if kind == Kind.FILE and tree.sizes[index]]
    for start in range(0, len(files), FILES_AT_ONCE):
        batch = files[start : start + FILES_AT_ONCE]
        descriptors = opener(batch)
        try:
            yield from zip(batch, descriptors, strict=True)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _read(tree: Tree, index: int, descriptor: int, offset: int) -> bytes:
    wanted = min(BLOCK_SIZE, tree.sizes[index] - offset)
    plain = os.pread(descriptor, wanted, offset)
    if len(plain) != wanted:
        raise StorageError(f"a captured file changed while it was packed: {tree.path(index)!r}")
    return plain


@contextmanager
def _spool(path: Path) -> Iterator[int]:
    """Give a nameless file beside `path`: the frames come before the head that tells of them."""
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.frames")
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        name.unlink()
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _atomic(path: Path) -> Iterator[int]:
    """Give a new file that becomes `path` at the end, durable; on any error it goes again."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _ours(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        sent = os.sendfile(target, source, offset, min(1 << 24, size - offset))
        if sent == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        offset += sent


def _ours(path: Path, error: OSError) -> StorageError:
    if error.errno in FULL:
        return StorageError(f"no room for {path}: {error.strerror}")
    return StorageError(f"cannot write {path}: {error.strerror}")
