"""The door to X, on a real Xvfb with a real client."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from sequencer.display import Display, Screen
from sequencer.errors import HostError
from tests.ending import end_process

CLIENT = """
import sys, time
import Xlib.display
from Xlib import X, Xatom, Xutil
display = Xlib.display.Display()
screen = display.screen()
def window(name, size, kind=None, redirect=False, paint=False):
    made = screen.root.create_window(30, 40, *size, 0, screen.root_depth, X.InputOutput,
        background_pixel=0x204060, override_redirect=redirect, event_mask=X.ExposureMask | X.KeyPressMask)
    if name:
        made.set_wm_name(name)
        made.set_wm_class(name.lower(), name)
    if kind:
        kinds = [display.intern_atom("_NET_WM_WINDOW_TYPE_" + kind)]
        made.change_property(display.intern_atom("_NET_WM_WINDOW_TYPE"), Xatom.ATOM, 32, kinds)
    if name == "Bare":
        motif = display.intern_atom("_MOTIF_WM_HINTS")
        made.change_property(motif, motif, 32, [2, 0, 0, 0, 0])
        made.set_wm_normal_hints(flags=Xutil.PMinSize | Xutil.PMaxSize, min_width=400, max_width=400,
            min_height=300, max_height=300)
    made.map()
    return made
window("Splash", (400, 300), "SPLASH")
window("Bare", (400, 300))
window("Menu", (400, 300), redirect=True)
window("Tiny", (20, 20))
window("", (400, 300))
display.sync()
time.sleep(0.3)
real = window("Editor", (320, 200), "NORMAL")
display.sync()
time.sleep(0.3)
gc = real.create_gc(foreground=0xffffff)
real.fill_rectangle(gc, 10, 10, 100, 50)
display.sync()
print("ready", flush=True)
while True:
    event = display.next_event()
    if event.type == X.KeyPress:
        keysym = display.keycode_to_keysym(event.detail, event.state & 1)
        print(display.lookup_string(keysym) or "", end="", flush=True)
"""

ONE_WINDOW = """
import sys
import Xlib.display
from Xlib import X, Xatom
display = Xlib.display.Display()
screen = display.screen()
managed = sys.argv[1] == "managed"
def window(parent):
    made = parent.create_window(0, 0, 320, 200, 0, screen.root_depth, X.InputOutput)
    made.set_wm_name("Editor")
    made.set_wm_class("editor", "Editor")
    made.map()
    return made
frame = window(screen.root)
shown = window(frame) if managed else frame
if managed:
    screen.root.change_property(display.intern_atom("_NET_CLIENT_LIST"), Xatom.WINDOW, 32, [shown.id])
display.sync()
print(shown.id, flush=True)
while True:
    display.next_event()
