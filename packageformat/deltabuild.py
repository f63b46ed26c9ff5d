"""Making a delta: pairs of files, segments of changed blocks, and the smallest frame of several tries.

A frame of one block is never larger than the frame in which the package itself stores the block; a frame of
several is never larger than the largest of those, else it is made smaller. What has no smaller form than the
package's own is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from packageformat.delta import assemble_delta, read_region
from packageformat.deltadirectory import DeltaDirectory, DeltaFrame, OldPages, PageNumbers
from packageformat.deltaframe import encode_delta_frame
from packageformat.deltamatch import OldFile, Segment, find_segments
from packageformat.hashtree import split
from packageformat.layout import holders_of
from packageformat.limits import BLOCK_SIZE, DELTA_REGION_MAX, DELTA_SEGMENTS_MAX, FRAME_PLAIN_MAX, PAGE_SIZE
from packageformat.tree import Tree

LEVEL = 19
"""zstd's: a delta is made once, and read by everybody who updates."""

AROUND = 8
"""Pages on either side of the segments that a dictionary has as well, where segments alone do badly."""

DOES_BADLY = 4
"""A frame of more than a fourth of its plain bytes is tried in other ways too."""

_NUMBER = re.compile(rb"[0-9]+")


@dataclass(frozen=True, slots=True)
class DeltaSide:
    """One of the two versions; trusted."""

    version_id: bytes
    tree: Tree
    block_ids: bytes
    read_block: Callable[[int], bytes]  # the plain bytes of a block


@dataclass(frozen=True, slots=True)
class _Changed:
    """A changed block, matched. Places of its segments count through all pages of the old version."""

    block: int
    plain: bytes
    segments: tuple[Segment, ...]
    old_pages: range  # of the old file that it was compared with


def build_delta(
    old: DeltaSide, new: DeltaSide, plain_size_of: Callable[[int], int], level: int = LEVEL
) -> bytes:
    """Return the delta from `old` to `new`.

    Args:
        old: the version that clients have.
        new: the version that they shall have.
        plain_size_of: gives the bytes, as stored in the new package, of the frame that holds a block.
        level: zstd's.

    Raises:
        FormatError: it would be longer than a reader would accept.
    """
    numbers = PageNumbers(old.tree)
    frames: list[DeltaFrame] = []
    parts: list[bytes] = []
    for group in _groups(_changed_blocks(old, new, numbers), new.tree):
        for frame, stored in _best(group, old, numbers, plain_size_of, level):
            frames.append(frame)
            parts.append(stored)
    return assemble_delta(DeltaDirectory(old.version_id, new.version_id, tuple(frames)), parts)


def changed_blocks(old: DeltaSide, new: DeltaSide) -> list[int]:
    """Return the blocks of `new` that `old` does not have, of equal ones the first."""
    known = set(split(old.block_ids))
    ids = split(new.block_ids)
    return [
        block
        for block, holder in enumerate(holders_of(new.tree, new.block_ids))
        if block == holder and ids[block] not in known
    ]


def pair_files(old: Tree, new: Tree) -> dict[int, int]:
    """Return, for each file of `new`, the file of `old` that it most likely came from, if there is one.

    That is the one with its path; else one with its path but for the numbers in it (`libfoo.so.3.1` and
    `libfoo.so.3.2`), or its name but for the numbers, of those the one nearest in size.
    """
    by_path: dict[bytes, int] = {}
    by_pattern: dict[bytes, list[int]] = {}
    by_name: dict[bytes, list[int]] = {}
    for entry, path in enumerate(old.paths()):
        if old.sizes[entry]:
            by_path[path] = entry
            by_pattern.setdefault(_NUMBER.sub(b"0", path), []).append(entry)
            by_name.setdefault(_NUMBER.sub(b"0", path.rpartition(b"/")[2]), []).append(entry)
    found: dict[int, int] = {}
    for entry, path in enumerate(new.paths()):
        size = new.sizes[entry]
        if not size:
            continue
        same = by_path.get(path)
        candidates = [same] if same is not None else by_pattern.get(_NUMBER.sub(b"0", path))
        candidates = candidates or by_name.get(_NUMBER.sub(b"0", path.rpartition(b"/")[2]))
        if candidates:
            found[entry] = min(candidates, key=lambda candidate: abs(old.sizes[candidate] - size))
    return found


def _changed_blocks(old: DeltaSide, new: DeltaSide, numbers: PageNumbers) -> Iterator[_Changed]:
    """Give the changed blocks in the order of their numbers, matched with the files that theirs came from."""
    pairs = pair_files(old.tree, new.tree)
    current = -1
    old_file: OldFile | None = None
    first = shift = last = 0
    pages = range(0)
    for block in changed_blocks(old, new):
        entry, _ = new.tree.block_place(block)
        if entry != current:
            current, shift, last, old_file = entry, 0, new.tree.first_block(entry), None
            before = pairs.get(entry)
            if before is not None:
                first = old.tree.first_block(before)
                end = first + old.tree.file_block_count(before)
                old_file = OldFile(b"".join(old.read_block(number) for number in range(first, end)))
                pages = range(numbers.first_of(first), numbers.first_of(end))
        plain = new.read_block(block)
        if old_file is None:
            yield _Changed(block, plain, (), range(0))
            continue
        shift += (block - last) * BLOCK_SIZE
        last = block
        segments, shift = find_segments(plain, old_file, shift)
        moved = pages.start * PAGE_SIZE
        yield _Changed(
            block,
            plain,
            tuple(replace(segment, old_start=segment.old_start + moved) for segment in segments),
            pages,
        )


