"""Point 3: each sample streamed to an empty cache, its window seen; a document saved and opened again."""

from __future__ import annotations

import subprocess
import time
import zipfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from samples.visit import Launch
from sequencer.screen import Screen, Window
from tests.packagefiles import open_package
from tests.pictures import is_drawn
from tests.points.hostfiles import Listing, changes, list_host, within_reach
from tests.points.outcome import Outcome
from tests.stage import SAMPLE_NAMES, Stage, stage

SENTENCE = "Millstream wrote this in its bubble"
WRITER = "libreoffice-writer"
QUIET_S = 6.0
"""How long no dialog must have come up before Writer counts as ready."""

TYPED = "Millstream\n\x04"
"""What console samples are given: a line, and the end of input."""


def six_samples(outcome: Outcome, artefacts: Path) -> None:
    """Every sample, and LibreOffice's document."""
    outcome.require("there are six samples", len(SAMPLE_NAMES) >= 6, SAMPLE_NAMES)
    with stage("millstream-show") as on:
        documents = on.user.home / "Documents"
        documents.mkdir()
        on.user.give(documents)
        for name in SAMPLE_NAMES:
            on.publish(name)
        on.sign_in()
        before = list_host(own_folders(on, artefacts))
        for name in SAMPLE_NAMES:
            on.forget()
            try:
                outcome.figures[name] = run_sample(on, name, outcome, artefacts)
            except RuntimeError as error:
                outcome.require(f"{name} runs", False, error)
        if WRITER in SAMPLE_NAMES:
            outcome.figures["document"] = save_and_open(on, outcome, artefacts, documents / "letter.odt")
        on.visit.leave()
        compare_host(on, outcome, artefacts, before, {f"+ {documents / 'letter.odt'}"})


def compare_host(
    on: Stage, outcome: Outcome, artefacts: Path, before: Listing, expected: Collection[str]
) -> None:
    """Require that nothing of the host is different from `before` but what is `expected`."""
    after = list_host(own_folders(on, artefacts))
    changed = changes(before, after)
    ours = within_reach(changed, before, after, on.user.uid, on.user.gid)
    (artefacts / "changed-on-host.txt").write_text("\n".join(ours))
    (artefacts / "changed-by-others.txt").write_text("\n".join(sorted(set(changed) - set(ours))))
    outcome.figures |= {
        "host_files_compared": len(before),
        "host_files_changed": len(ours),
        "host_files_changed_by_others": len(changed) - len(ours),
    }
    outcome.require(
        "nothing of the host changed but what was saved in Documents",
        set(ours) == set(expected),
        sorted(set(ours) ^ set(expected))[:40],
    )


def own_folders(on: Stage, artefacts: Path) -> list[Path]:
    """Return what may change: the client's own folders, and where the test itself works."""
    home = on.user.home
    client = [home / name for name in (".cache/millstream", ".local/state/millstream", ".config/millstream")]
    return [*client, on.user.runtime, on.folder, on.cache, artefacts]


def run_sample(on: Stage, name: str, outcome: Outcome, artefacts: Path) -> dict[str, object]:
    """Start `name` on an empty client; return what was seen of it."""
    applications = open_package(on.package(name)).package.manifest.applications
    application = next((one for one in applications if one.id == name), applications[0])
    if application.terminal:
        began = time.monotonic()
        said = on.visit.converse(application.id, typed=TYPED)
        (artefacts / f"{name}.txt").write_text(said)
        answer = said.removeprefix(TYPED.split("\x04")[0]).strip()
        outcome.require(f"{name} answers", len(answer) > len(TYPED), said)
        seen: dict[str, object] = {"output": answer, "s": round(time.monotonic() - began, 2)}
    else:
        picture = artefacts / f"{name}.png"
        launch = on.visit.launch(name)
        try:
            assert launch.window is not None and launch.seconds is not None
            with on.display.screen() as screen:
                outcome.require(f"{name} draws its window", screen.wait_drawn(launch.window, 90))
                time.sleep(2)
                screen.screenshot(picture)
                title = next((one.title for one in screen.windows() if one.id == launch.window.id), "")
            outcome.require(f"{name} is on the screenshot", is_drawn(picture))
            seen = {"title": title, "s": round(launch.seconds, 2), "screenshot": picture.name}
        finally:
            launch.end()
    received = on.visit.received()
    return seen | {"bytes_received": received.bytes, "faults": received.faults}


def save_and_open(on: Stage, outcome: Outcome, artefacts: Path, document: Path) -> dict[str, object]:
    """Type a sentence in Writer, save it as a person does, and open the document in a second launch."""
    launch = on.visit.launch(WRITER)
    try:
        with on.display.screen() as screen:
            window = writing_window(screen, launch)
            screen.type(SENTENCE)
            time.sleep(1)
            known = {one.id for one in screen.windows()}
            screen.press("Control_L", "s")
            dialog = new_window(screen, known, 30)
            if outcome.require("Ctrl+S opens a dialog", dialog is not None):
                assert dialog is not None
                screen.focus(dialog)
                time.sleep(1)
                screen.press("Control_L", "a")
                screen.type(str(document))
                screen.screenshot(artefacts / "writer-save.png")
                screen.press("Return")
            deadline = time.monotonic() + 60
            while not document.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(2)
            screen.screenshot(artefacts / "writer-saved.png")
            quit_writer(screen, window, launch)
    finally:
        launch.end()
    if not outcome.require("the document is in the user's Documents", document.exists()):
        return {}
    outcome.require("it belongs to the user", document.stat().st_uid == on.user.uid)
    with zipfile.ZipFile(document) as archive:
        content = archive.read("content.xml").decode(errors="replace")
    outcome.require("the document holds what was typed", SENTENCE in content, content)
    again = on.visit.launch(WRITER, document)
    try:
        with on.display.screen() as screen:
            window = writing_window(screen, again)
            outcome.require("the second launch opens it", document.stem in window.title, window.title)
            screen.wait_drawn(window, 60)
            time.sleep(3)
            screen.screenshot(artefacts / "writer-opened.png")
            quit_writer(screen, window, again)
            return {
                "title": window.title,
                "bytes": document.stat().st_size,
                "s": round(again.seconds or 0, 2),
            }
    finally:
        again.end()


def writing_window(screen: Screen, launch: Launch) -> Window:
    """Return Writer's document window, with the keyboard; dismiss what greets the user before it."""
    assert launch.window is not None
    screen.wait_drawn(launch.window, 120)
    deadline = time.monotonic() + 90
    quiet_since = time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        windows = screen.windows()
        writer = next((one for one in windows if "Writer" in one.title), None)
        others = [one for one in windows if writer is not None and one.id != writer.id]
        for other in others:  # a tip of the day, which comes seconds after the document
            time.sleep(1)
            screen.focus(other)
            screen.press("Escape")
        if writer is None or others:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > QUIET_S:
            screen.focus(writer)
            time.sleep(1)
            return writer
    raise RuntimeError(f"no document window among {[one.title for one in screen.windows()]}")


def quit_writer(screen: Screen, window: Window, launch: Launch) -> None:
    """Quit as a person does, so that Writer puts its lock away."""
    screen.focus(window)
    screen.press("Control_L", "q")
    with suppress(subprocess.TimeoutExpired):
        launch.process.wait(15)


def new_window(screen: Screen, known: set[int], timeout_s: float) -> Window | None:
    """Return the first window that is not `known`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = next((one for one in screen.windows() if one.id not in known), None)
        if found is not None:
            return found
        time.sleep(0.2)
    return None