"""


Client = tuple[Screen, subprocess.Popen[str]]


@pytest.fixture
def display() -> Iterator[Display]:
    with Display(640, 480) as shown:
        yield shown


@pytest.fixture
def client(display: Display) -> Iterator[tuple[Screen, subprocess.Popen[str]]]:
    with display.screen() as screen:
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            env={**display.environment, "PATH": "/usr/bin"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield screen, process
        finally:
            end_process(process)


def test_the_first_window_is_neither_a_splash_nor_a_menu_nor_a_speck(client: Client) -> None:
    screen, _ = client
    before = time.monotonic()
    window = screen.first_window(20)
    assert window is not None
    assert (window.title, window.wm_class, window.width, window.height) == ("Editor", "Editor", 320, 200)
    assert (window.x, window.y) == (30, 40)
    assert before + 0.3 <= window.mapped_at <= time.monotonic()


def test_a_screenshot_waits_for_what_the_application_draws(client: Client, tmp_path: Path) -> None:
    screen, _ = client
    window = screen.first_window(20)
    assert window is not None
    assert screen.wait_drawn(window, 20)
    screen.screenshot(tmp_path / "window.png", window)
    with Image.open(tmp_path / "window.png") as picture:
        assert picture.size == (320, 200)
        assert picture.getpixel((20, 20)) == (255, 255, 255)
        assert picture.getpixel((5, 5)) == (0x20, 0x40, 0x60)


def test_what_is_typed_arrives_letter_by_letter(client: Client) -> None:
    screen, process = client
    window = screen.first_window(20)
    assert window is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    screen.focus(window)
    screen.type("Save as /tmp/a_B")
    deadline = time.monotonic() + 10
    typed = ""
    while typed != "Save as /tmp/a_B" and time.monotonic() < deadline:
        letter = process.stdout.read(1)
        typed += letter if letter.isprintable() else ""
    assert typed == "Save as /tmp/a_B"


def test_no_window_is_reported_when_the_application_ends(display: Display) -> None:
    with display.screen() as screen:
        before = time.monotonic()
        assert screen.first_window(30, ended=lambda: time.monotonic() > before + 0.2) is None
        assert time.monotonic() < before + 5


def test_windows_known_before_are_not_new(client: Client) -> None:
    screen, _ = client
    assert screen.first_window(20) is not None
    screen.forget()
    assert screen.first_window(0.3) is None


@contextmanager
def one_window(display: Display, how: str) -> Iterator[int]:
    """A client with one window, in a frame as under a window manager if `how` is "managed"; its number."""
    with subprocess.Popen(
        [sys.executable, "-c", ONE_WINDOW, how],
        env={**display.environment, "PATH": "/usr/bin"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("how", ["plain", "managed"])
def test_a_window_with_the_number_of_one_that_is_gone_is_new(display: Display, how: str) -> None:
    with display.screen() as screen, display.screen() as other:
        with one_window(display, how) as before:
            screen.forget()
            assert screen.first_window(0) is None
        deadline = time.monotonic() + 20
        while other.windows():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with one_window(display, how) as after:
            assert after == before  # X gives the next client the same numbers
            window = screen.first_window(20)
            assert window is not None and window.id == after


def test_an_ended_display_leaves_nothing_and_strangers_stay_out() -> None:
    with Display() as display:
        name, place, folder = display.name, display.socket_path, display.authority.parent
        assert place.exists() and folder.exists()
        stranger = subprocess.run(
            [sys.executable, "-c", "import Xlib.display; Xlib.display.Display()"],
            env={"DISPLAY": name, "XAUTHORITY": "/nonexistent", "PATH": "/usr/bin"},
            capture_output=True,
            check=False,
        )
        assert stranger.returncode != 0
    assert not place.exists() and not folder.exists()


def test_two_displays_at_once_get_two_numbers() -> None:
    with Display() as one, Display() as other:
        assert one.name != other.name


def test_a_display_ends_with_a_program_that_is_killed() -> None:
    holder = (
        "import os, signal; import sequencer.display as d; print(d.Display().__enter__().name, flush=True)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", holder + "\nos.kill(os.getpid(), signal.SIGKILL)"],
        capture_output=True,
        text=True,
        check=False,
    )
    name = killed.stdout.strip()
    assert name.startswith(":")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            Screen(name).close()
        except HostError:
            return
        time.sleep(0.1)
    pytest.fail(f"the display {name} is still there")


def test_windows_that_go_while_they_are_looked_at_are_no_error(display: Display) -> None:
    flicker = """
import Xlib.display
from Xlib import X
display = Xlib.display.Display()
screen = display.screen()
while True:
    made = screen.root.create_window(0, 0, 300, 200, 0, screen.root_depth)
    made.set_wm_name("gone")
    made.map()
    display.sync()
    made.destroy()
    display.flush()
"""
    environment = {**display.environment, "PATH": "/usr/bin"}
    with (
        display.screen() as screen,
        subprocess.Popen([sys.executable, "-c", flicker], env=environment) as process,
    ):
        try:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                screen.windows()
        finally:
            process.kill()
