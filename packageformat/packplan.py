"""Which page of a launch pack goes into which frame: by first touch, and by class.

Pages of one class are those that a client has or lacks together (FORMAT.md, *Launch pack*): a frame holds
pages of one class only, so that whoever has them skips the frame. A page never comes later than its turn in
the first-touch order would have it by more than one frame of each class: the frame that it opens is filled
with the next pages of its class, which come early, but not very early (`NEAR_MAX`). The first frames are
small, so that a launch begins with the first round trip; each may be as large as all before it together, up
to `PACK_FRAME_PLAIN_MAX`, since what compresses together gets smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from packageformat.limits import PACK_FRAME_PLAIN_MAX
from packageformat.packdirectory import PackExtent

FIRST_FRAME_PLAIN = 65536
"""Plain bytes of the first frame."""

PAGES_A_FRAME_MAX = 4096
"""A frame of many last pages of small files ends here, whatever its bytes: extents are counted in 16 bits."""

EXACT_PAGES = 256
"""So many pages keep the exact order. Later ones bring those of their block (and class) along that are due
soon: a block that comes in two frames needs the hashes of the pages that come later, 32 bytes each."""

NEAR_MIN, NEAR_MAX = 256, 512
"""So many pages before its turn may a page come, at most, in the part that leads to the window: a sixteenth
of that part, within these. Without a limit a frame of a rare class, and blocks that are touched early and
late, brought up to a quarter of the pack before its turn (galculator 31%, LibreOffice 13%): while libraries
were linked, applications waited 0.2 to 0.3 s for pages that they read a second later. It costs 1 to 2% of
bytes."""

LATE_FILE_MAX = 4 << 20
"""Bytes of a file whose late pages come with the window's pages of their block, at most."""

CLASS_PLAIN_MIN = 65536
"""Plain bytes below which a class is not worth frames of its own."""

CLASSES_MAX = 24

PageClass = tuple[int, frozenset[int]]
"""A layer, and which other launches touch the page too (numbers that the builder gives them)."""


