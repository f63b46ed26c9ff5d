"""What launches waited for since their packs lacked it or had it too late. Pure: moments are arguments.

A launch is watched from `prepare` until no application of its bubble has waited for `QUIET_SECONDS`, at most
`WATCH_SECONDS`. Faults may come before the pack's directory is here: they are judged when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

QUIET_SECONDS = 5.0
WATCH_SECONDS = 120.0
_BLOCKS_MAX = 1 << 14
"""Blocks of one launch that are remembered; what comes after them is not reported."""

Place = tuple[bytes, int]
"""A package version, and a block of it."""

Late = tuple[bytes, int, int]
"""The same, and how much of the pack had come when its pages were needed, in thousandths."""


@dataclass(slots=True, eq=False)
class Launch:
    """One launch under watch."""

    bubble: bytes
    version: bytes  # the package on top
    application: str
    began: float
    bytes_before: int  # that had been received for the bubble
    last: float  # when somebody began to wait last
    has_pack: bool = False  # the launch's own pack is known
    packed: dict[Place, int] = field(default_factory=dict)  # pages that its packs bring
    counted: int = 0  # of `missed`, by whoever counts
    healed: set[Place] = field(default_factory=set)  # came damaged from the cache: no fault of the pack's
    missed: dict[Place, int] = field(default_factory=dict)  # in the order in which they were needed
    late: dict[Late, int] = field(default_factory=dict)  # likewise: held by a pack, but far behind
    told_late: dict[Place, int] = field(default_factory=dict)  # pages that are in `late`

    @property
    def pages_needed(self) -> int:
        """Pages that the pack holds, and those that it lacked."""
        return sum(bits.bit_count() for bits in (*self.packed.values(), *self.missed.values()))


class LaunchWatch:
    """The launches of all bubbles, one a bubble at a time."""

    def __init__(self) -> None:
        self._launches: dict[bytes, Launch] = {}
        self._replaced: list[Launch] = []

    def begin(self, bubble: bytes, version: bytes, application: str, received: int, now: float) -> None:
        """Watch a launch; one of the same bubble that is under watch ends."""
        before = self._launches.pop(bubble, None)
        if before is not None:
            self._replaced.append(before)
        self._launches[bubble] = Launch(bubble, version, application, now, received, now)

    def packed(self, bubble: bytes, name: str, pages: Mapping[Place, int]) -> int:
        """Learn which pages a pack of the launch brought, or, with none, that they were all in the cache.

        Args:
            bubble: the launch's.
            name: the pack's: its application, or that of a language beside it.
            pages: by version and block.

        Returns:
            By how many pages the launch has missed more than was returned before; less than nothing if what
            was missed turns out to be in this pack.
        """
        launch = self._launches.get(bubble)
        if launch is None or name.partition("@")[0] != launch.application.partition("@")[0]:
            return 0
        launch.has_pack = launch.has_pack or name == launch.application
        for place, bits in pages.items():
            launch.packed[place] = launch.packed.get(place, 0) | bits
        launch.missed = {
            place: left for place, bits in launch.missed.items() if (left := bits & ~pages.get(place, 0))
        }
        return _count(launch)

    def need(
        self, bubble: bytes, version: bytes, block: int, pages: int, now: float, *, has_pack: bool = False
    ) -> int:
        """Note that an application waits for pages; return by how many more the launch has missed.

        Args:
            bubble: the launch's.
            version: the package.
            block: a block of it.
            pages: bit n: page n of the block.
            now: the moment.
            has_pack: the launch's pack is on its way and has told what it holds: other pages than these.
        """
        launch = self._launches.get(bubble)
        if launch is None:
            return 0
        launch.last = now
        launch.has_pack = launch.has_pack or has_pack
        place = (version, block)
        if place in launch.healed:
            return 0
        before = launch.missed.get(place, 0)
        new = pages & ~before & ~launch.packed.get(place, 0)
        if new and (before or len(launch.missed) < _BLOCKS_MAX):
            launch.missed[place] = before | new
        return _count(launch)

    def late(self, bubble: bytes, version: bytes, block: int, pages: int, come: int) -> None:
        """Note that an application waits for pages that a pack brings, but not soon.

        Args:
            bubble: the launch's.
            version: the package.
            block: a block of it.
            pages: bit n: page n of the block.
            come: how much of the pack's part that leads to the window has come, in thousandths.
        """
        launch = self._launches.get(bubble)
        place = (version, block)
        if launch is None or place in launch.healed:
            return
        new = pages & ~launch.told_late.get(place, 0)
        if new and len(launch.late) < _BLOCKS_MAX:
            launch.told_late[place] = launch.told_late.get(place, 0) | new
            launch.late[*place, come] = launch.late.get((*place, come), 0) | new

    def forget(self, version: bytes, block: int) -> None:
        """Let a block count as packed: it was here, and damaged."""
        place = (version, block)
        for launch in self._launches.values():
            launch.healed.add(place)
            launch.missed.pop(place, None)
            launch.late = {late: bits for late, bits in launch.late.items() if late[:2] != place}

    def ended(self, now: float, is_coming: Callable[[bytes], bool]) -> list[Launch]:
        """Return the launches whose watch is over and that had a pack.

        Args:
            now: the moment.
            is_coming: whether a bubble's pack is still on its way.
        """
        over = self._replaced
        self._replaced = []
        for bubble, launch in tuple(self._launches.items()):
            quiet = now - launch.last >= QUIET_SECONDS and not is_coming(bubble)
            if quiet or now - launch.began >= WATCH_SECONDS:
                over.append(self._launches.pop(bubble))
        return [launch for launch in over if launch.has_pack]

    @property
    def busy(self) -> bool:
        """Whether a launch is under watch."""
        return bool(self._launches or self._replaced)

    def clear(self) -> None:
        """Watch nothing: the user does not want it, or somebody else signed in."""
        self._launches.clear()
        self._replaced.clear()


def _count(launch: Launch) -> int:
    before = launch.counted
    if launch.has_pack:  # a few hundred blocks at most, where a pack is any good
        launch.counted = sum(bits.bit_count() for bits in launch.missed.values())
    return launch.counted - before


class RoundTrips:
    """Counts requests that were waited for one after another: the most that do not overlap."""

    def __init__(self) -> None:
        self._ended: dict[bytes, float] = {}

    def wait(self, bubble: bytes, began: float, now: float) -> int:
        """Note a wait that ends now; return 1 if it began after the last one that was counted had ended."""
        if began < self._ended.get(bubble, float("-inf")):
            return 0
        self._ended[bubble] = now
        return 1