def _groups(blocks: Iterable[_Changed], tree: Tree) -> Iterator[list[_Changed]]:
    """Give the blocks that share a frame if all goes well: of one large file, or of small files."""
    small: list[_Changed] = []
    large: list[_Changed] = []
    file = -1
    for changed in blocks:
        entry, _ = tree.block_place(changed.block)
        if tree.sizes[entry] <= BLOCK_SIZE:
            if sum(len(one.plain) for one in small) + len(changed.plain) > FRAME_PLAIN_MAX:
                yield small
                small = []
            small.append(changed)
            continue
        if large and (entry != file or len(large) * BLOCK_SIZE == FRAME_PLAIN_MAX):
            yield large
            large = []
        file = entry
        large.append(changed)
    for rest in (large, small):
        if rest:
            yield rest


def _best(
    group: Sequence[_Changed],
    old: DeltaSide,
    numbers: PageNumbers,
    plain_size_of: Callable[[int], int],
    level: int,
) -> Iterator[tuple[DeltaFrame, bytes]]:
    """Give the frames of a group: one, or several smaller ones where one would be no gain for each block."""
    plain_size = sum(len(changed.plain) for changed in group)
    limit = max(plain_size_of(changed.block) for changed in group)
    matched = _within_region(group)
    tries = [(matched, _pages(matched))]
    best = _encoded(*tries[0], old, numbers, level)
    if best is None or len(best[1]) * DOES_BADLY > plain_size:
        without = [replace(changed, segments=()) for changed in group]
        for blocks, pages in ((without, _around(matched)), (without, [])):
            other = _encoded(blocks, pages, old, numbers, level)
            if other is not None and (best is None or len(other[1]) < len(best[1])):
                best = other
    if best is not None and len(best[1]) <= limit:
        yield best
    elif len(group) > 1:
        half = len(group) // 2
        for part in (group[:half], group[half:]):
            yield from _best(part, old, numbers, plain_size_of, level)


def _encoded(
    group: Sequence[_Changed], pages: Sequence[int], old: DeltaSide, numbers: PageNumbers, level: int
) -> tuple[DeltaFrame, bytes] | None:
    """Return the frame of a group, written against these pages; None if it is more than one may hold."""
    count = sum(len(changed.segments) for changed in group)
    if count > DELTA_SEGMENTS_MAX or len(pages) * PAGE_SIZE > DELTA_REGION_MAX:
        return None
    frame = DeltaFrame(tuple(changed.block for changed in group), tuple(_extents(pages)), count, 1)
    region = read_region(frame, numbers, lambda block, start, end: old.read_block(block)[start:end])
    assert region is not None
    places: dict[int, int] = {}
    place = 0
    for extent in frame.old_pages:
        page = extent.first
        for _, start, end in numbers.parts(extent):
            for offset in range(start, end, PAGE_SIZE):
                places[page] = place
                place += min(PAGE_SIZE, end - offset)
                page += 1
    moved = [
        [
            replace(
                segment,
                old_start=places[segment.old_start // PAGE_SIZE] + segment.old_start % PAGE_SIZE,
            )
            for segment in changed.segments
        ]
        for changed in group
    ]
    stored = encode_delta_frame([changed.plain for changed in group], moved, region, level)
    return replace(frame, stored_size=len(stored)), stored


def _pages_of(segment: Segment) -> range:
    return range(segment.old_start // PAGE_SIZE, (segment.old_start + segment.size - 1) // PAGE_SIZE + 1)


def _pages(group: Sequence[_Changed]) -> list[int]:
    return sorted({page for changed in group for one in changed.segments for page in _pages_of(one)})


def _within_region(group: Sequence[_Changed]) -> list[_Changed]:
    """Return the group without the segments, shortest first, for which its region has no room."""
    room = DELTA_REGION_MAX // PAGE_SIZE
    if len(_pages(group)) <= room:
        return list(group)
    kept: set[Segment] = set()
    pages: set[int] = set()
    longest = sorted(
        (one for changed in group for one in changed.segments), key=lambda one: one.size, reverse=True
    )
    for segment in longest:
        with_it = pages.union(_pages_of(segment))
        if len(with_it) <= room:
            kept.add(segment)
            pages = with_it
    return [
        replace(changed, segments=tuple(one for one in changed.segments if one in kept)) for changed in group
    ]


def _around(group: Sequence[_Changed]) -> list[int]:
    """Return the pages of the segments and those near them, in their files, as far as there is room."""
    pages = set(_pages(group))
    for changed in group:
        own = {page for segment in changed.segments for page in _pages_of(segment)}
        near = {page + step for page in own for step in range(-AROUND, AROUND + 1)}
        if not own:
            # The small file's old version may be near in content even where no window of it is.
            near = set(changed.old_pages[: BLOCK_SIZE // PAGE_SIZE])
        more = pages.union(page for page in near if page in changed.old_pages)
        if len(more) * PAGE_SIZE <= DELTA_REGION_MAX:
            pages = more
    return sorted(pages)


def _extents(pages: Sequence[int]) -> Iterator[OldPages]:
    if not pages:
        return
    first = pages[0]
    for page, following in pairwise([*pages, -1]):
        if following != page + 1:
            yield OldPages(first, page + 1 - first)
            first = following
