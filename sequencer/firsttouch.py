"""The union of traced runs as a launch profile. Pure: what was read, and in which order it should arrive.

    first launches to the first window · first launches up to idle · what other runs added, run by run

Of each part the first run leads, and the later ones add what they alone touched. What only opening a document
or a second launch needs is not in the way of a first window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from bubble.trace import TracedRead
from bubble.viewimage import ViewImage
from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import PROFILE_TIME_MAX

TOGETHER_MS = 20
"""Pages side by side that were read within so many milliseconds are told as one touch."""


class RunKind(Enum):
    """What a run adds to a profile."""

    FIRST = "a first launch: leads to the window"
    LATER = "a second launch, a document: what it touches in the end"
    VARIATION = "a first launch elsewhere: what it touches up to its window"


@dataclass(frozen=True, slots=True)
class TracedRun:
    """One run and its reads. Times are microseconds of the monotonic clock."""

    name: str
    kind: RunKind
    began_us: int
    window_us: int
    reads: Sequence[TracedRead]

    @property
    def window_ms(self) -> int:
        """From the start to the first window."""
        return min(PROFILE_TIME_MAX, max(0, self.window_us - self.began_us) // 1000)


class ViewContents:
    """The contents of a view, by the numbers that a trace tells: the nodes of files."""

    def __init__(self, image: ViewImage) -> None:
        self._image = image
        self._known: dict[int, ProfileContent] = {}

    def __getitem__(self, number: int) -> ProfileContent:
        known = self._known.get(number)
        if known is None:
            content = self._image.content(number)
            content_id = self._image.content_id(content)
            assert content_id is not None, "a view of whole packages"
            known = ProfileContent(content_id, content.size, self._image.path(number))
            self._known[number] = known
        return known


class Contents(Protocol):
    """Content of the view by its number in the trace; two files may have the same."""

    def __getitem__(self, number: int, /) -> ProfileContent: ...


def profile_of(
    application: str, bubble_id: bytes, contents: Contents, runs: Sequence[TracedRun]
) -> LaunchProfile:
    """Return the profile of these runs, the first of which is the launch that leads.

    Args:
        application: its id.
        bubble_id: of the stack that ran.
        contents: of the view, by number.
        runs: at least one, of RunKind.FIRST.
    """
    touches: list[Touch] = []
    found: dict[bytes, ProfileContent] = {}  # by content id, in the profile's order
    numbers: dict[int, int] = {}  # content of the view -> content of the profile
    seen: set[tuple[int, int]] = set()
    window_touches = 0
    for leads, parts in (
        (True, [(number, run, True) for number, run in enumerate(runs) if run.kind is RunKind.FIRST]),
        (False, list(_other_parts(runs))),
    ):
        for number, run, to_window in parts:
            for read in run.reads:
                if read.content not in numbers:
                    content = contents[read.content]
                    numbers[read.content] = len(found)
                    if found.setdefault(content.content_id, content) is not content:
                        numbers[read.content] = list(found).index(content.content_id)
            _add(touches, numbers, seen, number, run, to_window=to_window)
        if leads:
            window_touches = len(touches)
    return LaunchProfile(
        application,
        bubble_id,
        tuple(ProfileRun(run.name, run.window_ms) for run in runs),
        *_used(tuple(found.values()), touches),
        window_touches,
    )


def _used(
    contents: Sequence[ProfileContent], touches: Sequence[Touch]
) -> tuple[tuple[ProfileContent, ...], tuple[Touch, ...]]:
    """Return the contents that are touched, in that order, and the touches of those."""
    numbers: dict[int, int] = {}
    for touch in touches:
        numbers.setdefault(touch.content, len(numbers))
    return (
        tuple(contents[number] for number in numbers),
        tuple(replace(touch, content=numbers[touch.content]) for touch in touches),
    )


def _other_parts(runs: Sequence[TracedRun]) -> Iterator[tuple[int, TracedRun, bool]]:
    """Give what comes after the window: run number, run, and whether only what precedes its own window."""
    for kind in (RunKind.FIRST, RunKind.LATER, RunKind.VARIATION):
        for number, run in enumerate(runs):
            if run.kind is kind:
                yield number, run, kind is RunKind.VARIATION


def _add(
    touches: list[Touch],
    numbers: dict[int, int],
    seen: set[tuple[int, int]],
    number: int,
    run: TracedRun,
    *,
    to_window: bool,
) -> None:
    """Add the pages that a run touched and none before it."""
    fresh = True  # never joined to a touch of another part
    for read in run.reads:
        if to_window and read.at_us > run.window_us:
            continue
        after_ms = min(PROFILE_TIME_MAX, max(0, read.at_us - run.began_us) // 1000)
        for page in range(read.first_page, read.first_page + read.pages):
            content = numbers[read.content]
            if (content, page) in seen:
                continue
            seen.add((content, page))
            last = touches[-1] if touches and not fresh else None
            if (
                last is not None
                and (last.content, last.first_page + last.pages) == (content, page)
                and after_ms - last.after_ms <= TOGETHER_MS
            ):
                touches[-1] = Touch(content, last.first_page, last.pages + 1, last.after_ms, number)
            else:
                touches.append(Touch(content, page, 1, after_ms, number))
            fresh = False
