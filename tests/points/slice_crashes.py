"""Point 5: the agent is killed in the middle of streaming, twenty times at random moments."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from appclient.fetching import AHEAD_BYTES, WORKERS
from samples import sequenced
from tests.packagefiles import open_package, unpack
from tests.points.outcome import Outcome
from tests.stage import RECIPES, Stage, say, stage

KILLS = 20
READ = ("usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu")
"""What the bubble reads from end to end, below its root."""

IN_FLIGHT_BYTES = WORKERS * AHEAD_BYTES
"""What may be on its way at once: one request of every worker."""

SCRIPT = "cd /; find {folders} -xdev -type f -print0 | sort -z | xargs -0 sha256sum\n"


def killed_agents(outcome: Outcome, artefacts: Path) -> None:
    """Each time: start on an empty cache, kill -9 at a random moment, compare every byte, run again."""
    randomness = random.Random(20)
    with stage("millstream-show") as on:
        on.publish("probe-one")
        on.sign_in()
        script = on.user.home / "read.sh"
        script.write_text(SCRIPT.format(folders=" ".join(READ)))
        on.user.give(script)
        truth = true_sums(on)
        on.forget()
        began = time.monotonic()
        first = on.visit.appclient("run", "probe-one", script, timeout_s=600)
        whole_s = time.monotonic() - began
        outcome.require("undisturbed, every file reads back correct", sums(first.stdout) == truth)
        outcome.figures |= {"files": len(truth), "undisturbed_s": round(whole_s, 2), "kills": 0}
        again: list[int] = []
        rows = []
        for kill in range(KILLS):
            row = _one_kill(on, outcome, script, truth, randomness.uniform(0.1, 0.9) * whole_s)
            rows.append(row)
            again.append(int(str(row["fetched_again_bytes"])))
            outcome.figures["kills"] = sum(bool(one["killed"]) for one in rows)
            say(f"kill {kill + 1}/{KILLS}: {row}")
        (artefacts / "kills.json").write_text(json.dumps(rows, indent=1))
        outcome.require("the agent was killed every time", outcome.figures["kills"] == KILLS)
        outcome.figures |= {"most_fetched_again_bytes": max(again), "in_flight_limit_bytes": IN_FLIGHT_BYTES}
        outcome.require(
            "no more than what was in flight is fetched again", max(again) <= IN_FLIGHT_BYTES, again
        )


def _one_kill(
    on: Stage, outcome: Outcome, script: Path, truth: dict[str, str], after_s: float
) -> dict[str, object]:
    on.forget()
    on.visit.appclient("refresh")  # the agent runs
    log = on.folder / "access.log"
    start = log.stat().st_size
    launch = on.visit.start("probe-one", script)
    time.sleep(after_s)
    killed = kill_agents(on)
    try:
        launch.process.wait(600)
        survivor = sums(launch.output()) == truth
    finally:
        launch.end()
    following = on.visit.appclient("run", "probe-one", script, timeout_s=600, check=False)
    outcome.require("the next run starts", following.returncode == 0, following.stderr)
    correct = sums(following.stdout) == truth
    outcome.require("after a kill, every file reads back correct", correct, following.stderr)
    outcome.require("the running application reads on, correctly", survivor)
    return {
        "after_s": round(after_s, 2),
        "killed": len(killed),
        "running_application_correct": survivor,
        "next_run_correct": correct,
        "fetched_again_bytes": fetched_again(log.read_text()[start:].splitlines()),
    }


def kill_agents(on: Stage) -> list[int]:
    """Kill the user's agent as a crash would; return the process ids."""
    agents = on.user.agents()
    for process in agents:
        os.kill(process, signal.SIGKILL)
    return agents


def true_sums(on: Stage) -> dict[str, str]:
    """Return the SHA-256 of every file that the script reads, from the package files themselves."""
    folder = on.folder / "truth"
    folder.mkdir()
    unpack([open_package(path) for path in sequenced.stack("probe-one", on.cache, say, RECIPES)], folder)
    found = {}
    for part in READ:
        for path in (folder / part).rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def sums(output: str) -> dict[str, str]:
    """Return what sha256sum printed, by path."""
    pairs = (line.split("  ", 1) for line in output.splitlines() if "  " in line)
    return {path: digest for digest, path in pairs}


def fetched_again(lines: Iterable[str]) -> int:
    """Return the bytes of objects that the server sent more than once, from its access log."""
    intervals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    sent = 0
    for line in lines:
        try:
            told = json.loads(line[line.index("{") :])
        except ValueError:
            continue
        if not str(told.get("path", "")).startswith("/v1/objects/") or told.get("status") not in (200, 206):
            continue
        wanted = str(told.get("range", "bytes=0-")).removeprefix("bytes=")
        first = int(wanted.split("-")[0] or 0)
        sent += int(told["bytes"])
        intervals[told["path"]].append((first, first + int(told["bytes"])))
    covered = 0
    for spans in intervals.values():
        end = -1
        for first, last in sorted(spans):
            covered += max(0, last - max(first, end))
            end = max(end, last)
    return sent - covered
