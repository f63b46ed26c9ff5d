"""The whole of Millstream once through: sequence, serve, sign in, stream, run.

Started by `samples/quickstart`, which sets this machine up first.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples.demonstration import demonstration_user, open_fuse_device, root
from samples.sequenced import forget_old, public_key, stack
from samples.service import Service
from samples.visit import Launch, Visit
from sequencer.display import Display
from sequencer.screen import Screen

APPLICATION = "galculator"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    cache: Path
    packages: Path
    output: Path
    as_json: bool
    invisible: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the quickstart; return its exit status."""
    parser = argparse.ArgumentParser(prog="samples/quickstart", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--packages", type=Path, help="where sequenced packages are kept")
    parser.add_argument("--output", type=Path, help="where the screenshot goes")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output")
    parser.add_argument("--invisible", action="store_true", help="not on the user's display")
    told = parser.parse_args(argv)
    os.environ.pop("PYTHONPATH", None)  # what we start is what was installed, not this clone
    output = told.output or told.cache / f"{APPLICATION}.png"
    options = Options(told.cache, told.packages or told.cache, output.absolute(), told.json, told.invisible)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        figures = run(options)
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    except (RuntimeError, OSError) as error:
        say(f"quickstart: {error}")
        if options.as_json:
            print(json.dumps({"holds": False, "error": str(error)}))
        return 1
    if options.as_json:
        print(json.dumps({"holds": True, **figures}))
    else:
        print(summary(figures))
    return 0


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def say(line: str) -> None:
    """Tell what is being done, apart from the result."""
    print(f"· {line}", file=sys.stderr, flush=True)


def run(options: Options) -> dict[str, Any]:
    """Do all of it once; everything that was started or changed is ended or put back on the way out."""
    began = time.monotonic()
    programs = Path(sys.executable).parent
    packages = stack(APPLICATION, options.packages, say)
    forget_old(options.packages)
    packaged = sum(package.stat().st_size for package in packages)
    sequenced_s = time.monotonic() - began
    say(f"packages: {', '.join(f'{p.name} ({p.stat().st_size / 1e6:.0f} MB)' for p in packages)}")

    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="server-", dir=options.cache)))
        service = undo.enter_context(Service(folder / "state", programs / "streamserver"))
        service.command("trust", "add", public_key(options.packages))
        password = secrets.token_urlsafe(12)
        service.person("demo", password, "everybody")
        service.publish(packages, "everybody")
        say(f"server: {service.url}, user demo may run {APPLICATION}")
        say("building launch packs, as a server does by itself after an import")
        service.command("packs", "build")

        if undo.enter_context(open_fuse_device()):
            say("/dev/fuse was closed to ordinary users: opened until this ends (mode 0666)")
        user = undo.enter_context(demonstration_user())
        if user.made:
            say(f"made the user {user.name} (uid {user.uid}); deleted again when this ends")
        visit = Visit(user, programs)
        undo.callback(visit.leave)
        own_display = bool(os.environ.get("DISPLAY")) and not options.invisible
        screen = undo.enter_context(_own_screen(visit) if own_display else _invisible_screen(visit, undo))

        visit.login(service.url, "demo", password)
        say(f"signed in; the cache is empty; starting {APPLICATION}")
        launch = visit.launch(APPLICATION, screen=screen)
        undo.callback(launch.end)
        assert launch.window is not None
        assert launch.seconds is not None
        screen.wait_drawn(launch.window, 20)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        screen.screenshot(options.output, launch.window)
        figures = {
            "application": APPLICATION,
            "title": launch.window.title,
            "seconds_to_first_window": round(launch.seconds, 2),
            "bytes_packaged": packaged,
            "bytes_received": visit.received().bytes,
            "screenshot": str(options.output),
            "sequencing_s": round(sequenced_s, 1),
            "user": user.name,
        }
        if own_display and sys.stdin.isatty() and not options.as_json:
            say(f"{launch.window.title} is on your display: close it, or press Ctrl-C, to end")
            _wait(launch)
    figures["total_s"] = round(time.monotonic() - began, 1)
    return figures


def _invisible_screen(visit: Visit, undo: ExitStack) -> Screen:
    display = undo.enter_context(Display(1024, 768))
    visit.use(display)
    return display.screen()


def _own_screen(visit: Visit) -> Screen:
    """Let the demonstration's user onto the caller's own display, for as long as he exists."""
    name = os.environ["DISPLAY"]
    cookie = Path(os.environ.get("XAUTHORITY") or Path.home() / ".Xauthority")
    environment = {"DISPLAY": name}
    if cookie.exists():
        copy = visit.user.runtime / "Xauthority"
        shutil.copyfile(cookie, copy)
        copy.chmod(0o600)
        environment["XAUTHORITY"] = str(visit.user.give(copy))
    visit.add_environment(environment)
    return Screen()


def _wait(launch: Launch) -> None:
    try:
        launch.process.wait()
    except KeyboardInterrupt:
        say("closing it")


def summary(figures: dict[str, Any]) -> str:
    """Return what happened, in words, and how to look further."""
    share = figures["bytes_received"] / figures["bytes_packaged"]
    where = f"the bubble of user {figures['user']}" if root() else "its bubble"
    sent, packaged = (figures[name] / 1e6 for name in ("bytes_received", "bytes_packaged"))
    return f"""
{figures["title"]} showed its window after {figures["seconds_to_first_window"]} s, in {where}.
Its cache was empty: {sent:.1f} MB of {packaged:.1f} MB packaged were sent for that ({share:.0%}).
The screenshot: {figures["screenshot"]}

What you can do next:
  a package of your own      sequencer build --help       sequencer/README.md
  a server of your own       streamserver init --help     streamserver/README.md
  running what is published  appclient login --help       appclient/README.md
The three programs are in {Path(sys.executable).parent}
'samples/quickstart --clean' removes what was kept."""


if __name__ == "__main__":
    sys.exit(main())
