"""Cold starts over a slow link, beside what else there is; tests/bench/README.md tells how it is measured."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from samples import sequenced
from tests.bench.baseline import OUT_OF_TIME, drop_page_cache, first_window, shown, touch_memory
from tests.bench.coldresult import (
    DOWNLOAD,
    NATIVE_COLD,
    NATIVE_WARM,
    STREAMED,
    Sample,
    Taken,
    Touched,
    elsewhere,
    record,
    table,
)
from tests.bench.images import UID, Images, images
from tests.bench.link import SERVER_ADDRESS, Link, slow_link
from tests.bench.peers import LIMIT_S, PEERS, Ground, Peer
from tests.bench.plainserver import PlainServer, plain_server
from tests.bench.touched import touched_by_a_launch
from tests.stage import RECIPES, Stage, say, stage

GUI_SAMPLES = ("galculator", "inkscape", "firefox-esr", "libreoffice-writer")

HELD_OUT = {"LANG": "fr_FR.UTF-8"}
HELD_OUT_SIZE = (1600, 1000)
"""Profiles are trained as the sequencer's user, in C.UTF-8, at 1280 x 800; what is measured is another user
with another home, another locale and another screen."""

_ENOUGH_S = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: the link, how often, and against whom."""

    repeats: int = 3
    mbit: float = 100.0
    rtt_ms: float = 20.0
    loss: float = 0.0
    also: tuple[tuple[float, float], ...] = ()
    """Other shapes of the link (milliseconds, share lost) over which ours and a download run as well."""

    peers: tuple[str, ...] = ()
    ours: bool = True
    touched: bool = False
    screenshots: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 if every application showed its window every time."""
    parser = argparse.ArgumentParser(prog="tests/bench/coldstart", description=__doc__)
    parser.add_argument("applications", nargs="*", default=list(GUI_SAMPLES), metavar="APPLICATION")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets lost, such as 0.01")
    parser.add_argument("--also-rtt-ms", type=float, help="ours at another round trip time, too, such as 200")
    parser.add_argument("--also-loss", type=float, help="ours with another loss, too, such as 0.01")
    parser.add_argument("--peers", default="none", help=f"none, all, or some of {','.join(PEERS)}")
    parser.add_argument("--only-peers", action="store_true", help="nothing of ours but the native runs")
    parser.add_argument("--touched", action="store_true", help="trace one launch: bytes of exactly its pages")
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each first window")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(argv)
    named = {"none": [], "all": list(PEERS)}.get(told.peers, told.peers.split(","))
    if unknown := [name for name in named if name not in PEERS]:
        print(f"tests/bench/coldstart: no peer {unknown[0]}, only {', '.join(PEERS)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("tests/bench/coldstart: needs root, for network namespaces; run it with sudo", file=sys.stderr)
        return 2
    also = [(told.also_rtt_ms, told.loss)] if told.also_rtt_ms else []
    also += [(told.rtt_ms, told.also_loss)] if told.also_loss else []
    plan = Plan(
        *(told.repeats, told.mbit, told.rtt_ms, told.loss, tuple(also), tuple(named)),
        *(not told.only_peers, told.touched, told.screenshots),
    )
    samples = measure(told.applications, plan)
    link = {"mbit": plan.mbit, "rtt_ms": plan.rtt_ms, "loss": plan.loss, "repeats": plan.repeats}
    if told.json:
        print(json.dumps({**link, "applications": [record(sample) for sample in samples]}))
    else:
        lost = f", {plan.loss:.1%} lost" if plan.loss else ""
        print(
            f"{plan.mbit:g} Mbit/s, {plan.rtt_ms:g} ms{lost}, {plan.repeats} repeats; caches empty, page "
            "cache dropped; median (least to most); ratios: geometric mean of pairs (95% interval)"
        )
        print(table(samples))
    expected = STREAMED if plan.ours else NATIVE_COLD
    return 0 if all(not sample.failures() and sample.seconds(expected) for sample in samples) else 1


def measure(names: Sequence[str], plan: Plan) -> list[Sample]:
    """Measure each application: ours, the floor and the peers in turn, `plan.repeats` times."""
    with ground(plan, names if plan.ours else ()) as (on, link, server):
        samples = []
        for name in names:
            packages = on.publish(name) if plan.ours else sequenced.stack(name, on.cache, say, RECIPES)
            samples.append(Sample(name, packaged_bytes=sum(package.stat().st_size for package in packages)))
        if plan.ours:
            on.sign_in()
        for sample in samples:
            packages = sequenced.stack(sample.application, on.cache, say, RECIPES)
            made = images(packages, on.cache, say)
            with shown(made.tree, on.folder / "native" / sample.application) as native:
                bench = _Bench(on, link, server, sample, made, native, packages, plan)
                for repeat in range(plan.repeats):
                    say(f"{sample.application} {repeat + 1}/{plan.repeats}")
                    bench.round(repeat)
                if plan.touched:
                    bench.trace()
    return samples


@contextmanager
def ground(plan: Plan, served: Sequence[str] = ()) -> Iterator[tuple[Stage, Link, PlainServer]]:
    """Bring up the link, our server and a plain one at its far end, and the held-out user at its near end.

    Our server holds the samples `served`, with their launch packs.
    """
    with ExitStack() as undo:
        link = undo.enter_context(slow_link(plan.mbit, plan.rtt_ms, plan.loss))
        on = undo.enter_context(
            stage(
                "millstream-bench",
                host=SERVER_ADDRESS,
                server_prefix=link.server_prefix,
                client_prefix=link.client_prefix,
                size=HELD_OUT_SIZE,
                uid=UID,
                served=served,
            )
        )
        on.visit.add_environment(HELD_OUT)
        root = on.cache / "forms"
        root.mkdir(exist_ok=True)
        yield on, link, undo.enter_context(plain_server(link, root, on.folder / "nginx"))


@dataclass(frozen=True, slots=True)
class _Bench:
    """One application on the stage."""

    on: Stage
    link: Link
    server: PlainServer
    sample: Sample
    images: Images
    native: Path
    packages: Sequence[Path]
    plan: Plan

    def round(self, repeat: int) -> None:
        """Run everything once; every second time in reverse, so that nobody is always the first."""
        self.sample.load.append(os.getloadavg()[0])
        turns: list[tuple[str, Callable[[], Taken]]] = [
            (NATIVE_COLD, lambda: self.natively(cold=True)),
            *((name, self._peer_turn(PEERS[name])) for name in self.plan.peers if not self._was_late(name)),
        ]
        if self.plan.ours:
            shot = self.plan.screenshots if not repeat else None
            turns = [*self._ours(), *reversed(turns)] if repeat % 2 else [*turns, *self._ours(shot)]
        for kind, turn in turns:
            try:
                taken = turn()
                if kind == NATIVE_COLD:
                    self.sample.add(NATIVE_WARM, self.natively(cold=False))
            except (RuntimeError, OSError) as error:
                taken = Taken(error=str(error)[-2000:] or type(error).__name__)
                self.on.user.end_processes()
            self.sample.add(kind, taken)

    def _ours(self, screenshots: Path | None = None) -> list[tuple[str, Callable[[], Taken]]]:
        """Return what is ours: a launch and a download of as much, over each shape of the link."""
        turns: list[tuple[str, Callable[[], Taken]]] = [
            (STREAMED, lambda: self.streamed(screenshots)),
            (DOWNLOAD, lambda: self.download(STREAMED)),
        ]
        for rtt_ms, loss in self.plan.also:
            turns += self._ours_at(rtt_ms, loss)
        return turns

    def _ours_at(self, rtt_ms: float, loss: float) -> list[tuple[str, Callable[[], Taken]]]:
        there = elsewhere(STREAMED, rtt_ms, loss)

        def over(run: Callable[[], Taken]) -> Callable[[], Taken]:
            def turn() -> Taken:
                self.link.shape(self.plan.mbit, rtt_ms, loss)
                try:
                    return run()
                finally:
                    self.link.shape(self.plan.mbit, self.plan.rtt_ms, self.plan.loss)

            return turn

        return [
            (there, over(lambda: self.streamed(None))),
            (elsewhere(DOWNLOAD, rtt_ms, loss), over(lambda: self.download(there))),
        ]

    def _was_late(self, peer: str) -> bool:
        """Whether a peer has run out of time with this application: once is enough."""
        return any(OUT_OF_TIME in taken.error for taken in self.sample.runs.get(peer, ()))

    def _peer_turn(self, peer: Peer) -> Callable[[], Taken]:
        return lambda: self.by_peer(peer)

    def streamed(self, screenshots: Path | None) -> Taken:
        """Start it with an empty cache."""
        on = self.on
        on.forget()
        on.visit.appclient("refresh")  # the agent is resident and signed in, as in any session
        on.visit.appclient("cache", "clean", "--all")  # a refresh reads icons: nothing of them shall be here
        on.visit.settle()
        drop_page_cache()
        self._warm_server()
        touch_memory()
        before = self.link.received()
        launch = on.visit.launch(self.sample.application, timeout_s=_ENOUGH_S)
        received = self.link.received() - before
        try:
            assert launch.window is not None and launch.seconds is not None
            tallies = counts(on)
            if screenshots is not None:
                with on.display.screen() as screen:
                    screen.wait_drawn(launch.window, 60)
                    screenshots.mkdir(parents=True, exist_ok=True)
                    screen.screenshot(screenshots / f"{self.sample.application}.png")
            return Taken(round(launch.seconds, 3), received, window=launch.window.title, tallies=tallies)
        finally:
            launch.end()
            on.forget()

    def download(self, like: str) -> Taken:
        """Download as many bytes as the last run of the kind `like` received."""
        streamed = self.sample.runs[like][-1]
        if streamed.error:
            raise RuntimeError("there is nothing to compare a download with")
        before = self.link.received()
        seconds = self.server.download(streamed.received_bytes)
        return Taken(round(seconds, 3), self.link.received() - before)

    def natively(self, *, cold: bool) -> Taken:
        """Start it from the local disk."""
        seconds = first_window(
            self.on,
            self.sample.application,
            [self.native],
            HELD_OUT,
            timeout_s=_ENOUGH_S,
            prepare=drop_page_cache if cold else lambda: None,
        )
        return Taken(seconds)

    def by_peer(self, peer: Peer) -> Taken:
        """Start it as a peer brings it."""
        for form in peer.served:
            self.images.form(form)
        place = self.on.folder / "peer"
        place.mkdir()
        ground = Ground(self.on, self.link, self.server, self.images, place)

        def prepare() -> None:
            nonlocal before
            drop_page_cache()
            peer.warm(ground)
            before = self.link.received()

        before = 0
        received = 0

        @contextmanager
        def bring() -> Iterator[Sequence[Path]]:
            nonlocal received
            with peer.bring(ground):
                try:
                    yield ()
                finally:
                    received = self.link.received() - before

        try:
            with ExitStack() as undo:
                if peer.serve is not None:
                    undo.enter_context(peer.serve(ground))
                seconds = first_window(
                    self.on,
                    self.sample.application,
                    peer.folders(ground),
                    HELD_OUT,
                    timeout_s=LIMIT_S,
                    prepare=prepare,
                    bring=bring,
                )
            return Taken(seconds, received)
        finally:
            self.on.put_aside(place)

    def trace(self) -> None:
        """Find the pages that a launch touches, in a run of its own."""
        say(f"{self.sample.application}: tracing the pages of a launch")
        try:
            self.sample.touched = touched_by_a_launch(
                self.on, self.sample.application, self.images.tree, self.packages[-1]
            )
        except (RuntimeError, OSError) as error:
            self.sample.errors.append(f"no trace: {error}")
            self.on.user.end_processes()

    def _warm_server(self) -> None:
        """Read what our server holds of this application: a server in use has it in memory."""
        for path in self.on.service.folder.rglob("*"):
            if path.is_file() and path.stat().st_size > 1 << 16:
                with path.open("rb") as file:
                    while file.read(1 << 20):
                        pass


def build_packs(on: Stage) -> None:
    """Have the server merge what it learned and build its launch packs now, not some time in the background.

    Raises:
        RuntimeError: it cannot.
    """
    on.service.command("packs", "build")


def counts(on: Stage) -> dict[str, int]:
    """Return what the client has counted, summed over its bubbles."""
    found: dict[str, int] = {}
    for tally in on.visit.status()["bubbles"].values():
        for name, value in tally.items():
            if isinstance(value, int):
                found[name] = found.get(name, 0) + value
    return found


__all__ = ["GUI_SAMPLES", "Plan", "Sample", "Taken", "Touched", "measure", "record", "table"]

if __name__ == "__main__":
    sys.exit(main())
