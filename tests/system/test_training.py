"""Training, for real: a small program with a window whose every touch is known, on the streamed view."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from packageformat.launchprofile import LaunchProfile
from samples.demonstration import open_fuse_device
from sequencer.ordinary import ROOM
from sequencer.profilefile import read_profiles

PROGRAM = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef struct display Display;  /* by hand: the headers' package would bring the library below ours */
typedef unsigned long Window, Atom;
typedef union { int type; long pad[24]; } XEvent;
enum { ClientMessage = 33 };
Display *XOpenDisplay(const char *);
Window XDefaultRootWindow(Display *);
Window XCreateSimpleWindow(Display *, Window, int, int, unsigned, unsigned, unsigned, Atom, Atom);
Atom XInternAtom(Display *, const char *, int);
int XStoreName(Display *, Window, const char *), XSetWMProtocols(Display *, Window, Atom *, int);
int XMapWindow(Display *, Window), XFlush(Display *), XNextEvent(Display *, XEvent *);
static int data;
static void touch(int page) { char byte; if (pread(data, &byte, 1, page * 4096L) != 1) exit(4); }
int main(int argc, char **argv) {
  char place[4096];
  const char *language = getenv("LANG");
  data = open("/opt/small/data", O_RDONLY);
  touch(77); touch(3);
  for (int page = 200; page < 204; page++) touch(page);
  snprintf(place, sizeof place, "%s/.small", getenv("HOME"));
  if (access(place, F_OK) == 0) touch(100); else close(open(place, O_CREAT | O_WRONLY, 0600));
  if (argc > 1 && strstr(argv[1], ".html")) return 5;  /* claims it, and cannot: that run is left out */
  if (argc > 1) touch(120);
  if (getuid() == 0) touch(170);
  if (language && !strncmp(language, "de", 2)) touch(150);
  Display *display = XOpenDisplay(NULL);
  if (!display) return 3;
  Window window = XCreateSimpleWindow(display, XDefaultRootWindow(display), 0, 0, 300, 200, 0, 0, 0xffffff);
  Atom closing = XInternAtom(display, "WM_DELETE_WINDOW", 0);
  XStoreName(display, window, "small");
  XSetWMProtocols(display, window, &closing, 1);
  XMapWindow(display, window);
  XFlush(display);
  usleep(600000);
  touch(240);
  for (XEvent event;;) { XNextEvent(display, &event); if (event.type == ClientMessage) return 0; }
}
"""
DATA = "seq -w 1 300000 | head -c 1200000"

