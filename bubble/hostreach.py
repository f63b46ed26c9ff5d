"""Looks at the host for what a policy could let in: the user, the answers of /etc, sockets that exist."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bubble import fontcache
from bubble.errors import LaunchError
from bubble.identity import HostAnswers, Person
from bubble.sandbox import HOST_FONT_CACHE, HOST_FONTS, STARTUP_FILES, Document, Place, Reach
from bubble.spec import BubbleSpec
from bubble.xauthority import display_number

_TEXT_MAX = 1 << 20
_COOKIE_MAX = 1024  # bytes; PulseAudio's have 256
_LINKS_MAX = 40  # as the kernel's


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
        fonts_cached=fontcache.fits(map(Path, HOST_FONTS), Path(HOST_FONT_CACHE)),
    )


def reach(
    spec: BubbleSpec,
    who: Person,
    folder: Path,
    environment: Mapping[str, str],
    documents: Sequence[Document] = (),
) -> Reach:
    """Return what there is for `spec`, for a bubble whose runtime folder is `folder`.

    `documents` are the document folders that were mounted when the bubble was made.
    """
    home = place_of(Path(os.path.normpath(who.home)))
    runtime = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{who.uid}")
    hidden = [place_of(path) for path in spec.hidden]
    covered = [str(place.real) for place in hidden]
    covered += [_resolved(f"{home.real}/{name}")[0] for name in STARTUP_FILES]
    return Reach(
        uid=who.uid,
        root=folder / "root",
        shared=folder / "shared",
        etc=folder / "etc",
        home=home.path,
        real_home=home.real,
        private_home=folder / "home",
        documents=tuple(documents),
        hidden=tuple(sorted({path for place in hidden for path in (place.path, place.real)})),
        covered_folders=tuple(Path(path) for path in covered if os.path.isdir(path)),  # noqa: PTH112
        covered_files=tuple(Path(path) for path in covered if _is_other_than_folder(path)),
        x11=_x11_socket(environment.get("DISPLAY", "")),
        xauthority=folder / "Xauthority",
        wayland=_socket(runtime / (environment.get("WAYLAND_DISPLAY") or "wayland-0")),
        pulse=_pulse_socket(environment, runtime),
        pulse_cookie=_cookie(Path(environment.get("PULSE_COOKIE") or home.real / ".config/pulse/cookie")),
        pipewire=_socket(runtime / "pipewire-0"),
        cups=_socket(Path("/run/cups/cups.sock")),
        bus=_socket(folder / "bus"),
    )


def place_of(path: Path) -> Place:
    """Return what an absolute path leads to, and where the links on the way lie.

    Raises:
        OSError: a folder on the way cannot be looked into, or the links lead round in a circle.
    """
    real, links = _resolved(str(path))
    return Place(path, Path(real), tuple(map(Path, links)))


def _resolved(path: str) -> tuple[str, list[str]]:
    """Return an absolute path without links, and the folders in which links lay on the way.

    In plain strings: a start resolves some forty paths.
    """
    real = ""
    links: list[str] = []
    ahead = _parts(path)
    while ahead:
        part = ahead.pop()
        if part == "..":
            real = real.rpartition("/")[0]
            continue
        place = f"{real}/{part}"
        try:
            target = os.readlink(place)  # noqa: PTH115
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            real = place
            continue
        links.append(real or "/")
        if len(links) > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            real = ""
        ahead += _parts(target)
    return real or "/", links


def _parts(path: str) -> list[str]:
    """Return the names in a path, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def documents_asked(spec: BubbleSpec) -> list[Place]:
    """Return the document folders that exist."""
    found = []
    for path in spec.documents:
        with suppress(OSError):
            place = place_of(Path(os.path.normpath(path)))
            if place.real.is_dir():
                found.append(place)
    return found


def files_named(files: Sequence[Path]) -> dict[Place, tuple[int, int]]:
    """Return what the user's files are now, with device and inode.

    Raises:
        LaunchError: one does not exist.
    """
    found = {}
    for path in files:
        try:
            place = place_of(Path(os.path.abspath(path)))  # noqa: PTH100 - links are looked at one by one
            status = place.real.lstat()
        except OSError as error:
            raise LaunchError(f"{path}: {error.strerror}", hint="check the file's name") from error
        found[place] = (status.st_dev, status.st_ino)
    return found


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


def _is_other_than_folder(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


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


def _cookie(place: Path) -> Path | None:
    """Return the file if it can be a cookie: no link to some other secret, and small."""
    try:
        status = place.lstat()
    except OSError:
        return None
    return place if stat.S_ISREG(status.st_mode) and status.st_size <= _COOKIE_MAX else None


def _data(place: str) -> bytes:
    try:
        with Path(place).open("rb") as file:
            return file.read(_TEXT_MAX)
    except OSError:
        return b""


def _text(place: str) -> str:
    return _data(place).decode(errors="replace")
