"""From an update to the first window, beside a cold first launch: a real application in two real versions.

The client has run the old version and has all of it. The server gets the new one, with its launch pack and
its deltas; the client refreshes its list; then the application is started. Nothing of the new version was
fetched before. The page cache holds what it does when the old version was just used; what an update takes
from the disk is told, too. A cold launch is one on an empty client, with an empty page cache.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from samples import sequenced
from tests.bench.baseline import drop_page_cache, touch_memory
from tests.bench.coldstart import Plan, build_packs, ground
from tests.bench.filling import fill
from tests.bench.link import Link
from tests.bench.ratio import Interval, geometric_mean_of_ratios, ratio
from tests.points.outcome import Outcome
from tests.points.speed_options import MBIT, RTT_MS, repeats
from tests.stage import RECIPES, Stage, say

APPLICATION, BEFORE = "inkscape", "inkscape-before"
AT_MOST = 0.5
_UPDATE, _FROM_DISK, _COLD = "updated", "updated, from the disk", "cold"
_REPEATS = 7


@dataclass(slots=True)
class Starts:
    """Equal positions were measured together. Seconds to the first window, bytes on the line until then."""

    update_s: list[float] = field(default_factory=list)
    from_disk_s: list[float] = field(default_factory=list)  # an update, with nothing in the page cache
    cold_s: list[float] = field(default_factory=list)
    update_bytes: list[int] = field(default_factory=list)
    from_disk_bytes: list[int] = field(default_factory=list)
    cold_bytes: list[int] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def to_cold(self) -> Interval | None:
        """Return the ratio of the times."""
        pairs = list(zip(self.update_s, self.cold_s, strict=True))
        return ratio(pairs, geometric_mean_of_ratios) if pairs else None


def measure(count: int, plan: Plan) -> Starts:
    """Update and start, and start cold, `count` times."""
    found = Starts()
    with ground(plan) as (on, link, _):
        before = sequenced.stack(BEFORE, on.cache, say, RECIPES)
        after = sequenced.stack(APPLICATION, on.cache, say, RECIPES)
        for package in before:
            on.service.command("import", package)
        on.service.entitle(APPLICATION, "everybody")
        build_packs(on)
        on.sign_in()
        on.visit.launch(APPLICATION).end()
        fill(on, APPLICATION)  # as the background fill does, as it comes
        on.visit.leave()
        for name, place in _places(on):
            _copy(place, on.folder / name)
        on.service.command("import", after[-1])
        build_packs(on)
        on.service.command("deltas", "build")
        _be_updated(on)
        _start(on, link, from_disk=False)  # a server in use has its files in memory
        taken = {
            _UPDATE: (found.update_s, found.update_bytes),
            _FROM_DISK: (found.from_disk_s, found.from_disk_bytes),
            _COLD: (found.cold_s, found.cold_bytes),
        }
        for repeat in range(count):
            found.load.append(os.getloadavg()[0])
            turns = (_UPDATE, _FROM_DISK, _COLD)
            for turn in turns if repeat % 2 == 0 else reversed(turns):
                say(f"{APPLICATION} {turn} {repeat + 1}/{count}")
                if turn == _COLD:
                    on.forget()
                else:
                    _be_updated(on)
                seconds, received = _start(on, link, from_disk=turn != _UPDATE)
                taken[turn][0].append(seconds)
                taken[turn][1].append(received)
    return found


def _be_updated(on: Stage) -> None:
    """Be the client that knows the old version, and not yet that there is a new one."""
    on.forget()
    for name, place in _places(on):
        _copy(on.folder / name, place)


def _start(on: Stage, link: Link, *, from_disk: bool) -> tuple[float, int]:
    on.visit.appclient("refresh")
    on.visit.settle()
    os.sync()  # the copy is the benchmark's own
    if from_disk:
        drop_page_cache()
    touch_memory()
    before = link.received()
    launch = on.visit.launch(APPLICATION)
    received = link.received() - before
    assert launch.seconds is not None
    launch.end()
    return round(launch.seconds, 3), received


def _places(on: Stage) -> tuple[tuple[str, Path], ...]:
    """Return what the client has, and where: kept from when it knew the old version alone."""
    home = on.user.home
    return ("cache", home / ".cache/millstream"), ("state", home / ".local/state/millstream")


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with owners and holes."""
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True, stdin=subprocess.DEVNULL)


def point(outcome: Outcome, artefacts: Path) -> None:
    """Measure this part of `tests/show speed 9`."""
    found = measure(repeats(_REPEATS), Plan(mbit=MBIT, rtt_ms=RTT_MS))
    interval = found.to_cold()
    outcome.figures["update_to_first_window"] = {
        "update_s": found.update_s,
        "update_from_disk_s": found.from_disk_s,
        "cold_s": found.cold_s,
        "update_bytes": found.update_bytes,
        "cold_bytes": found.cold_bytes,
        "ratio": None if interval is None else interval.record(),
    }
    outcome.expect("from an update to the first window over a cold first launch", interval, AT_MOST)
