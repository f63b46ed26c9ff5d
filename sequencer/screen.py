"""The one door to X: the windows of a display, its picture, its keyboard.

A *real* window is one that a person would call the application: mapped, not override-redirect (menus,
tooltips), not of a splash, dock, tooltip or notification type, not frameless, of one fixed size and without
any type (splash screens that do not say so), at least 100 x 60 pixels, with a name or class. No window
manager is expected, but one is understood (`_NET_CLIENT_LIST`).

Everything that an X client says about itself (titles, classes, sizes) is untrusted text.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import Xlib.display
import Xlib.error
from PIL import Image
from Xlib import XK, X, Xutil
from Xlib.ext import xtest
from Xlib.protocol.event import ClientMessage

from sequencer.errors import HostError

LEAST_WIDTH, LEAST_HEIGHT = 100, 60
"""Pixels below which a window is no application's first window."""

DRAWN_SHARE = 0.002
"""Share of a window's pixels that must differ from its most frequent colour before it counts as drawn."""

_POLL_S = 0.02
_NOT_REAL = frozenset(
    f"_NET_WM_WINDOW_TYPE_{kind}"
    for kind in (
        *("SPLASH", "TOOLTIP", "DOCK", "NOTIFICATION", "DESKTOP"),
        *("MENU", "POPUP_MENU", "DROPDOWN_MENU", "COMBO", "DND"),
    )
)
_environment_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Window:
    """A real top-level window. Positions and sizes are pixels; `mapped_at` is `time.monotonic()`."""

    id: int
    title: str
    wm_class: str
    x: int
    y: int
    width: int
    height: int
    mapped_at: float
    kind: str = ""


