"""A package in two versions over one cache, and the delta between them, for tests of updates."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from appclient.deltas import FIRST_BYTES, Update, delta_head_size
from appclient.heads import Head
from appclient.layer import Layer
from bubble.blockids import make_table, write_ids
from bubble.cachefile import CacheFolder
from bubble.viewimage import LayerFiles
from packageformat.deltabuild import DeltaSide, build_delta
from packageformat.limits import BLOCK_SIZE
from tests.packagefiles import PackageFile, open_package
from tests.packages import build_package

PROGRAM = secrets.token_bytes(5 * BLOCK_SIZE + 999)
NEWS = secrets.token_hex(35_000).encode()
COMMON = secrets.token_bytes(2 * BLOCK_SIZE)


def moved(number: int) -> bytes:
    """Return the program with addresses in its first four blocks moved; the others are as they were."""
    changed = bytearray(PROGRAM)
    for place in range(0, 4 * BLOCK_SIZE, 61):
        changed[place] = (changed[place] + number) % 256
    return bytes(changed)


class Version:
    """A package file, its blocks, and a layer over a cache."""

    def __init__(self, folder: Path, cache: CacheFolder, number: int) -> None:
        files = {
            "usr/bin/program": moved(number),
            "usr/share/common": COMMON,
            f"usr/share/news-{number}": NEWS.replace(b"00", b"%d" % (90 + number)),
        }
        built = build_package(folder, "editor", files, version=str(number))
        self.file: PackageFile = open_package(built.path)
        package = self.file.package
        self.blocks = {block: plain for frame in self.file.frames() for block, plain in frame}
        for block in range(package.tree.block_count):
            if block not in self.blocks:
                name = package.block_id(block)
                self.blocks[block] = next(
                    plain for one, plain in self.blocks.items() if package.block_id(one) == name
                )
        ids = folder / f"ids-{number}"
        make_table(ids, package.tree.block_count)
        write_ids(ids, {0: package.block_ids})
        head = Head(package.outline, b"", sha256(built.path.read_bytes()).digest(), package)
        self.layer = Layer(head, cache, LayerFiles(package.version_id, folder / "no-image", ids))

    @property
    def side(self) -> DeltaSide:
        package = self.file.package
        return DeltaSide(package.version_id, package.tree, package.block_ids, self.blocks.__getitem__)

    def plain_size(self, block: int) -> int:
        package = self.file.package
        return package.frame_extent(package.layout.frame_of(block))[1]

    def keep(self, blocks: Iterable[int]) -> None:
        self.layer.write_blocks([(block, self.blocks[block]) for block in blocks], ())

    def blocks_of(self, path: bytes) -> range:
        tree = self.file.package.tree
        entry = tree.find(path)
        assert entry is not None
        return range(tree.first_block(entry), tree.first_block(entry) + tree.file_block_count(entry))


class Pair:
    def __init__(self, folder: Path) -> None:
        self.cache = CacheFolder(folder / "cache")
        self.old, self.new = Version(folder, self.cache, 1), Version(folder, self.cache, 2)
        self.delta = build_delta(self.old.side, self.new.side, self.new.plain_size, level=3)
        self.head = self.delta[: delta_head_size(self.delta[:FIRST_BYTES])]
        self.update = Update.read(self.head, self.old.layer, self.new.layer)

    @property
    def all_blocks(self) -> range:
        return range(self.new.file.package.tree.block_count)

    def fetch(self, frames: Iterable[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for span in self.update.spans(list(frames)):
            data = self.delta[span.offset : span.offset + span.size]
            for frame, start, end in span.frames:
                unpacked = self.update.unpack(frame, data[start:end])
                assert unpacked is not None
                found |= {block: unpacked.block(block) for block in unpacked.blocks}
        return found
