"""Training: an application started on the streamed view, and each page that it touches noted.

What runs, each in a bubble made anew (so that the kernel has no page of it) with readahead 0:

    first launches       empty home, no changes; the last of them leads: by then the cache is warm
    second launch        the home and the changes that the first one left
    one per document     of each type that the application claims and we can make, and of the packager's own
    a launch elsewhere   another locale, another size of screen, no network: what users differ in

Then first launches, elsewhere and here in turn, are rehearsed over a line that is not there (`rehearsal`),
and pages that were asked for before their turn move ahead.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bubble.cachefile import CacheFolder
from bubble.launch import BubbleSpec, probe
from bubble.trace import RECORD, VARIABLE, TracedRead, read_trace
from bubble.viewimage import load
from packageformat.application import Application
from packageformat.errors import MillstreamError
from packageformat.launchprofile import LaunchProfile, PackageProfiles, decode_profiles, encode_profiles
from packageformat.movedahead import moved_ahead
from sequencer.documents import documents_for
from sequencer.errors import TrainingError
from sequencer.firsttouch import Contents, RunKind, TracedRun, ViewContents, profile_of
from sequencer.localsupply import LocalSupplier, supply
from sequencer.ordinary import Tell, as_ordinary, given_to, ordinary_user
from sequencer.packagefile import PackageFile
from sequencer.rehearsal import Line
from sequencer.trainingrun import POLL_S, Step, remove, shown
from sequencer.trial import room_in, supplied

IDLE_S = 1.5
"""Seconds without a read after which an application that shows its window has come to rest."""

IDLE_MAX_S = 15.0
"""Seconds after the window when a run ends even so."""

REHEARSALS, ROUND_TRIPS_ENOUGH = 4, 2
"""Rehearsals at most; two that wait no more often for pages out of turn, here and elsewhere, are the last."""

BEHIND_PART = 16
"""One page for so many that lead to the window may come from behind it at a time."""

ELSEWHERE_LOCALE, ELSEWHERE_SIZE = "de_DE.UTF-8", (1024, 768)
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
_OURS = "millstream-train-"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    first_launches: int = 2
    documents: tuple[Path, ...] = ()  # the packager's own, opened besides those that we make
    elsewhere: bool = True
    rehearsals: bool = True  # over a line that is not there


@dataclass(slots=True)
class Watch:
    """Who is told how it goes."""

    say: Say = field(default=lambda _: None)  # a step is over
    tick: Say = field(default=lambda _: None)  # often


def gui_applications(files: Sequence[PackageFile]) -> list[Application]:
    """Return the applications of the topmost package that show a window."""
    return [one for one in files[-1].package.manifest.applications if not one.terminal]


def train(
    files: Sequence[PackageFile], scratch: Path, plan: Plan, watch: Watch, only: str = ""
) -> PackageProfiles:
    """Train the applications of the topmost package that show a window; by an ordinary user, if this is root.

    Args:
        files: the stack, bottom first.
        scratch: an existing folder on a local disk; what is made there is removed.
        plan: how.
        watch: is told how it goes.
        only: the id of one application, or empty for all.

    Raises:
        NoUserNamespacesError, NoFuseError, OverlayError, HostError: this machine cannot run bubbles.
        TrainingError: there is nothing to train, or an application shows no window.
    """
    manifest = files[-1].package.manifest
    applications = [one for one in gui_applications(files) if only in ("", one.id)]
    if not applications:
        raise TrainingError(
            f"{manifest.name} has no application {only!r} that shows a window"
            if only
            else f"{manifest.name} has no application that shows a window",
            hint="launch profiles are for these only; a console application is streamed without one"
            if not only
            else f"it has: {', '.join(one.id for one in gui_applications(files)) or 'none'}",
        )
    for document in plan.documents:
        if not document.is_file():
            raise TrainingError(f"no file {document}", hint="name documents that exist")
    with ordinary_user(watch.say) as user:
        if user is None:
            probe().require()
            return _train(files, scratch, plan, watch, applications)
        own = replace(plan, documents=given_to(user, plan.documents))
        hear = {"say": watch.say, "tick": watch.tick}

        def work(tell: Tell) -> bytes:
            mine = Watch(lambda text: tell("say", text), lambda text: tell("tick", text))
            return encode_profiles(_train(files, user.folder, own, mine, applications))

        return decode_profiles(as_ordinary(user, work, lambda kind, text: hear[kind](text)))


def _train(
    files: Sequence[PackageFile],
    scratch: Path,
    plan: Plan,
    watch: Watch,
    applications: Sequence[Application],
) -> PackageProfiles:
    profiles: list[LaunchProfile] = []
    with (
        room_in(scratch) as room,
        _memory(files, room) as fast,
        supplied(files, room, fast / "cache") as spec,
    ):
        contents = ViewContents(load(spec.view_image.read_bytes()))
        for application in applications:
            trainer = _Trainer(application, files, spec, room, fast, contents, watch)
            profiles.append(trainer.train(plan))
    return PackageProfiles(files[-1].package.version_id, tuple(profiles))


@contextmanager
def _memory(files: Sequence[PackageFile], room: Path) -> Iterator[Path]:
    """Give a folder for the cache and the home: in memory if the stack fits there.

    Then no disk is in the way of the order: neither for the blocks, nor for settings that are synced.
    """
    plain_bytes = sum(file.package.manifest.plain_bytes for file in files)
    try:
        if shutil.disk_usage(MEMORY).free < 3 * plain_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as if there were no such place
        for left in MEMORY.glob(f"{_OURS}*"):
            if left.stat().st_uid == os.getuid() and not Path(f"/proc/{left.name.split('-')[2]}").exists():
                shutil.rmtree(left, ignore_errors=True)  # of one that was killed
        folder = Path(tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-", dir=MEMORY))
    except OSError:
        yield room
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Trainer:
    """Trains one application."""

    def __init__(
        self,
        application: Application,
        files: Sequence[PackageFile],
        spec: BubbleSpec,
        room: Path,
        fast: Path,
        contents: Contents,
        watch: Watch,
    ) -> None:
        self._application = application
        self._files = files
        self._room = room
        self._spec = replace(spec, state=room / "trained/state", home=fast / "trained-home")
        self._contents = contents
        self._watch = watch
        self._documents = room / "documents"

    def train(self, plan: Plan) -> LaunchProfile:
        """Return the profile."""
        runs: list[TracedRun] = []
        seen: set[tuple[int, int]] = set()
        for step in self._steps(plan):
            try:
                run = self._run(step)
            except TrainingError as error:
                if step.kind is RunKind.FIRST:
                    raise
                self._watch.say(f"{self._application.id}: {step.name}: left out: {error}")
                continue
            runs.append(run)
            pages = {(read.content, page) for read in run.reads for page in _pages(read)}
            new = len(pages - seen)
            seen |= pages
            self._watch.say(
                f"{self._application.id}: {step.name}: window after {run.window_ms / 1000:.1f} s, "
                f"{len(pages):,} pages ({len(pages) * 4096 / 1e6:,.1f} MB), {new:,} of them new"
            )
        # The last first launch leads: nothing was in its way but the pages themselves.
        first = [run for run in runs if run.kind is RunKind.FIRST]
        ordered = [first[-1], *first[:-1], *(run for run in runs if run.kind is not RunKind.FIRST)]
        profile = profile_of(self._application.id, self._spec.bubble_id, self._contents, ordered)
        return self._rehearsed(profile, runs, elsewhere=plan.elsewhere) if plan.rehearsals else profile

    def _steps(self, plan: Plan) -> Iterator[Step]:
        for number in range(plan.first_launches):
            yield Step("first launch" if not number else f"first launch {number + 1}", RunKind.FIRST)
        yield Step("second launch", RunKind.LATER, fresh=False)
        self._documents.mkdir(exist_ok=True)
        for document in documents_for(self._application.mime_types):
            path = self._documents / f"document.{document.suffix}"
            path.write_bytes(document.content())
            yield Step(f"opening {document.suffix}", RunKind.LATER, fresh=False, document=path)
        for path in plan.documents:
            yield Step(f"opening {path.name[:100]}", RunKind.LATER, fresh=False, document=path.absolute())
        if plan.elsewhere:
            width, height = ELSEWHERE_SIZE
            yield Step(
                f"first launch, {ELSEWHERE_LOCALE}, {width} x {height}",
                RunKind.VARIATION,
                locale=ELSEWHERE_LOCALE,
                size=ELSEWHERE_SIZE,
                network=False,
            )

    def _run(self, step: Step) -> TracedRun:
        trace = self._room / "trace"
        trace.unlink(missing_ok=True)
        traced = {"MILLSTREAM_READAHEAD": "0", VARIABLE: str(trace)}

        def tick(began: float) -> None:
            self._tell(step, trace, began)

        with shown(self._application, step, self._spec, self._room, traced, tick) as run:
            self._await_idle(step, trace, run.began)
            reads = list(read_trace(trace.read_bytes()))
        if not reads:
            raise TrainingError(
                f"{self._application.id} was started and the view was asked for nothing",
                hint="this is a bug of the view: nothing is traced",
            )
        began, mapped = int(run.began * 1e6), int(run.mapped_at * 1e6)
        return TracedRun(step.name, step.kind, began, mapped, tuple(reads))

    def _rehearsed(
        self, profile: LaunchProfile, runs: Sequence[TracedRun], *, elsewhere: bool
    ) -> LaunchProfile:
        """Return a profile whose pages come before they are asked for, as far as rehearsals tell."""
        nodes: dict[bytes, list[int]] = {}
        for node in dict.fromkeys(read.content for run in runs for read in run.reads):
            nodes.setdefault(self._contents[node].content_id, []).append(node)
        image = load(self._spec.view_image.read_bytes())
        place = self._spec.cache.with_name("line")
        spec = replace(self._spec, cache=place, supplier=self._spec.supplier.with_name("line"), streamed=True)
        sizes: dict[tuple[bytes, int], float] = {}
        waited: list[int] = []
        # What only a launch elsewhere touches, another language's files, stays: launches here do without.
        shared = {touch.content for touch in profile.touches[: profile.window_touches]}
        elsewhere = elsewhere and any(run.kind is RunKind.VARIATION for run in runs)
        for number in range(REHEARSALS):
            step = Step(f"rehearsal {number + 1}", RunKind.FIRST)
            if elsewhere and number % 2 == 0:
                step = replace(step, locale=ELSEWHERE_LOCALE, size=ELSEWHERE_SIZE, network=False)
            remove(place)
            cache = CacheFolder(place)
            line = Line(
                *(profile, image, nodes, CacheFolder(self._spec.cache), cache),
                *(LocalSupplier(self._files, cache), sizes),
            )

            def tick(began: float, step: Step = step) -> None:
                self._watch.tick(f"{self._application.id}: {step.name}: {time.monotonic() - began:4.1f} s")

            try:
                with (
                    supply(spec.supplier, spec.view_image, line, line.attend),
                    shown(self._application, step, spec, self._room, {}, tick) as run,
                ):
                    asked = dict(line.asked)  # at once: it is still being added to
                    round_trips = line.round_trips
            except (MillstreamError, OSError, ExceptionGroup) as error:  # the profile is good without, too
                self._watch.say(f"{self._application.id}: {step.name}: left out: {error}")
                if step.network:
                    break
                elsewhere = False  # it may need a network
                continue
            seconds = run.mapped_at - run.began
            self._watch.say(
                f"{self._application.id}: {step.name}: window after {seconds:.1f} s over 100 Mbit/s, "
                f"{round_trips} times it waited for a page out of turn"
            )
            own = {place: come for place, come in asked.items() if place[0] in shared}
            moved = moved_ahead(profile, own, behind=profile.before_window().pages // BEHIND_PART)
            profile = moved or profile
            waited.append(round_trips if moved else 0)
            if len(waited) > 1 and max(waited[-2:]) <= ROUND_TRIPS_ENOUGH:
                break
        remove(place)
        return profile

    def _await_idle(self, step: Step, trace: Path, began: float) -> None:
        """Wait until the application reads nothing any more."""
        end = time.monotonic() + IDLE_MAX_S
        size, since = -1, time.monotonic()
        while time.monotonic() < end:
            now = _size(trace)
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since >= IDLE_S:
                return
            self._tell(step, trace, began)
            time.sleep(POLL_S)

    def _tell(self, step: Step, trace: Path, began: float) -> None:
        reads = _size(trace) // RECORD.size
        seconds = time.monotonic() - began
        self._watch.tick(f"{self._application.id}: {step.name}: {seconds:4.1f} s, {reads:,} pages")


def _pages(read: TracedRead) -> range:
    return range(read.first_page, read.first_page + read.pages)


def _size(trace: Path) -> int:
    try:
        return trace.stat().st_size
    except FileNotFoundError:
        return 0
