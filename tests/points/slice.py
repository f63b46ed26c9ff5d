"""One real application, end to end: sequence, serve, stream, run in its bubble (eight points)."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samples.demonstration import CLONE
from tests.bench import coldstart
from tests.bench.coldresult import NATIVE_COLD, STREAMED
from tests.pictures import is_drawn
from tests.points.outcome import Outcome, Points
from tests.points.slice_crashes import killed_agents
from tests.points.slice_damage import flipped_bytes
from tests.points.slice_isolation import isolation
from tests.points.slice_samples import six_samples

FIRST_S, AGAIN_S = 300.0, 30.0
"""Seconds that the quickstart may take on a fresh machine, and the second time."""

FUZZED_INPUTS = 200_000


def quickstart_twice(outcome: Outcome, artefacts: Path) -> None:
    """A clean clone and an empty cache: the quickstart ends 0 with a screenshot, both times."""
    with clean_clone() as clone, tempfile.TemporaryDirectory(prefix="millstream-show-") as kept:
        Path(kept).chmod(0o755)
        environment = {**os.environ, "MILLSTREAM_QUICKSTART_CACHE": f"{kept}/quickstart"}
        for run, limit_s in (("first", FIRST_S), ("again", AGAIN_S)):
            picture = artefacts / f"{run}.png"
            began = time.monotonic()
            done = subprocess.run(
                [clone / "samples" / "quickstart", "--json", "--invisible", "--output", picture],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
            took = time.monotonic() - began
            (artefacts / f"{run}.log").write_text(done.stdout + done.stderr)
            if outcome.require(f"the {run} run ends with 0", done.returncode == 0, done.stderr):
                told = json.loads(done.stdout)
                outcome.figures[run] = told
                outcome.require(
                    f"the {run} run shows galculator", "galculator" in told["title"].lower(), told
                )
                outcome.require(f"the {run} run's screenshot is drawn", is_drawn(picture))
            outcome.figures[f"{run}_s"] = round(took, 1)
            outcome.require(f"the {run} run takes at most {limit_s:.0f} s", took <= limit_s, f"{took:.0f} s")
            left = [user.pw_name for user in pwd.getpwall() if user.pw_name == "millstream-demo"]
            left += running_under(kept)
            outcome.require(f"the {run} run leaves nothing running", not left, left)


def everything_green(outcome: Outcome, artefacts: Path) -> None:
    """`tests/run` on a clean clone: green, nothing skipped."""
    with clean_clone() as clone:
        began = time.monotonic()
        with (artefacts / "run.log").open("w") as log:
            done = subprocess.run(
                [clone / "tests" / "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        outcome.figures["seconds"] = round(time.monotonic() - began, 1)
    said = (artefacts / "run.log").read_text(errors="replace")
    closing = re.findall(r"=+ (.*\bin [\d.]+s.*?) =+", said)
    outcome.require("tests/run ends with 0", done.returncode == 0, said)
    if outcome.require("pytest tells what it ran", bool(closing), said):
        outcome.figures["pytest"] = closing[-1]
        outcome.require("something passed", " passed" in closing[-1], closing[-1])
        for word in ("skipped", "xfailed", "xpassed", "failed", "error", "deselected"):
            outcome.require(f"nothing {word}", word not in closing[-1], closing[-1])


def fuzzers(outcome: Outcome, artefacts: Path) -> None:
    """Any bytes at all end in FormatError, within the stated memory."""
    done = subprocess.run(
        [CLONE / ".venv/bin/python", "-m", "tests.fuzz", "--inputs", str(FUZZED_INPUTS), "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=CLONE,
    )
    (artefacts / "fuzz.log").write_text(done.stdout + done.stderr)
    if outcome.require("the fuzzer ends with 0", done.returncode == 0, done.stdout + done.stderr):
        told = json.loads(done.stdout.strip().splitlines()[-1])
        outcome.figures |= told
        outcome.require(f"at least {FUZZED_INPUTS} inputs", int(told["inputs"]) >= FUZZED_INPUTS, told)


def cold_starts(outcome: Outcome, artefacts: Path) -> None:
    """The four GUI samples at 100 Mbit/s and 20 ms, beside native."""
    samples = coldstart.measure(coldstart.GUI_SAMPLES, coldstart.Plan(repeats=3, screenshots=artefacts))
    (artefacts / "coldstart.md").write_text(coldstart.table(samples) + "\n")
    told = [coldstart.record(sample) for sample in samples]
    (artefacts / "coldstart.json").write_text(json.dumps(told, indent=1))
    for sample, figures in zip(samples, told, strict=True):
        outcome.figures[sample.application] = figures
        streamed, native = sample.seconds(STREAMED), sample.seconds(NATIVE_COLD)
        outcome.require(f"{sample.application} streams every time", len(streamed) == 3, sample.failures())
        outcome.require(f"{sample.application} runs natively", bool(native), sample.failures())


@contextmanager
def clean_clone() -> Iterator[Path]:
    """What is committed, in a new folder."""
    with tempfile.TemporaryDirectory(prefix="millstream-clone-") as folder:
        clone = Path(folder) / "millstream"
        subprocess.run(["git", "clone", "--quiet", CLONE, clone], check=True, stdin=subprocess.DEVNULL)
        yield clone


def running_under(folder: str) -> list[str]:
    """Return the command lines of the processes that speak of `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in words and entry.parent.name != str(os.getpid()):
            found.append(words)
    return found


POINTS: Points = {
    1: quickstart_twice,
    2: everything_green,
    3: six_samples,
    4: isolation,
    5: killed_agents,
    6: flipped_bytes,
    7: fuzzers,
    8: cold_starts,
}
