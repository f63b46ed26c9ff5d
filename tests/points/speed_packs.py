"""Points 5, 6 and 11: what launch packs hold, lack and share."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from packageformat.launchprofile import LaunchProfile, decode_profiles
from samples.demonstration import CLONE
from tests.bench.coldresult import STREAMED, elsewhere
from tests.bench.coldstart import Plan, build_packs, counts, ground
from tests.bench.images import images
from tests.bench.link import Link
from tests.bench.touched import TouchedPage, packed_bytes, traced_pages, unprofiled
from tests.pictures import is_drawn
from tests.points.outcome import Outcome
from tests.points.speed_cold import TO_TOUCHED, cold_samples
from tests.points.speed_options import FAR_MS, MBIT, RTT_MS, applications
from tests.stage import Stage, say

LACKING, LACKING_AFTER, ROUND_TRIPS_AFTER = 0.02, 0.005, 5
CLIENTS = ("learner-one", "learner-two", "learner-three")
ROUNDS = 4
LAUNCHES = 3
_REPORT_S = 10.0


def pages_lacking(outcome: Outcome, artefacts: Path) -> None:
    """Pages a held-out launch needed and the pack lacked, before and after relearning from three clients."""
    with ground(Plan(mbit=MBIT, rtt_ms=RTT_MS), applications()) as (on, link, _):
        for client in CLIENTS:
            on.service.person(client, on.password, "everybody")
        for application in applications():
            say(f"{application}: what its launch pack lacks")
            on.sign_in()
            pages = traced_pages(on, application)
            before = _launches(on, link, application)
            profile = _profile_beside(on.package(application), application)
            own = unprofiled(pages, profile) if profile is not None else list(pages)
            share = before["misses"] / len(pages)
            seen = _learning(on, application)
            on.user.end_processes()
            on.visit.appclient("remove", "--yes")
            on.sign_in()
            after = _launches(on, link, application)
            outcome.figures[application] = {
                "pages_touched": len(pages),
                "pages_unprofiled": len(own),  # most of them are in the language's pack
                "pages_lacking": before["misses"],
                "share": round(share, 5),
                "before": before,
                "while_learning": seen,  # round trips of each client's launch, round by round
                "after_relearning": after,
                "round_trips": _round_trips(application),
            }
            (artefacts / f"{application}-lacking.txt").write_text(_listing(own))
            outcome.require(f"{application}: at most {LACKING:.0%} lacking", share <= LACKING, f"{share:.2%}")
            needed = after.get("pages_needed") or len(pages)
            lacking = after["misses"]
            outcome.require(
                f"{application}: at most {LACKING_AFTER:.1%} lacking after relearning",
                lacking <= needed * LACKING_AFTER,
                f"{lacking} of {needed}",
            )
            outcome.require(
                f"{application}: at most {ROUND_TRIPS_AFTER} round trips after relearning",
                after["round_trips"] <= ROUND_TRIPS_AFTER,
                after["round_trips"],
            )


def _learning(on: Stage, application: str) -> list[list[int]]:
    """Let each client launch, and the server learn from that, some times over; return the round trips.

    Who is spared one wait meets the next one sooner, so one round is not enough for an application of many
    threads; nor do clients launch only once. It ends when no client has waited more often than is promised.
    """
    seen: list[list[int]] = []
    while len(seen) < ROUNDS and not (seen and max(seen[-1]) <= ROUND_TRIPS_AFTER):
        seen.append([])
        for client in CLIENTS:
            on.forget()
            on.user.end_processes()  # some of an application may still be ending
            on.visit.appclient("remove", "--yes")
            on.sign_in(name=client)
            launch = on.visit.launch(application)
            seen[-1].append(counts(on)["round_trips"])
            time.sleep(_REPORT_S)
            launch.end()
            on.visit.leave()  # what is left to report goes out with the agent
        build_packs(on)
    return seen


def _launches(on: Stage, link: Link, application: str) -> dict[str, int]:
    """Launch a few times on an empty client; return what was counted of the middle one.

    Which thread of an application is first differs from launch to launch, so one tells little.
    """
    counted = [_launch(on, link, application) for _ in range(LAUNCHES)]
    return sorted(counted, key=lambda one: (one["round_trips"], one["misses"]))[LAUNCHES // 2]


def _launch(on: Stage, link: Link, application: str) -> dict[str, int]:
    """Launch on an empty client; return what the client counted until the first window."""
    on.forget()
    on.visit.appclient("refresh")
    on.visit.settle()
    before = link.received()
    launch = on.visit.launch(application)
    told = {"line_bytes": link.received() - before, **counts(on)}
    launch.end()
    # Requests that somebody waited for; "round_trips" are those of them that do not overlap, and what goes
    # before: whatever the critical path is, it has no more.
    told["waits"] = told.get("faults_served", 0) - told.get("faults_packed", 0)
    return told


def _round_trips(application: str) -> float | None:
    """Return how many round trips a launch waits for beyond a plain download, from its time far away.

    From points 1 to 4, if they were measured in this run.
    """
    if not cold_samples.cache_info().currsize:
        return None
    sample = next((one for one in cold_samples() if one.application == application), None)
    far = [] if sample is None else sample.seconds(elsewhere(STREAMED, FAR_MS, 0.0))
    if sample is None or not far:
        return None
    ours = statistics.median(far) - statistics.median(sample.seconds(STREAMED))
    plain = statistics.median(sample.seconds(elsewhere("download", FAR_MS, 0.0)))
    plain -= statistics.median(sample.seconds("download"))
    return round((ours - plain) / ((FAR_MS - RTT_MS) / 1e3), 1)


def second_application(outcome: Outcome, artefacts: Path) -> None:
    """An application on a runtime that another has brought: bytes moved are only its own."""
    chosen = applications()
    first = chosen[0]
    with ground(Plan(mbit=MBIT, rtt_ms=RTT_MS), chosen) as (on, link, _):
        on.sign_in()
        on.visit.appclient("settings", "--fill", "off")  # what a launch moves, and nothing behind it
        shared = {(page.content_id, page.page) for page in traced_pages(on, first)}
        for second in chosen[1:]:
            say(f"{second} after {first}")
            pages = traced_pages(on, second)
            own = [page for page in pages if (page.content_id, page.page) not in shared]
            tree = images(on.publish(second), on.cache, say).tree
            yardstick, alone = packed_bytes(own, tree), _launch(on, link, second)["line_bytes"]
            _launch(on, link, first)
            on.visit.appclient("refresh")
            on.visit.settle()
            before = link.received()
            launch = on.visit.launch(second)
            received = link.received() - before
            launch.end()
            outcome.figures[second] = {
                "after": first,
                "line_bytes": received,
                "line_bytes_alone": alone,
                "own_pages": len(own),
                "pages": len(pages),
                "own_packed_bytes": yardstick,
                "ratio": round(received / yardstick, 3),
            }
            outcome.require(f"{second} moves less after {first}", received < alone, outcome.figures[second])
            outcome.require(
                f"{second} after {first} moves only its own (at most {TO_TOUCHED:g} of its own pages)",
                received <= yardstick * TO_TOUCHED,
                outcome.figures[second],
            )
    if len(chosen) < 2:
        outcome.require("two applications are needed", False, chosen)


def profile_picture(outcome: Outcome, artefacts: Path) -> None:
    """`sequencer profile` draws LibreOffice's launch, and a page of the clone shows such a picture."""
    from samples import sequenced
    from tests.stage import RECIPES, package_cache

    stack = sequenced.stack("libreoffice-writer", package_cache(), say, RECIPES)
    folder = artefacts / "packages"
    folder.mkdir(exist_ok=True)
    for package in stack:
        for file in (package, package.with_suffix(".profile")):
            if file.exists():
                (folder / file.name).symlink_to(file)
    picture = artefacts / "libreoffice-writer.png"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sequencer", "profile", folder / stack[-1].name, "libreoffice-writer"),
            *("--packages", folder, "--picture", picture, "--json"),
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=CLONE,
    )
    if outcome.require("sequencer profile ends with 0", done.returncode == 0, done.stderr):
        outcome.figures["profile"] = [json.loads(line) for line in done.stdout.splitlines()]
        drawn = [path for path in artefacts.glob("*.png") if is_drawn(path)]
        outcome.require("it draws a picture", bool(drawn), sorted(path.name for path in artefacts.iterdir()))
    pages = [page for page in CLONE.glob("*/README.md")] + [CLONE / "README.md"]
    shown = [page for page in pages if "sequencer profile" in page.read_text() and "![" in page.read_text()]
    outcome.require("a README shows the picture", bool(shown))


def _profile_beside(package: Path, application: str) -> LaunchProfile | None:
    beside = package.with_suffix(".profile")
    if not beside.exists():
        return None
    known = decode_profiles(beside.read_bytes()).profiles
    return next(
        (one for one in known if one.application in {application, f"{application}.desktop"}),
        known[0] if known else None,
    )


def _listing(pages: Sequence[TouchedPage]) -> str:
    by_path: dict[bytes, list[int]] = {}
    for page in pages:
        by_path.setdefault(page.path, []).append(page.page)
    return "".join(
        f"{len(numbers):5} {path.decode(errors='replace')}\n"
        for path, numbers in sorted(by_path.items(), key=lambda item: -len(item[1]))
    )
