"""The 4 KiB pages that a launch touches before its first window: the yardstick of what it has to receive.

From a launch of its own, by the same user, whose private home is empty again: its files are in the client's
cache by then, the kernel reads nothing ahead and asks for each page (bubble/trace.py). Exactly those pages,
in the order of their first touch, are packed as one zstd -19 stream. They also tell what a profile lacks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import zstandard

from bubble.trace import VARIABLE, TracedRead, read_trace
from bubble.viewimage import MAGIC, ViewImage, load
from packageformat.launchprofile import LaunchProfile, decode_profiles
from packageformat.limits import PAGE_SIZE
from tests.bench.baseline import drop_page_cache
from tests.bench.coldresult import Touched
from tests.stage import Stage

GAPS_CLOSED = 3
"""Pages between two of a pack that come along (FACTS, launch sets)."""

_LEVEL = 19
_VIEWS = ".cache/millstream/views"


@dataclass(frozen=True, slots=True)
class TouchedPage:
    """One page of a file. `path` is below the bubble's root, `content_id` empty if the view knows none."""

    path: bytes
    content_id: bytes
    page: int


def touched_by_a_launch(on: Stage, application: str, tree: Path, package: Path) -> Touched:
    """Launch `application` twice, to fill the cache and to trace it, and return what the second one touched.

    Args:
        on: the stage; its user is signed in.
        application: the sample.
        tree: the sample's files, unpacked.
        package: its package file; the launch profiles lie beside it.

    Raises:
        RuntimeError: there was no window, or no trace.
    """
    pages = traced_pages(on, application)
    found = package.with_suffix(".profile")
    profile = decode_profiles(found.read_bytes()).of(_id_of(found, application)) if found.exists() else None
    return Touched(
        pages=len(pages),
        files=len({page.path for page in pages}),
        packed_bytes=packed_bytes(pages, tree),
        unprofiled=None if profile is None else len(unprofiled(pages, profile)),
    )


def traced_pages(on: Stage, application: str) -> list[TouchedPage]:
    """Return the pages that a launch on a filled cache and an empty home touched before its window, in order.

    Raises:
        RuntimeError: there was no window, or no trace.
    """
    trace = on.folder / "trace" / application
    trace.parent.mkdir(exist_ok=True)
    on.user.give(trace.parent)
    trace.unlink(missing_ok=True)
    on.forget()
    on.visit.launch(application).end()
    on.visit.leave()
    on.user.end_processes()
    for place in ("bubbles", "homes"):
        shutil.rmtree(on.user.home / ".local/state/millstream" / place, ignore_errors=True)
    asked = {"MILLSTREAM_READAHEAD": "0", VARIABLE: str(trace)}
    on.visit.add_environment(asked)
    try:
        on.visit.appclient("refresh")
        on.visit.settle()
        drop_page_cache()
        launch = on.visit.launch(application)
        assert launch.window is not None
        launch.end()
        images = [load(data) for data in _files(on.user.home / _VIEWS) if data.startswith(MAGIC)]
        if len(images) != 1:
            raise RuntimeError(f"one view image of {application} was expected, found {len(images)}")
        if not trace.exists():
            raise RuntimeError(f"the view of {application} wrote no trace to {trace}")
        return first_touches(read_trace(trace.read_bytes()), int(launch.window.mapped_at * 1e6), images[0])
    finally:
        on.visit.remove_environment(*asked)
        on.forget()


def first_touches(reads: Iterable[TracedRead], until_us: int, image: ViewImage) -> list[TouchedPage]:
    """Return every page read before `until_us`, in the order of first touch."""
    found: dict[tuple[int, int], None] = {}
    for read in reads:
        if read.at_us <= until_us:
            last = -(-image.content(read.content).size // PAGE_SIZE)
            for page in range(read.first_page, min(read.first_page + read.pages, last)):
                found[read.content, page] = None
    names: dict[int, tuple[bytes, bytes]] = {}
    for number, _ in found:
        if number not in names:
            names[number] = (image.path(number), image.content_id(image.content(number)) or b"")
    return [TouchedPage(*names[number], page) for number, page in found]


def packed_bytes(pages: Sequence[TouchedPage], tree: Path) -> int:
    """Return the bytes of these pages of the files under `tree` as one zstd -19 stream."""
    packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    total = 0
    path, descriptor = b"", -1
    try:
        for page in pages:
            if page.path != path or descriptor < 0:
                if descriptor >= 0:
                    os.close(descriptor)
                path = page.path
                descriptor = os.open(os.path.join(os.fsencode(tree), path.lstrip(b"/")), os.O_RDONLY)
            total += len(packer.compress(os.pread(descriptor, PAGE_SIZE, page.page * PAGE_SIZE)))
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return total + len(packer.flush())


def unprofiled(pages: Sequence[TouchedPage], profile: LaunchProfile) -> list[TouchedPage]:
    """Return the pages that a pack made of `profile` lacks: no touch of it, nor a gap that is closed."""
    held: dict[bytes, set[int]] = {}
    for touch in profile.touches:
        own = held.setdefault(profile.contents[touch.content].content_id, set())
        own.update(range(touch.first_page, touch.first_page + touch.pages))
    for own in held.values():
        ordered = sorted(own)
        for before, after in pairwise(ordered):
            if after - before - 1 <= GAPS_CLOSED:
                own.update(range(before + 1, after))
    return [page for page in pages if page.page not in held.get(page.content_id, ())]


def _id_of(profiles: Path, application: str) -> str:
    """Return the id by which the profiles know the sample's first application."""
    known = [one.application for one in decode_profiles(profiles.read_bytes()).profiles]
    return next((id for id in known if id in {application, f"{application}.desktop"}), known[0])


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()] if folder.exists() else []