def plan_pack(
    extents: Sequence[PackExtent],
    size_of: Callable[[PackExtent], int],
    class_of: Callable[[PackExtent], Hashable] | None = None,
    window_pages: int | None = None,
) -> Iterator[tuple[PackExtent, ...]]:
    """Give the extents of one frame after the other.

    Inside a frame pages are in the order of layers and blocks, which compresses better than the order of
    the first touch (measured: 1.5%) and costs nothing: a frame arrives whole.

    Args:
        extents: the pages in first-touch order.
        size_of: gives the plain bytes of an extent.
        class_of: gives the class of an extent of one page; without it, all are of one.
        window_pages: how many of the pages lead to the first window, if there is one: no later page is in a
            frame of theirs.
    """
    pages = _single(extents)
    class_of = class_of or _the_one
    window = len(pages) if window_pages is None else window_pages
    exact = min(EXACT_PAGES, window)
    near = max(NEAR_MIN, min(window // 16, NEAR_MAX))
    parts = (
        [*pages[:exact], *_gathered(pages[exact:window], class_of, near)],
        _gathered(pages[window:], class_of, len(pages)),
    )
    classes = [(late, class_of(page)) for late, part in enumerate(parts) for page in part]
    pages = [*parts[0], *parts[1]]
    sizes = [size_of(page) for page in pages]
    queues: dict[tuple[int, Hashable], list[int]] = {}
    for number in range(len(pages) - 1, -1, -1):
        queues.setdefault(classes[number], []).append(number)  # the next one last, to pop
    left = {name: sum(sizes[number] for number in queue) for name, queue in queues.items()}
    taken = bytearray(len(pages))
    given = 0
    for number, name in enumerate(classes):
        if taken[number]:
            continue
        limit = min(PACK_FRAME_PLAIN_MAX, max(FIRST_FRAME_PLAIN, given))
        if limit < left[name] < limit + limit // 4:
            limit = left[name] // 2 + sizes[number]  # two like frames, not one and a crumb
        queue = queues[name]
        frame: list[int] = []
        plain = 0
        reach = len(pages) if name[0] else number + near
        while (
            queue
            and queue[-1] < reach
            and len(frame) < PAGES_A_FRAME_MAX
            and plain + sizes[queue[-1]] <= limit
        ):
            plain += sizes[queue[-1]]
            frame.append(queue.pop())
        for each in frame:
            taken[each] = 1
        given += plain
        left[name] -= plain
        yield _joined(sorted(map(pages.__getitem__, frame), key=_place))


def with_late_pages(
    extents: Sequence[PackExtent], window_pages: int, file_size: Callable[[int, int], int]
) -> tuple[list[PackExtent], int]:
    """Return the pages of a launch with those moved up that another launch may want before its window.

    What one launch touches after its window in a block that it touched before, such as another piece of
    libc, the next launch often touches before: and would wait for behind all else, while the line is full.
    They are few (galculator: 49 pages, inkscape: 267) as long as files are small: of a
    large one, what comes after the window is its work after the window.

    A page goes behind the last of its block before the window, but not among the first `EXACT_PAGES`: those
    are what every launch waits for.

    Args:
        extents: the pages in first-touch order.
        window_pages: how many of the pages lead to the first window.
        file_size: gives the bytes of the file that has a block, by layer and number.

    Returns:
        The same pages, each an extent, and how many of them count as leading to the window now.
    """
    pages = _single(extents)
    last = {(page.layer, page.block): number for number, page in enumerate(pages[:window_pages])}
    small = {key for key in last if file_size(*key) <= LATE_FILE_MAX}
    behind: dict[int, list[PackExtent]] = {}
    rest: list[PackExtent] = []
    for page in pages[window_pages:]:
        key = (page.layer, page.block)
        if key in small:
            place = min(max(last[key] + 1, EXACT_PAGES), window_pages)
            behind.setdefault(place, []).append(page)
        else:
            rest.append(page)
    window: list[PackExtent] = []
    for number, page in enumerate(pages[:window_pages], 1):
        window += [page, *behind.get(number, ())]
    return [*window, *rest], len(window)


def _single(extents: Sequence[PackExtent]) -> list[PackExtent]:
    """Return the pages of extents, each an extent of its own."""
    return [
        PackExtent(extent.layer, extent.block, page, 1)
        for extent in extents
        for page in range(extent.first_page, extent.first_page + extent.pages)
    ]


def _the_one(_: PackExtent) -> None:
    """Return the class of a page when there is only one."""


def _gathered(
    pages: Sequence[PackExtent], class_of: Callable[[PackExtent], Hashable], near: int
) -> list[PackExtent]:
    """Return the pages, those of one block and class together where the first of them was, if near."""
    groups: list[list[PackExtent]] = []
    open_at: dict[tuple[int, int, Hashable], tuple[int, list[PackExtent]]] = {}
    for number, page in enumerate(pages):
        key = (page.layer, page.block, class_of(page))
        began, group = open_at.get(key, (-near, []))
        if number - began < near:
            group.append(page)
        else:
            group = [page]
            groups.append(group)
            open_at[key] = (number, group)
    return [page for group in groups for page in group]


def _place(page: PackExtent) -> tuple[int, int, int]:
    return page.layer, page.block, page.first_page


def _joined(pages: Sequence[PackExtent]) -> tuple[PackExtent, ...]:
    """Return sorted pages as extents."""
    joined: list[PackExtent] = []
    for page in pages:
        last = joined[-1] if joined else None
        if last and (last.layer, last.block, last.first_page + last.pages) == _place(page):
            joined[-1] = PackExtent(page.layer, page.block, last.first_page, last.pages + 1)
        else:
            joined.append(page)
    return tuple(joined)


def fold_classes(weights: Mapping[PageClass, int]) -> dict[PageClass, PageClass]:
    """Return which class stands for each: small ones go with others, so that frames stay large.

    A small one goes with the one that most of its launches share, no others: whoever has that one's pages
    and skips its frames has these as well. So folding sends a page again only to somebody whose launches
    do not make up the whole class that it went to.

    Args:
        weights: the plain bytes of each class.
    """
    by_size = sorted(weights, key=lambda name: (-weights[name], name[0], sorted(name[1])))
    kept = [name for name in by_size if weights[name] >= CLASS_PLAIN_MIN][:CLASSES_MAX]
    if not any(not name[1] for name in kept):
        kept += [name for name in by_size if not name[1]][:1]
    folded: dict[PageClass, PageClass] = {}
    for name in weights:
        layer, members = name
        fits = [one for one in kept if one[1] <= members]
        folded[name] = min(
            fits,
            key=lambda one: (one != name, -len(one[1]), one[0] != layer, kept.index(one)),
            default=(layer, frozenset()),
        )
    return folded
