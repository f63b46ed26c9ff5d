"""Cold starts over a slow link, beside a local disk; tests/bench/README.md tells how each figure is taken."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samples import sequenced
from samples.visit import Launch
from tests.bench.link import SERVER_ADDRESS, Link, slow_link
from tests.packagefiles import open_package, unpack
from tests.stage import RECIPES, Stage, say, stage

GUI_SAMPLES = ("galculator", "inkscape", "firefox-esr", "libreoffice-writer")
_ENOUGH_S = 300.0


@dataclass(slots=True)
class Sample:
    """One application's measurements; a list holds one value a repeat. Times are seconds."""

    application: str
    packaged_bytes: int = 0
    streamed_s: list[float] = field(default_factory=list)
    received_bytes: list[int] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    native_cold_s: list[float] = field(default_factory=list)
    native_warm_s: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every application showed its window every time."""
    parser = argparse.ArgumentParser(prog="tests/bench/coldstart", description=__doc__)
    parser.add_argument("applications", nargs="*", default=list(GUI_SAMPLES), metavar="APPLICATION")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each first window")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("tests/bench/coldstart: needs root, for network namespaces; run it with sudo", file=sys.stderr)
        return 2
    samples = measure(told.applications, told.repeats, told.mbit, told.rtt_ms, told.screenshots)
    link = {"mbit": told.mbit, "rtt_ms": told.rtt_ms, "repeats": told.repeats}
    if told.json:
        print(json.dumps({**link, "applications": [asdict(sample) for sample in samples]}))
    else:
        about = f"{told.mbit:g} Mbit/s, {told.rtt_ms:g} ms, {told.repeats} repeats"
        print(f"{about}; client's cache empty, page cache dropped; median (least to most)")
        print(table(samples))
    return 0 if all(not sample.errors and sample.streamed_s for sample in samples) else 1


def measure(
    names: Sequence[str], repeats: int, mbit: float, rtt_ms: float, screenshots: Path | None = None
) -> list[Sample]:
    """Measure each application `repeats` times, streamed and native in turn."""
    with ExitStack() as undo:
        link = undo.enter_context(slow_link(mbit, rtt_ms))
        on = undo.enter_context(
            stage(
                "millstream-bench",
                host=SERVER_ADDRESS,
                server_prefix=link.server_prefix,
                client_prefix=link.client_prefix,
            )
        )
        samples = []
        for name in names:
            packages = on.publish(name)
            samples.append(Sample(name, packaged_bytes=sum(package.stat().st_size for package in packages)))
        on.sign_in()
        for sample in samples:
            unpacked = _unpacked(on, sample.application)
            for repeat in range(repeats):
                say(f"{sample.application} {repeat + 1}/{repeats}")
                sample.load.append(os.getloadavg()[0])
                try:
                    picture = (
                        screenshots / f"{sample.application}.png" if screenshots and not repeat else None
                    )
                    _streamed(on, link, sample, picture)
                    sample.native_cold_s.append(_native(on, sample.application, unpacked, cold=True))
                    sample.native_warm_s.append(_native(on, sample.application, unpacked, cold=False))
                except RuntimeError as error:
                    sample.errors.append(str(error)[-2000:])
                    on.user.end_processes()
            shutil.rmtree(unpacked, ignore_errors=True)
    return samples


def _drop_page_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _streamed(on: Stage, link: Link, sample: Sample, picture: Path | None) -> None:
    on.forget()
    on.visit.appclient("refresh")  # the agent is resident and signed in, as in any session
    _drop_page_cache()
    before = link.received()
    launch = on.visit.launch(sample.application, timeout_s=_ENOUGH_S)
    received = link.received() - before
    try:
        assert launch.window is not None and launch.seconds is not None
        faults = on.visit.received().faults
        sample.streamed_s.append(round(launch.seconds, 3))
        sample.received_bytes.append(received)
        sample.faults.append(faults)
        sample.windows.append(launch.window.title)
        if picture is not None:
            with on.display.screen() as screen:
                screen.wait_drawn(launch.window, 60)
                picture.parent.mkdir(parents=True, exist_ok=True)
                screen.screenshot(picture)
    finally:
        launch.end()


def _unpacked(on: Stage, application: str) -> Path:
    """Return a folder with all files of `application` and what it runs on, the user's own."""
    folder = on.folder / f"unpacked-{application}"
    folder.mkdir(mode=0o755)
    say(f"unpacking {application}")
    unpack([open_package(path) for path in sequenced.stack(application, on.cache, say, RECIPES)], folder)
    subprocess.run(["chown", "-hR", f"{on.user.uid}:{on.user.gid}", folder], check=True)
    return folder


def _native(on: Stage, application: str, unpacked: Path, *, cold: bool) -> float:
    """Return the seconds to the first window of the same files on the local disk."""
    program = on.folder / "overlaid.py"
    shutil.copyfile(Path(__file__).parent / "overlaid.py", program)
    scratch = on.user.home / "native"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    on.user.give(scratch)
    command = _command(on, application)
    if cold:
        _drop_page_cache()
    with on.display.screen() as screen, (on.folder / "native.log").open("w+") as log:
        started = time.monotonic()
        process = on.user.popen(
            [on.programs / "python", program, unpacked, scratch, on.user.runtime / "Xauthority", *command],
            environment={"DISPLAY": on.display.name},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        launch = Launch(process, started, log)
        try:
            window = screen.first_window(_ENOUGH_S, ended=lambda: process.poll() is not None)
            if window is None:
                raise RuntimeError(f"native {application} showed no window: {launch.output()[-1000:]}")
            return round(window.mapped_at - started, 3)
        finally:
            launch.end()
            shutil.rmtree(scratch, ignore_errors=True)


def _command(on: Stage, application: str) -> list[str]:
    """Return the words of the application's command, from its package, without field codes."""
    applications = open_package(on.package(application)).package.manifest.applications
    found = next(
        (one for one in applications if one.id in {application, f"{application}.desktop"}), applications[0]
    )
    return [word for word in found.command.replace('"', "").split() if not word.startswith("%")]


def table(samples: Sequence[Sample]) -> str:
    """Return the medians as a table in Markdown."""
    lines = [
        "| application | packaged MB | streamed s | received MB | faults "
        "| native cold s | native warm s | load |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for sample in samples:
        cells = [
            sample.application,
            f"{sample.packaged_bytes / 1e6:.0f}",
            _middle(sample.streamed_s, "{:.2f}"),
            _middle([count / 1e6 for count in sample.received_bytes], "{:.1f}"),
            _middle(sample.faults, "{:.0f}"),
            _middle(sample.native_cold_s, "{:.2f}"),
            _middle(sample.native_warm_s, "{:.2f}"),
            f"{max(sample.load, default=0):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        lines.extend(f"  {sample.application}: {error}" for error in sample.errors)
    return "\n".join(lines)


def _middle(values: Sequence[Any], form: str) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


if __name__ == "__main__":
    sys.exit(main())
