"""What a package file really holds: the truth that tests compare with what arrives elsewhere."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packageformat.entry import Kind
from packageformat.layout import unpack_frame
from packageformat.limits import BLOCK_SIZE
from packageformat.merge import merge
from packageformat.package import Package, PackageParser


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A package file and its head."""

    path: Path
    package: Package

    def frames(self) -> Iterator[list[tuple[int, bytes]]]:
        """Yield the blocks (number, plain bytes) of each frame, verified."""
        package = self.package
        with self.path.open("rb") as file:
            for frame in range(len(package.layout.frames)):
                offset, size = package.frame_extent(frame)
                stored = os.pread(file.fileno(), size, offset)
                yield unpack_frame(package.tree, package.block_ids, package.layout.blocks(frame), stored)


def open_package(path: Path) -> PackageFile:
    """Return the package in the file `path`, its head verified.

    Raises:
        FormatError: it is not one.
    """
    with path.open("rb") as file:
        parser = PackageParser(path.stat().st_size)
        while needs := parser.needs():
            for offset, size in needs:
                parser.feed(offset, os.pread(file.fileno(), size, offset))
    assert parser.package is not None
    return PackageFile(path, parser.package)


def unpack(files: Sequence[PackageFile], folder: Path) -> None:
    """Write what these packages (bottom first) show together into the empty `folder`, as plain files.

    Owners are the caller's; modes (without set-id bits), times and links are the packages'.
    """
    merged = merge([file.package.tree for file in files])
    tree = merged.tree
    wanted: list[dict[bytes, list[tuple[str, int]]]] = [defaultdict(list) for _ in files]
    paths = [str(folder / os.fsdecode(path)) for path in tree.paths()]
    for index, path in enumerate(paths):
        entry = tree[index]
        if entry.kind is Kind.FOLDER:
            os.makedirs(path, exist_ok=True)
        elif entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind is Kind.FILE:
            Path(path).touch()
            os.truncate(path, entry.size)
            layer, source = merged.sources[index]
            ids = files[layer].package.block_ids_of(source)
            for number in range(len(ids) // 32):
                wanted[layer][ids[number * 32 : number * 32 + 32]].append((path, number * BLOCK_SIZE))
    for index, path in enumerate(paths):
        if tree[index].kind is Kind.HARDLINK:
            os.link(paths[tree[index].link], path)
    for layer, packed in enumerate(files):
        for frame in packed.frames():
            for block, plain in frame:
                for path, offset in wanted[layer].get(packed.package.block_id(block), ()):
                    with open(path, "r+b") as file:
                        os.pwrite(file.fileno(), plain, offset)
    for index in range(len(tree) - 1, -1, -1):
        entry = tree[index]
        if entry.kind in (Kind.FOLDER, Kind.FILE):
            os.chmod(paths[index], stat.S_IMODE(entry.mode) & 0o777)
        if entry.kind is not Kind.HARDLINK:
            os.utime(paths[index], ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