class Screen:
    """A connection to a display, to watch windows and take pictures.

    Args:
        name: such as `:99`; the environment's DISPLAY by default.
        authority: the cookie's file; the environment's XAUTHORITY by default.

    Raises:
        HostError: no display answers there.
    """

    def __init__(self, name: str | None = None, authority: Path | None = None) -> None:
        with _authority(authority):
            try:
                self._display = Xlib.display.Display(name)
            except (Xlib.error.DisplayError, Xlib.error.ConnectionClosedError, OSError) as error:
                raise HostError(
                    f"no X display answers at {name or os.environ.get('DISPLAY') or 'DISPLAY (not set)'}",
                    hint="check DISPLAY and XAUTHORITY",
                ) from error
        self._root = self._display.screen().root
        self._root.change_attributes(event_mask=X.SubstructureNotifyMask | X.PropertyChangeMask)
        self._mapped: dict[int, float] = {}
        self._known: set[int] = set()
        self.forget()

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the display; its windows stay."""
        self._display.close()

    def forget(self) -> None:
        """Treat the windows that are there now as known: only later ones are new."""
        self._take_events()
        self._mapped.clear()
        known = self._candidates()
        for window in known.values():  # in a window manager's frame, its end is none of the root's children's
            window.change_attributes(event_mask=X.StructureNotifyMask, onerror=lambda *_: None)
        self._display.flush()
        self._known = set(known)

    def first_window(
        self, timeout_s: float, ended: Callable[[], bool] = lambda: False, *, title: str | None = None
    ) -> Window | None:
        """Wait for a real window newer than `forget()` (or than this connection).

        Args:
            timeout_s: seconds to wait at most.
            ended: asked often; True gives up (the application is gone).
            title: only a window whose title holds this text.

        Returns:
            The window, with the moment at which it was mapped; None if none came.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for window in self.windows():
                if window.id not in self._known and (title is None or title in window.title):
                    return window
            if time.monotonic() >= deadline or ended():
                return None
            select.select([self._display.fileno()], [], [], _POLL_S)

    def windows(self) -> list[Window]:
        """Return the real windows that are mapped now, oldest first."""
        self._take_events()
        seen = (self._look(window) for window in self._candidates().values())
        return sorted((window for window in seen if window is not None), key=lambda window: window.mapped_at)

    def wait_drawn(self, window: Window, timeout_s: float) -> bool:
        """Wait until `window` shows more than one flat colour; False when `timeout_s` seconds passed."""
        deadline = time.monotonic() + timeout_s
        while not _is_drawn(self.picture(window)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def picture(self, window: Window | None = None) -> Image.Image:
        """Return the whole screen, or the part where `window` lies, as RGB."""
        shape = self._root.get_geometry()
        x, y, right, bottom = 0, 0, int(shape.width), int(shape.height)
        if window is not None:
            now = self._place(window.id) or (window.x, window.y, window.width, window.height)
            x, y = min(max(0, now[0]), right - 1), min(max(0, now[1]), bottom - 1)
            right, bottom = min(right, max(x + 1, now[0] + now[2])), min(bottom, max(y + 1, now[1] + now[3]))
        reply = self._root.get_image(x, y, right - x, bottom - y, X.ZPixmap, 0xFFFFFFFF)
        data = reply.data if isinstance(reply.data, bytes) else reply.data.encode("latin-1")
        return Image.frombytes("RGB", (right - x, bottom - y), data, "raw", "BGRX")

    def screenshot(self, path: Path, window: Window | None = None) -> None:
        """Write a PNG of the screen, or of `window`'s place on it, to `path`."""
        self.picture(window).save(path, "PNG", optimize=True)

    def focus(self, window: Window) -> None:
        """Give `window` the keyboard, and put the pointer on it (what a window manager would do)."""
        target = self._display.create_resource_object("window", window.id)
        place = self._place(window.id)
        if place is not None:
            self._root.warp_pointer(place[0] + place[2] // 2, place[1] + place[3] // 2)
        target.set_input_focus(X.RevertToPointerRoot, X.CurrentTime, onerror=lambda *_: None)
        self._display.sync()

    def ask_to_close(self, window: Window) -> None:
        """Ask `window` to close, as a window manager does when its cross is clicked."""
        target = self._display.create_resource_object("window", window.id)
        kind, request = (self._display.intern_atom(name) for name in ("WM_PROTOCOLS", "WM_DELETE_WINDOW"))
        message = ClientMessage(window=target, client_type=kind, data=(32, [request, X.CurrentTime, 0, 0, 0]))
        target.send_event(message, event_mask=0, onerror=lambda *_: None)
        self._display.sync()

    def press(self, *keys: str) -> None:
        """Press a chord of X keysym names, such as `press("Control_L", "s")`; let go in reverse."""
        codes = []
        for key in keys:
            keysym = XK.string_to_keysym(key)
            codes.append(self._display.keysym_to_keycode(keysym))
            if not keysym or not codes[-1]:
                raise ValueError(f"no key {key!r} on this keyboard")
        for code in codes:
            xtest.fake_input(self._display, X.KeyPress, code)
        for code in reversed(codes):
            xtest.fake_input(self._display, X.KeyRelease, code)
        self._display.sync()

    def type(self, text: str) -> None:
        """Type `text` (printable ASCII) on the keyboard."""
        for letter in text:
            keysym = XK.string_to_keysym({" ": "space"}.get(letter, letter)) or ord(letter)
            choices = list(self._display.keysym_to_keycodes(keysym))
            if not choices:
                raise ValueError(f"no key for {letter!r} on this keyboard")
            code, level = min(choices, key=lambda choice: choice[1])
            held = [self._display.keysym_to_keycode(XK.XK_Shift_L)] if level & 1 else []
            for key in (*held, code):
                xtest.fake_input(self._display, X.KeyPress, key)
            for key in (code, *held):
                xtest.fake_input(self._display, X.KeyRelease, key)
            self._display.sync()
            time.sleep(0.01)

    def _take_events(self) -> None:
        now = time.monotonic()
        while self._display.pending_events():
            event = self._display.next_event()
            if event.type == X.MapNotify:
                self._mapped.setdefault(event.window.id, now)
            elif event.type == X.UnmapNotify:
                self._mapped.pop(event.window.id, None)
            elif event.type == X.DestroyNotify:  # its number may be the next client's
                self._mapped.pop(event.window.id, None)
                self._known.discard(event.window.id)

    def _candidates(self) -> dict[int, Any]:
        listed = self._property(self._root, "_NET_CLIENT_LIST")
        if listed is not None:  # a window manager runs
            return {int(id): self._display.create_resource_object("window", int(id)) for id in listed}
        return {window.id: window for window in self._root.query_tree().children}

    def _look(self, window: Any) -> Window | None:
        """Return what `window` shows of itself, or None if it is not a real window (any more)."""
        try:
            attributes = window.get_attributes()
            if attributes.map_state != X.IsViewable or attributes.override_redirect:
                return None
            place = self._place(window.id)
            if place is None or place[2] < LEAST_WIDTH or place[3] < LEAST_HEIGHT:
                return None
            atoms = self._property(window, "_NET_WM_WINDOW_TYPE")
            kinds = {self._display.get_atom_name(atom) for atom in (() if atoms is None else atoms)}
            wm_class = window.get_wm_class()
            title = self._text(window, "_NET_WM_NAME") or self._text(window, "WM_NAME")
            splash = not kinds and self._is_bare_and_fixed(window)
        except (Xlib.error.XError, KeyError):  # gone between two questions
            return None
        if kinds & _NOT_REAL or splash or not (title or wm_class):
            return None
        since = self._mapped.setdefault(window.id, time.monotonic())
        kind = min(kinds, default="").removeprefix("_NET_WM_WINDOW_TYPE_").lower()
        return Window(window.id, title, (wm_class or ("", ""))[1], *place, since, kind)

    def _place(self, window_id: int) -> tuple[int, int, int, int] | None:
        window = self._display.create_resource_object("window", window_id)
        try:
            shape = window.get_geometry()
            origin = self._root.translate_coords(window, 0, 0)
        except Xlib.error.XError:
            return None
        # translate_coords(source=window): where window's (0, 0) lies on the root
        return int(origin.x), int(origin.y), int(shape.width), int(shape.height)

    def _is_bare_and_fixed(self, window: Any) -> bool:
        """Whether `window` wants no frame and has one size only: a splash screen that does not say so."""
        motif = self._property(window, "_MOTIF_WM_HINTS")  # flags, functions, decorations, ...
        if motif is None or len(motif) < 3 or not motif[0] & 2 or motif[2]:
            return False
        hints = window.get_wm_normal_hints()
        both = Xutil.PMinSize | Xutil.PMaxSize
        return bool(
            hints is not None
            and hints.flags & both == both
            and (hints.min_width, hints.min_height) == (hints.max_width, hints.max_height)
        )

    def _property(self, window: Any, name: str) -> Any:
        found = window.get_full_property(self._display.intern_atom(name), X.AnyPropertyType)
        return None if found is None else found.value

    def _text(self, window: Any, name: str) -> str:
        value = self._property(window, name)
        if value is None:
            return ""
        return (value.decode(errors="replace") if isinstance(value, bytes) else str(value))[:500]


@contextmanager
def _authority(path: Path | None) -> Iterator[None]:
    """Make python-xlib, which reads only the environment, use the cookie in `path`."""
    with _environment_lock:
        before = os.environ.get("XAUTHORITY")
        if path is not None:
            os.environ["XAUTHORITY"] = str(path)
        try:
            yield
        finally:
            if path is not None:
                os.environ.pop("XAUTHORITY", None)
                if before is not None:
                    os.environ["XAUTHORITY"] = before


def _is_drawn(picture: Image.Image) -> bool:
    total = picture.width * picture.height
    colours = picture.getcolors(1 << 16)
    return colours is None or max(count for count, _ in colours) < total * (1 - DRAWN_SHARE)
