"""The 4 KiB pages that a launch touches before its first window: the yardstick of what it has to receive.

From a launch of its own, by the same user: every file of it is in the client's cache by then, the kernel
reads nothing ahead and asks for each page (bubble/trace.py). Exactly those pages, in the order of their first
touch, are packed as one zstd -19 stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import zstandard

from bubble.trace import VARIABLE, TracedRead, read_trace
from bubble.viewimage import NO_CONTENT, ViewImage, load
from packageformat.limits import PAGE_SIZE
from tests.bench.baseline import drop_page_cache
from tests.bench.coldresult import Touched
from tests.stage import Stage

_LEVEL = 19


def touched_by_a_launch(on: Stage, application: str, tree: Path) -> Touched:
    """Launch `application` twice, to fill the cache and to trace it, and return what the second one touched.

    Raises:
        RuntimeError: there was no window, or no trace.
    """
    trace = on.folder / "trace" / application
    trace.parent.mkdir(exist_ok=True)
    on.user.give(trace.parent)
    on.visit.launch(application).end()
    on.visit.leave()
    on.user.end_processes()
    drop_page_cache()
    on.visit.add_environment({"MILLSTREAM_READAHEAD": "0", VARIABLE: str(trace)})
    try:
        on.visit.appclient("refresh")
        launch = on.visit.launch(application)
        assert launch.window is not None
        launch.end()
        on.visit.leave()
    finally:
        on.visit.remove_environment("MILLSTREAM_READAHEAD", VARIABLE)
    if not trace.exists():
        raise RuntimeError(f"the view of {application} wrote no trace to {trace}")
    views = [path for path in (on.user.home / ".cache/millstream/views").iterdir() if path.is_file()]
    if len(views) != 1:
        raise RuntimeError(f"one view image was expected, found {[path.name for path in views]}")
    image = load(views[0].read_bytes())
    pages = first_touches(read_trace(trace.read_bytes()), int(launch.window.mapped_at * 1e6), image)
    return Touched(
        len(pages), len({content for content, _ in pages}), packed_bytes(pages, paths(image), tree)
    )


def first_touches(reads: Iterable[TracedRead], until_us: int, image: ViewImage) -> list[tuple[int, int]]:
    """Return (content, page) of every page read before `until_us`, in the order of first touch."""
    found: dict[tuple[int, int], None] = {}
    for read in reads:
        if read.at_us > until_us:
            break
        last = -(-image.content_sizes[read.content] // PAGE_SIZE)
        for page in range(read.first_page, min(read.first_page + read.pages, last)):
            found[read.content, page] = None
    return list(found)


def paths(image: ViewImage) -> dict[int, bytes]:
    """Return for each content number the path, below the root, of a file that holds it."""
    names: list[bytes] = [b""] * len(image)
    found: dict[int, bytes] = {}
    for folder in range(len(image)):  # breadth first: a folder comes before what it holds
        for child in image.children(folder):
            names[child] = os.path.join(names[folder], image.name(child))
            entry = image.inodes[child]
            if image.modes[entry] & 0o170000 == 0o100000 and image.payloads[entry] != NO_CONTENT:
                found.setdefault(image.payloads[entry], names[child])
    return found


def packed_bytes(pages: Iterable[tuple[int, int]], places: Mapping[int, bytes], tree: Path) -> int:
    """Return the bytes of these pages of the files under `tree` as one zstd -19 stream."""
    packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    total = 0
    content, descriptor = -1, -1
    try:
        for wanted, page in pages:
            if wanted != content:
                if descriptor >= 0:
                    os.close(descriptor)
                content, descriptor = wanted, os.open(os.fsencode(tree) + b"/" + places[wanted], os.O_RDONLY)
            total += len(packer.compress(os.pread(descriptor, PAGE_SIZE, page * PAGE_SIZE)))
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return total + len(packer.flush())
