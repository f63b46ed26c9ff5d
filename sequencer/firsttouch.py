"""The union of traced runs as a launch profile. Pure: what was read, and in which order it should arrive.

    first launches to the first window · first launches up to idle · what other runs added, run by run

Of each part the first run leads, and the later ones add what they alone touched. What only opening a document
or a second launch needs is not in the way of a first window.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from bubble.trace import TracedRead
from bubble.viewimage import NO_CONTENT, ViewImage
from packageformat.launchprofile import LaunchProfile, ProfileContent, ProfileRun, Touch
from packageformat.limits import DIGEST_SIZE, PROFILE_TIME_MAX

TOGETHER_MS = 20
"""Pages side by side that were read within so many milliseconds are told as one touch."""


class Kind(Enum):
    """What a run adds to a profile."""

    FIRST = "a first launch: leads to the window"
    LATER = "a second launch, a document: what it touches in the end"
    VARIATION = "a first launch elsewhere: what it touches up to its window"


@dataclass(frozen=True, slots=True)
class TracedRun:
    """One run and its reads. Times are microseconds of the monotonic clock."""

    name: str
    kind: Kind
    began_us: int
    window_us: int
    reads: Sequence[TracedRead]

    @property
    def window_ms(self) -> int:
        """From the start to the first window."""
        return min(PROFILE_TIME_MAX, max(0, self.window_us - self.began_us) // 1000)


def contents_of(image: ViewImage) -> list[ProfileContent]:
    """Return the contents of a view by their numbers, each with the first path that has it."""
    paths = [b""]
    for entry in range(1, len(image)):
        parent = image.parents[entry]
        paths.append(paths[parent] + b"/" + image.name(entry) if parent else image.name(entry))
    found: list[ProfileContent | None] = [None] * image.content_count
    for entry, mode in enumerate(image.modes):
        number = image.payloads[entry]
        if stat.S_ISREG(mode) and number != NO_CONTENT and found[number] is None:
            content_id = image.content_ids[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
            found[number] = ProfileContent(content_id, image.content_sizes[number], paths[entry])
    contents = [content for content in found if content is not None]
    assert len(contents) == len(found), "a view with a content that no file has"
    return contents


def profile_of(
    application: str, bubble_id: bytes, contents: Sequence[ProfileContent], runs: Sequence[TracedRun]
) -> LaunchProfile:
    """Return the profile of these runs, the first of which is the launch that leads.

    Args:
        application: its id.
        bubble_id: of the stack that ran.
        contents: of the view, by number.
        runs: at least one, of Kind.FIRST.
    """
    touches: list[Touch] = []
    numbers: dict[int, int] = {}  # content of the view -> content of the profile
    seen: set[tuple[int, int]] = set()
    window_touches = 0
    for leads, parts in (
        (True, [(number, run, True) for number, run in enumerate(runs) if run.kind is Kind.FIRST]),
        (False, list(_other_parts(runs))),
    ):
        for number, run, to_window in parts:
            _add(touches, numbers, seen, number, run, to_window=to_window)
        if leads:
            window_touches = len(touches)
    return LaunchProfile(
        application,
        bubble_id,
        tuple(ProfileRun(run.name, run.window_ms) for run in runs),
        tuple(contents[number] for number in numbers),
        tuple(touches),
        window_touches,
    )


def _other_parts(runs: Sequence[TracedRun]) -> Iterator[tuple[int, TracedRun, bool]]:
    """Give what comes after the window: run number, run, and whether only what precedes its own window."""
    for kind in (Kind.FIRST, Kind.LATER, Kind.VARIATION):
        for number, run in enumerate(runs):
            if run.kind is kind:
                yield number, run, kind is Kind.VARIATION


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
            if (read.content, page) in seen:
                continue
            seen.add((read.content, page))
            content = numbers.setdefault(read.content, len(numbers))
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