RECIPE = """[package]
name = "small"
version = "{version}"
base = "debian-12"
[build]
network = true
tools = ["gcc", "libc6-dev"]
files = ["small.c"]
commands = ['''
apt-get update; apt-get install -y --no-install-recommends libx11-6
mkdir -p /opt/small {more}
gcc -o /usr/bin/small /run/millstream/files/small.c /usr/lib/*/libX11.so.6
{data} > {place}
''']
[[application]]
id = "small"
name = "Small"
command = "{command} %f"
mime_types = ["text/plain", "text/html", "text/x-small"]
terminal = false
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A packager's place."""

    folder: Path
    base: Path

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), **variables}
        return subprocess.run(
            [sys.executable, "-m", "sequencer", *map(str, words)],
            env=environment, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip

    def build(
        self, version: str, *words: str | Path, command: str = "small", **changes: str
    ) -> dict[str, Any]:
        key = self.folder / "key"
        if not key.exists():
            assert self.run("keygen", key).returncode == 0
        (self.folder / "small.c").write_text(PROGRAM)
        told = {"data": DATA, "place": "/opt/small/data", "more": "", **changes}
        (self.folder / "small.toml").write_text(RECIPE.format(version=version, command=command, **told))
        done = self.run(
            "build", self.folder / "small.toml", "--key", key, "--output", self.folder / "out",
            "--base", self.base, "--json", *words,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    def package(self, version: str) -> Path:
        return self.folder / f"out/small_{version}.ovp"

    def profile(self, version: str) -> LaunchProfile:
        (profile,) = read_profiles(self.folder / f"out/small_{version}.profile").profiles
        return profile


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, packages: Callable[[str], Path]) -> Bench:
    """A bench where version 1 was built, and trained by that."""
    bench = Bench(tmp_path_factory.mktemp("training"), packages("debian-12"))
    with open_fuse_device():
        record = bench.build("1")
    assert record["profile"]["how"] == "trained", record["profile"]
    return bench


def test_root_trains_as_an_ordinary_user(trained: Bench) -> None:
    assert os.getuid() == 0, "the whole of tests/system needs root"
    touched = pages(trained.profile("1"), b"opt/small/data")
    assert 77 in touched
    assert 170 not in touched, "the program touches it if it runs as root"
    assert not list(ROOM.glob("millstream-train-*"))


def pages(profile: LaunchProfile, path: bytes) -> list[int]:
    """Return the touched pages of a file, in order."""
    return [
        page
        for touch in profile.touches
        if profile.contents[touch.content].path == path
        for page in range(touch.first_page, touch.first_page + touch.pages)
    ]


@pytest.mark.timeout(900)  # the runtime is made first
def test_a_build_trains_and_the_profile_has_exactly_what_was_touched_in_order(trained: Bench) -> None:
    profile = trained.profile("1")
    before_window = [77, 3, 200, 201, 202, 203]
    assert pages(profile.before_window(), b"opt/small/data") == before_window
    # Then what the first launch touches after its window, the second launch, a document, another locale.
    assert pages(profile, b"opt/small/data") == [*before_window, 240, 100, 120, 150]
    runs = [run.name for run in profile.runs]
    assert runs[:4] == ["first launch 2", "first launch", "second launch", "opening txt"]
    assert runs[4].startswith("first launch, de_DE")
    assert pages(profile.before_window(), b"usr/bin/small")
    assert pages(profile.before_window(), b"usr/lib/x86_64-linux-gnu/libc.so.6")
    assert all(run.window_ms > 0 for run in profile.runs)


def test_first_launches_are_rehearsed_on_an_empty_cache(trained: Bench) -> None:
    again = trained.folder / "again.profile"
    words = ["train", trained.package("1"), "--packages", trained.base.parent, "--output", again]
    with open_fuse_device():
        done = trained.run(*words, "--here-only", "--runs", "1")
        assert done.returncode == 0, done.stderr
        assert "small: rehearsal 1: window after" in done.stderr
        (profile,) = read_profiles(again).profiles
        touched = pages(profile.before_window(), b"opt/small/data")
        assert sorted(touched) == [3, 77, 200, 201, 202, 203]
        plain = trained.run(*words, "--here-only", "--runs", "1", "--no-rehearsals")
    assert plain.returncode == 0, plain.stderr
    assert "rehearsal" not in plain.stderr


def test_a_profile_is_shown_and_drawn(trained: Bench) -> None:
    shown = trained.run("profile", trained.package("1"), "--packages", trained.base.parent)
    assert shown.returncode == 0, shown.stderr
    assert "opt/small/data" in shown.stdout
    assert "first window" in shown.stdout
    picture = trained.folder / "launch.png"
    done = trained.run(
        "profile", trained.package("1"), "small", "--packages", trained.base.parent,
        "--json", "--picture", picture,
    )  # fmt: skip
    record = json.loads(done.stdout)
    assert record["missing_pages"] == 0
    layers = {layer["name"].split()[0]: layer for layer in record["layers"]}
    assert 0 < layers["debian-12"]["touched"] < layers["debian-12"]["pages"]
    assert record["pages"] == sum(layer["touched"] for layer in record["layers"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    failed = trained.run("profile", trained.package("1"), "other", "--packages", trained.base.parent)
    assert failed.returncode == 25
    assert failed.stderr.count("\n") == 1


def test_a_profile_survives_a_rebuild_without_training(trained: Bench) -> None:
    record = trained.build("2", "--no-train", more="/opt/other", place="/opt/other/moved")
    assert record["profile"]["how"] == "taken over"
    assert "100% of the pages of small_1.profile hold" in record["profile"]["told"]
    shown = trained.run("profile", trained.package("2"), "--packages", trained.base.parent, "--json")
    assert json.loads(shown.stdout)["missing_pages"] == 0


def test_an_application_without_a_window_is_packed_all_the_same(trained: Bench) -> None:
    record = trained.build("3", "--profile", trained.folder / "out/small_1.profile", command="/bin/false")
    assert record["profile"]["how"] == "taken over"
    assert "small shows no window" in record["profile"]["told"]
    failed = trained.run("train", trained.package("3"), "--packages", trained.base.parent)
    assert failed.returncode == 25
    assert failed.stderr.count("\n") >= 1
    assert "shows no window (first launch): it ended with 1" in failed.stderr.splitlines()[-1]
    assert trained.run("train", trained.base).returncode == 25


def test_a_machine_without_a_display_server_says_what_to_install(trained: Bench) -> None:
    done = trained.run(
        "train", trained.package("1"), "--packages", trained.base.parent, PATH=_bubblewrap_only(trained)
    )
    assert done.returncode == 23
    assert "Xvfb is not installed" in done.stderr


def _bubblewrap_only(bench: Bench) -> str:
    folder = bench.folder / "bin"
    folder.mkdir()
    for program in ("bwrap", "setpriv"):
        (folder / program).symlink_to(f"/usr/bin/{program}")
    return str(folder)


def test_ctrl_c_leaves_nothing(trained: Bench) -> None:
    before = trained.profile("1")
    child = subprocess.Popen(
        [sys.executable, "-m", "sequencer", "train", trained.package("1"), "--packages", trained.base.parent],
        env={**os.environ, "XDG_CACHE_HOME": str(trained.folder / "cache")},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    trace = _await_trace(trained.folder / "cache", child)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert said.splitlines()[-1] == "sequencer: interrupted; nothing is left behind"
    assert not trace.parent.exists()
    assert not list(Path("/dev/shm").glob(f"millstream-train-{child.pid}-*"))
    assert not [line for line in _command_lines() if str(trace.parent) in line or "/usr/bin/small" in line]
    assert trained.profile("1") == before


def _await_trace(cache: Path, child: subprocess.Popen[str]) -> Path:
    """Return the trace of the run that goes on, once it has something."""
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        for trace in cache.glob("millstream-sequencer/trial-*/trace"):
            if trace.stat().st_size > 1000:
                return trace
        time.sleep(0.05)
    raise AssertionError("training did not begin")


def _command_lines() -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found
