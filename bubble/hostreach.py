"""Looks at the host for what a policy could let in: the user, the answers of /etc, sockets that exist."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from bubble.identity import HostAnswers, Person
from bubble.sandbox import STARTUP_FILES, Reach
from bubble.spec import BubbleSpec
from bubble.xauthority import display_number

_TEXT_MAX = 1 << 20


def person() -> Person:
    """Return the user of this process; one without an account gets a name of his number."""
    uid, gid = os.getuid(), os.getgid()
    try:
        entry = pwd.getpwuid(uid)
        name, home, full_name = entry.pw_name, entry.pw_dir, entry.pw_gecos.split(",")[0]
    except KeyError:
        name, home, full_name = f"user{uid}", "", ""
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = f"group{gid}"
    home = os.environ.get("HOME", "") or home or f"/home/{name}"
    return Person(name, uid, gid, group, full_name, home)


def host_answers() -> HostAnswers:
    """Return what the host says about itself."""
    localtime = Path("/etc/localtime")
    zone = str(localtime.resolve())
    _, _, timezone = zone.partition("/zoneinfo/")
    return HostAnswers(
        hostname=socket.gethostname() or "localhost",
        hosts=_text("/etc/hosts"),
        resolv_conf=_text("/etc/resolv.conf"),
        localtime=_data("/etc/localtime"),
        timezone=timezone or _text("/etc/timezone").strip(),
        machine_id=_text("/etc/machine-id").strip(),
    )


def reach(spec: BubbleSpec, who: Person, folder: Path, environment: Mapping[str, str]) -> Reach:
    """Return what there is for `spec`, for a bubble whose runtime folder is `folder`."""
    home = Path(who.home)
    runtime = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{who.uid}")
    existing = [home / name for name in STARTUP_FILES if (home / name).exists()]
    return Reach(
        uid=who.uid,
        root=folder / "root",
        shared=folder / "shared",
        etc=folder / "etc",
        home=home,
        private_home=folder / "home",
        documents=tuple(path for path in spec.documents if _is_plain_folder(path, spec.hidden)),
        hidden=tuple(path for path in spec.hidden if path.is_dir()),
        startup_files=tuple(path for path in existing if not path.is_dir()),
        startup_folders=tuple(path for path in existing if path.is_dir()),
        x11=_x11_socket(environment.get("DISPLAY", "")),
        xauthority=folder / "Xauthority",
        wayland=_socket(runtime / (environment.get("WAYLAND_DISPLAY") or "wayland-0")),
        pulse=_pulse_socket(environment, runtime),
        pulse_cookie=_file(Path(environment.get("PULSE_COOKIE") or home / ".config/pulse/cookie")),
        pipewire=_socket(runtime / "pipewire-0"),
        cups=_socket(Path("/run/cups/cups.sock")),
        bus=_socket(folder / "bus"),
    )


def _is_plain_folder(path: Path, hidden: Sequence[Path]) -> bool:
    """Return whether a document folder is one, and no link to what must stay hidden."""
    if not path.is_dir():
        return False
    real = path.resolve()
    if real == path:
        return True
    secrets = [place.resolve() for place in hidden]
    return not any(real.is_relative_to(secret) or secret.is_relative_to(real) for secret in secrets)


def xauthority(who: Person, environment: Mapping[str, str]) -> bytes:
    """Return the user's X authority file, empty if there is none."""
    return _data(environment.get("XAUTHORITY") or f"{who.home}/.Xauthority")


def session_bus(environment: Mapping[str, str], uid: int) -> str:
    """Return the address of the user's session bus, empty if there is none."""
    address = environment.get("DBUS_SESSION_BUS_ADDRESS", "")
    if address and address != "disabled:":
        return address
    place = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "bus"
    return f"unix:path={place}" if _socket(place) else ""


def _x11_socket(display: str) -> Path | None:
    number = display_number(display)
    return None if number is None else _socket(Path(f"/tmp/.X11-unix/X{number}"))  # noqa: S108


def _pulse_socket(environment: Mapping[str, str], runtime: Path) -> Path | None:
    server = environment.get("PULSE_SERVER", "")
    if server.startswith("unix:"):
        return _socket(Path(server.removeprefix("unix:")))
    return _socket(runtime / "pulse/native")


def _socket(place: Path) -> Path | None:
    try:
        return place if place.is_socket() else None
    except OSError:
        return None


def _file(place: Path) -> Path | None:
    try:
        return place if place.is_file() else None
    except OSError:
        return None


def _data(place: str) -> bytes:
    try:
        with Path(place).open("rb") as file:
            return file.read(_TEXT_MAX)
    except OSError:
        return b""


def _text(place: str) -> str:
    return _data(place).decode(errors="replace")
