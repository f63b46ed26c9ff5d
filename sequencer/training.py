"""Training: an application started on the streamed view, and each page that it touches noted.

What runs, each in a bubble made anew (so that the kernel has no page of it) with readahead 0:

    first launches       empty home, no changes; the last of them leads: by then the cache is warm
    second launch        the home and the changes that the first one left
    one per document     of each type that the application claims and we can make, and of the packager's own
    a launch elsewhere   another locale, another size of screen: what users differ in

Then first launches are rehearsed over a line that is not there (`rehearsal`), and pages that were asked for
before their turn move ahead.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bubble.cachefile import CacheFolder
from bubble.launch import BubbleSpec, is_running, probe
from bubble.trace import RECORD, VARIABLE, TracedRead, read_trace
from bubble.viewimage import load
from packageformat.application import Application
from packageformat.launchprofile import LaunchProfile, PackageProfiles, decode_profiles, encode_profiles
from packageformat.movedahead import moved_ahead
from sequencer.display import Display
from sequencer.documents import documents_for
from sequencer.errors import TrainingError
from sequencer.firsttouch import Contents, RunKind, TracedRun, ViewContents, profile_of
from sequencer.localsupply import LocalSupplier, supply
from sequencer.ordinary import Tell, as_ordinary, given_to, ordinary_user
from sequencer.packagefile import PackageFile
from sequencer.rehearsal import Line
from sequencer.trial import WINDOW_S, arguments_of, await_exit, end_bubble, room_in, start_inside, supplied

IDLE_S = 1.5
"""Seconds without a read after which an application that shows its window has come to rest."""

IDLE_MAX_S = 15.0
"""Seconds after the window when a run ends even so."""

CLOSE_S = 5.0
"""Seconds that an application has to close its window, which lets it write its settings."""

REHEARSALS, ROUND_TRIPS_ENOUGH = 5, 2
"""Rehearsals at most; one that waits no more often for pages out of turn is the last."""

BEHIND_PART = 16
"""One page for so many that lead to the window may come from behind it at a time."""

LOCALE, SIZE = "en_US.UTF-8", (1280, 800)
ELSEWHERE_LOCALE, ELSEWHERE_SIZE = "de_DE.UTF-8", (1024, 768)
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
_OURS = "millstream-train-"
_POLL_S = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    first_launches: int = 2
    documents: tuple[Path, ...] = ()  # the packager's own, opened besides those that we make
    elsewhere: bool = True
    rehearsals: bool = True  # over a line that is not there


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    kind: RunKind
    fresh: bool = True  # an empty home and no changes
    document: Path | None = None
    locale: str = LOCALE
    size: tuple[int, int] = SIZE


@dataclass(frozen=True, slots=True)
class _Shown:
    """A first window: seconds of the monotonic clock."""

    began: float
    mapped_at: float


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
        if shutil.disk_usage(MEMORY).free < 2 * plain_bytes:
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
        return self._rehearsed(profile, runs) if plan.rehearsals else profile

    def _steps(self, plan: Plan) -> Iterator[_Step]:
        for number in range(plan.first_launches):
            yield _Step("first launch" if not number else f"first launch {number + 1}", RunKind.FIRST)
        yield _Step("second launch", RunKind.LATER, fresh=False)
        self._documents.mkdir(exist_ok=True)
        for document in documents_for(self._application.mime_types):
            path = self._documents / f"document.{document.suffix}"
            path.write_bytes(document.content())
            yield _Step(f"opening {document.suffix}", RunKind.LATER, fresh=False, document=path)
        for path in plan.documents:
            yield _Step(f"opening {path.name[:100]}", RunKind.LATER, fresh=False, document=path.absolute())
        if plan.elsewhere:
            width, height = ELSEWHERE_SIZE
            yield _Step(
                f"first launch, {ELSEWHERE_LOCALE}, {width} x {height}",
                RunKind.VARIATION,
                locale=ELSEWHERE_LOCALE,
                size=ELSEWHERE_SIZE,
            )

    def _run(self, step: _Step) -> TracedRun:
        trace = self._room / "trace"
        trace.unlink(missing_ok=True)
        traced = {"MILLSTREAM_READAHEAD": "0", VARIABLE: str(trace)}
        with self._shown(step, self._spec, traced, lambda began: self._tell(step, trace, began)) as shown:
            self._await_idle(step, trace, shown.began)
            reads = list(read_trace(trace.read_bytes()))
        if not reads:
            raise TrainingError(
                f"{self._application.id} was started and the view was asked for nothing",
                hint="this is a bug of the view: nothing is traced",
            )
        began, mapped = int(shown.began * 1e6), int(shown.mapped_at * 1e6)
        return TracedRun(step.name, step.kind, began, mapped, tuple(reads))

    @contextmanager
    def _shown(
        self,
        step: _Step,
        spec: BubbleSpec,
        environment: Mapping[str, str],
        tick: Callable[[float], None],
        begin: Callable[[], None] = lambda: None,
    ) -> Iterator[_Shown]:
        """Start the application; the block runs when it shows its window, which is closed behind it.

        Args:
            step: what to do.
            spec: its bubble.
            environment: what comes to the run's own.
            tick: is told often when it began, until the window.
            begin: called right before.

        Raises:
            TrainingError: there is no window.
        """
        if step.fresh:
            _remove(spec.state.parent)
            _remove(spec.home)
        spec.state.mkdir(parents=True, exist_ok=True)
        output = self._room / "output"
        argv = arguments_of(self._application.command, str(step.document or ""))
        with Display(*step.size) as display, display.screen() as screen:
            inside = {**_environment(step.locale, display.environment), **environment}
            screen.forget()
            began = time.monotonic()
            begin()
            child = start_inside(spec, argv, inside, output, [step.document] if step.document else [])
            try:

                def has_ended() -> bool:
                    tick(began)
                    code = child.poll()
                    return code is not None and (code != 0 or not is_running(spec.state))

                window = screen.first_window(WINDOW_S, has_ended)
                if window is None:
                    raise self._no_window(step, child.poll(), output)
                yield _Shown(began, window.mapped_at)
                screen.ask_to_close(window)
                self._await_end()
            finally:
                if child.poll() is None:
                    child.terminate()
                    await_exit(child, CLOSE_S)
                end_bubble(spec, patience=1.0)

    def _rehearsed(self, profile: LaunchProfile, runs: Sequence[TracedRun]) -> LaunchProfile:
        """Return a profile whose pages come before they are asked for, as far as rehearsals tell."""
        nodes: dict[bytes, list[int]] = {}
        for node in dict.fromkeys(read.content for run in runs for read in run.reads):
            nodes.setdefault(self._contents[node].content_id, []).append(node)
        image = load(self._spec.view_image.read_bytes())
        place = self._spec.cache.with_name("line")
        spec = replace(self._spec, cache=place, supplier=self._spec.supplier.with_name("line"), streamed=True)
        sizes: dict[tuple[bytes, int], float] = {}
        for number in range(REHEARSALS):
            step = _Step(f"rehearsal {number + 1}", RunKind.FIRST)
            _remove(place)
            cache = CacheFolder(place)
            line = Line(
                *(profile, image, nodes, CacheFolder(self._spec.cache), cache),
                *(LocalSupplier(self._files, cache), sizes),
            )

            def tick(began: float, step: _Step = step) -> None:
                self._watch.tick(f"{self._application.id}: {step.name}: {time.monotonic() - began:4.1f} s")

            try:
                with (
                    supply(spec.supplier, spec.view_image, line, line.attend),
                    self._shown(step, spec, {}, tick, line.begin) as shown,
                ):
                    asked, round_trips = dict(line.asked), line.round_trips
            except TrainingError as error:
                self._watch.say(f"{self._application.id}: {step.name}: left out: {error}")
                break
            seconds = shown.mapped_at - shown.began
            self._watch.say(
                f"{self._application.id}: {step.name}: window after {seconds:.1f} s over 100 Mbit/s, "
                f"{round_trips} times it waited for a page out of turn"
            )
            if round_trips <= ROUND_TRIPS_ENOUGH:
                break
            moved = moved_ahead(profile, asked, behind=profile.before_window().pages // BEHIND_PART)
            if moved is None:
                break
            profile = moved
        _remove(place)
        return profile

    def _await_idle(self, step: _Step, trace: Path, began: float) -> None:
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
            time.sleep(_POLL_S)

    def _await_end(self) -> None:
        """Wait until an application that was asked to close has gone, for a while."""
        end = time.monotonic() + CLOSE_S
        while is_running(self._spec.state) and time.monotonic() < end:
            time.sleep(_POLL_S)

    def _tell(self, step: _Step, trace: Path, began: float) -> None:
        reads = _size(trace) // RECORD.size
        seconds = time.monotonic() - began
        self._watch.tick(f"{self._application.id}: {step.name}: {seconds:4.1f} s, {reads:,} pages")

    def _no_window(self, step: _Step, code: int | None, output: Path) -> TrainingError:
        try:
            said = " ".join(output.read_text("utf-8", "replace")[-400:].split())
        except OSError:
            said = ""
        how = f"it ended with {code}" if code is not None else f"it runs, but for {WINDOW_S:.0f} s shows none"
        return TrainingError(
            f"{self._application.id} shows no window ({step.name}): {how}{f': {said}' if said else ''}",
            hint="try 'sequencer verify', correct the recipe, or build with --no-train",
        )


def _environment(locale: str, display: Mapping[str, str]) -> dict[str, str]:
    """Return what the run's environment is: nothing of the packager's own session."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LC_")
        and name not in ("LANGUAGE", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "GTK_THEME")
        and not name.startswith("XDG_CURRENT_")
    }
    return {**ours, **display, "LANG": locale}


def _pages(read: TracedRead) -> range:
    return range(read.first_page, read.first_page + read.pages)


def _size(trace: Path) -> int:
    try:
        return trace.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(folder: Path) -> None:
    """Remove what a bubble left, if anything; an overlay's work folder is closed even to its owner."""
    if not folder.exists():
        return
    for place in folder.glob("*/work/work"):
        place.chmod(0o700)
    shutil.rmtree(folder)
