"""Bytes of updates over real pairs of versions; tests/bench/README.md tells how each figure is taken."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from packageformat.compression import compress
from packageformat.delta import PageNumbers, decode_delta, delta_head_size, read_region, unpack_delta_frame
from packageformat.deltabuild import DeltaSide, build_delta, changed_blocks, pair_files
from packageformat.hashing import block_id
from packageformat.hashtree import split
from packageformat.layout import encode_frame, plan_frames
from packageformat.limits import BLOCK_SIZE
from packageformat.tree import Kind, Node, build_tree
from tests.bench.archive import Archive, Pair
from tests.bench.deltatools import BEST, OTHERS, OutOfLimitsError, Remembered, Tool

SHOWN = tuple(
    Pair(package, "bookworm", "bookworm-security")
    for package in (
        "libssl3", "git", "libpython3.11-stdlib", "libgs10", "libpoppler126", "libxml2", "perl-base",
        "bind9-libs", "python3.11-minimal", "libmagickcore-6.q16-6", "inkscape", "libc6",
    )
)  # fmt: skip
"""What `tests/show speed 9` measures: files of up to some 20 MB, for which bsdiff takes seconds."""

PAIRS = (
    *SHOWN,
    *(
        Pair(package, "bookworm", "bookworm-security")
        for package in (
            "libnode108", "samba-libs", "vlc-plugin-base", "libjavascriptcoregtk-4.1-0",
            "openjdk-17-jre-headless", "libreoffice-core",
        )
    ),
    Pair("firefox-esr", "trixie", "trixie-security"),
)  # fmt: skip
QUICK = ("libssl3", "git", "libpython3.11-stdlib", "libgs10")


@dataclass(slots=True)
class Update:
    """One pair's bytes. A tool that could not do it has no number, but a reason."""

    package: str
    old_version: str
    new_version: str
    files: int = 0  # changed or new ones
    changed_blocks: int = 0
    changed_bytes: int = 0  # plain bytes of the changed blocks
    plain: int = 0  # the stored frames of the changed blocks, as the package has them
    changed_files: int = 0  # changed files, each zstd -19
    ours: int = 0
    ours_head: int = 0  # of that, preamble and directory
    blocks_above_plain: int = 0
    build_s: float = 0.0  # CPU
    decode_mb_s: float = 0.0  # plain bytes a CPU second
    tools: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    load: float = 0.0

    @property
    def best(self) -> int:
        """The smallest of the tools that are compared with."""
        return min((self.tools[tool.name] for tool in BEST if tool.name in self.tools), default=0)

    @property
    def ratio(self) -> float:
        """Our bytes over the best tool's."""
        return self.ours / self.best if self.best else math.nan


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if the ratios' geometric mean is at most 2 and no block is above plain."""
    parser = argparse.ArgumentParser(prog="tests/bench/update", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--quick", action="store_true", help="four small packages")
    parser.add_argument("--work", type=Path, help="folder for downloads, kept")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    wanted = set(told.packages or (QUICK if told.quick else [pair.package for pair in PAIRS]))
    pairs = [pair for pair in PAIRS if pair.package in wanted]
    if wanted - {pair.package for pair in pairs}:
        parser.error(f"known are {', '.join(pair.package for pair in PAIRS)}")
    with tempfile.TemporaryDirectory(prefix="millstream-update-") as scratch:
        work = (told.work or Path(scratch)).resolve()
        updates = measure(pairs, work, progress=not told.json)
    mean = geometric_mean([update.ratio for update in updates])
    if told.json:
        rows = [asdict(update) | {"best": update.best, "ratio": round(update.ratio, 4)} for update in updates]
        print(json.dumps({"geometric_mean": round(mean, 4), "pairs": rows}))
    else:
        print(table(updates))
        print(f"geometric mean of ours / best: {mean:.3f} over {len(updates)} pairs")
    return 0 if updates and mean <= 2.0 and not any(update.blocks_above_plain for update in updates) else 1


def measure(pairs: Sequence[Pair], work: Path, *, progress: bool = False) -> list[Update]:
    """Measure each pair that the mirror has in two versions."""
    remembered = Remembered(work / "tools")
    archive = Archive(work, {suite for pair in pairs for suite in (pair.old_suite, pair.new_suite)})
    updates: list[Update] = []
    for pair in pairs:
        versions = [archive.version(pair.package, suite) for suite in (pair.old_suite, pair.new_suite)]
        known = archive.sorted({version for version in versions if version is not None})
        if len(known) < 2:
            print(f"update: {pair.package}: the mirror has no two versions; left out", file=sys.stderr)
            continue
        old, new = known  # a release sometimes has the later one
        started = time.monotonic()
        update = Update(pair.package, old, new, load=round(os.getloadavg()[0], 1))
        compare(update, archive.unpacked(pair.package, old), archive.unpacked(pair.package, new), remembered)
        updates.append(update)
        if progress:
            print(f"update: {update.package}: {update.ours} bytes, {update.ratio:.3f} of the best tool's "
                  f"({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)  # fmt: skip
    return updates


def compare(update: Update, old_folder: Path, new_folder: Path, remembered: Remembered) -> None:
    """Fill in the figures of one pair of unpacked versions."""
    old, _ = side_of(old_folder)
    new, new_blocks = side_of(new_folder)
    changed = changed_blocks(old, new)
    update.changed_blocks = len(changed)
    update.changed_bytes = sum(new.tree.block_size(block) for block in changed)
    frames = [frame for frame in plan_frames(new.tree, new.block_ids) if not set(changed).isdisjoint(frame)]
    plain = {frame: len(encode_frame([new_blocks[block] for block in frame])) for frame in frames}
    update.plain = sum(plain.values())
    _ours(update, old, new, changed, {block: frame for frame in frames for block in frame}, plain)
    pairs = pair_files(old.tree, new.tree)
    old_paths, new_paths = old.tree.paths(), new.tree.paths()
    for entry in sorted({new.tree.block_place(block)[0] for block in changed}):
        file = new_folder / os.fsdecode(new_paths[entry])
        before = old_folder / os.fsdecode(old_paths[pairs[entry]]) if entry in pairs else None
        update.files += 1
        update.changed_files += len(compress(file.read_bytes(), 19))
        for tool in (*BEST, *OTHERS):
            _other(update, tool, before, file, remembered)


def _ours(
    update: Update,
    old: DeltaSide,
    new: DeltaSide,
    changed: Sequence[int],
    frame_of: Mapping[int, tuple[int, ...]],
    plain_sizes: Mapping[tuple[int, ...], int],
) -> None:
    """Build the delta, read all of it back, and count it."""
    started = time.process_time()
    made = build_delta(old, new, lambda block: plain_sizes[frame_of[block]])
    update.build_s = round(time.process_time() - started, 1)
    pages = PageNumbers(old.tree)
    head = made[: delta_head_size(made)]
    delta = decode_delta(head, new.tree, new.version_id, pages, old.version_id)
    id_of = split(new.block_ids).__getitem__
    plain = 0
    started = time.process_time()
    for number, frame in enumerate(delta.directory.frames):
        region = read_region(frame, pages, lambda block, start, end: old.read_block(block)[start:end])
        assert region is not None
        offset, size = delta.place(number)
        blocks = unpack_delta_frame(frame, new.tree, id_of, made[offset : offset + size], region)
        plain += sum(len(content) for _, content in blocks)
        if size > sum(plain_sizes[one] for one in {frame_of[block] for block in frame.blocks}):
            update.blocks_above_plain += len(frame.blocks)
    update.decode_mb_s = round(plain / 1e6 / max(time.process_time() - started, 1e-9), 1)
    left = {frame_of[block] for block in changed if delta.frame_of(block) is None}
    # What the delta leaves out comes as the package has it.
    update.ours = len(made) + sum(plain_sizes[frame] for frame in left)
    update.ours_head = delta.head_size


def _other(update: Update, tool: Tool, old: Path | None, new: Path, remembered: Remembered) -> None:
    if tool.name in update.failures:
        return
    if not tool.installed:
        update.failures[tool.name] = "not installed"
        return
    try:
        update.tools[tool.name] = update.tools.get(tool.name, 0) + remembered.bytes_of(tool, old, new)
    except OutOfLimitsError as error:
        update.failures[tool.name] = f"{new.name}: {error}"
        update.tools.pop(tool.name, None)


def side_of(folder: Path) -> tuple[DeltaSide, list[bytes]]:
    """Return an unpacked version as a delta's side, and the plain bytes of its blocks."""
    nodes: dict[bytes, Node] = {}
    for path in folder.rglob("*"):
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            nodes[name] = Node(Kind.SYMLINK, target=os.fsencode(path.readlink()))
        elif path.is_dir():
            nodes[name] = Node(Kind.FOLDER, 0o755)
        else:
            nodes[name] = Node(Kind.FILE, 0o644, size=path.stat().st_size)
    tree = build_tree(nodes)
    blocks: list[bytes] = []
    for entry, name in enumerate(tree.paths()):
        if tree.sizes[entry]:
            content = (folder / os.fsdecode(name)).read_bytes()
            blocks += [content[start : start + BLOCK_SIZE] for start in range(0, len(content), BLOCK_SIZE)]
    ids = b"".join(map(block_id, blocks))
    version = sha256(os.fsencode(folder.name) + ids).digest()
    return DeltaSide(version, tree, ids, blocks.__getitem__), blocks


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values; not a number if there are none."""
    known = [value for value in values if value > 0]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else math.nan


def table(updates: Sequence[Update]) -> str:
    """Return the bytes as a table in Markdown, in KB."""
    names = [tool.name for tool in (*BEST, *OTHERS)]
    lines = [
        "| pair | files | changed KB | changed files, zstd -19 | changed blocks, plain "
        f"| {' | '.join(names)} "
        "| **ours** | of it directory | ours / best | ours / plain | build CPU s | decode MB/s | load |",
        f"|---|{'--:|' * (len(names) + 11)}",
    ]
    for update in updates:
        cells = [
            f"{update.package} {update.old_version} to {update.new_version}",
            str(update.files),
            *(f"{size / 1e3:.0f}" for size in (update.changed_bytes, update.changed_files, update.plain)),
            *(f"{update.tools[name] / 1e3:.0f}" if name in update.tools else "failed" for name in names),
            f"**{update.ours / 1e3:.0f}**",
            f"{update.ours_head / 1e3:.1f}",
            f"**{update.ratio:.3f}**",
            f"{update.ours / update.plain:.3f}",
            f"{update.build_s:.0f}",
            f"{update.decode_mb_s:.0f}",
            f"{update.load:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.extend(
        f"  {update.package}: {name}: {why}" for update in updates for name, why in update.failures.items()
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
