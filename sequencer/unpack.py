"""A stack of packages written out as one folder: the base that a capture stands on. Runs in the enclosure."""

from __future__ import annotations

import os
from collections.abc import Sequence

from packageformat.layout import unpack_frame
from packageformat.limits import BLOCK_SIZE
from packageformat.merge import Merged, merge
from packageformat.package import Package
from packageformat.tree import Kind, Tree
from sequencer.packagefile import PackageFile


def unpack(files: Sequence[PackageFile], folder: bytes) -> None:
    """Write what these packages, bottom first, show together into `folder`, which is empty.

    Raises:
        CorruptBlockError: a package is damaged.
        OSError: no room, or the machine refuses.
    """
    merged = merge([file.package.tree for file in files])
    tree = merged.tree
    paths = [os.path.join(folder, path) if path else folder for path in tree.paths()]  # noqa: PTH118
    for index, path in enumerate(paths):
        kind = tree.kinds[index]
        if kind == Kind.FOLDER:
            if index:
                os.mkdir(path, 0o700)  # noqa: PTH102
        elif kind == Kind.SYMLINK:
            os.symlink(tree.target(index), path)  # noqa: PTH211
        elif kind == Kind.FILE:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.ftruncate(descriptor, tree.sizes[index])
            os.close(descriptor)
    for layer, file in enumerate(files):
        _fill(layer, file, merged, paths)
    for index, path in enumerate(paths):
        if tree.kinds[index] == Kind.HARDLINK:
            os.link(paths[tree.links[index]], path)
    for index in range(len(tree) - 1, -1, -1):  # a folder after what is in it
        _dress(tree, index, paths[index])
    os.sync()


def _fill(layer: int, file: PackageFile, merged: Merged, paths: Sequence[bytes]) -> None:
    """Write the blocks that come from one layer."""
    package: Package = file.package
    wanted: dict[bytes, list[tuple[int, int]]] = {}  # block id: (merged entry, offset)
    for index, (source_layer, source) in enumerate(merged.sources):
        if source_layer != layer or merged.tree.kinds[index] != Kind.FILE:
            continue
        ids = package.block_ids_of(source)
        for number in range(len(ids) // 32):
            block_id = ids[number * 32 : number * 32 + 32]
            wanted.setdefault(block_id, []).append((index, number * BLOCK_SIZE))
    last = -1
    descriptor = -1
    try:
        for frame, blocks in enumerate(package.layout.frames):
            if not any(package.block_id(block) in wanted for block in blocks):
                continue
            for block, plain in unpack_frame(package.tree, package.block_ids, blocks, file.frame(frame)):
                for index, offset in wanted.get(package.block_id(block), ()):
                    if index != last:
                        if descriptor >= 0:
                            os.close(descriptor)
                        descriptor = os.open(paths[index], os.O_WRONLY)
                        last = index
                    os.pwrite(descriptor, plain, offset)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _dress(tree: Tree, index: int, path: bytes) -> None:
    """Give an entry its owner, mode, attributes and time."""
    kind = tree.kinds[index]
    if kind == Kind.HARDLINK:
        return
    os.chown(path, tree.uids[index], tree.gids[index], follow_symlinks=False)
    if kind != Kind.SYMLINK:
        os.chmod(path, tree.modes[index])  # noqa: PTH101
        for name, value in tree.xattrs.get(index, ()):
            os.setxattr(path, name, value)
    mtime = tree.mtimes_ns[index]
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
