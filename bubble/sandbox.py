"""Bubblewrap's arguments: the whole of what an application may see and reach, as one pure function.

Bubblewrap is no policy; whoever writes its arguments owns the security model. That is here, and nowhere
else: nothing outside `bwrap_arguments` and `namespace_flags` decides what gets into a bubble. Everything
starts from nothing; each line that lets something in stands under the policy that grants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bubble import namespaces
from packageformat.policy import Policy

IDENTITY_FILES = (
    "passwd", "group", "hosts", "hostname", "nsswitch.conf", "resolv.conf", "localtime", "timezone",
    "machine-id",
)  # fmt: skip
"""Files of `Reach.etc` that are bound read-only over the same names in /etc."""

FONT_FILE = "fonts.conf"
FONT_PLACE = "/etc/fonts/conf.d/05-millstream-host.conf"
HOST_FONTS = {"/usr/share/fonts": "/run/host/fonts", "/usr/local/share/fonts": "/run/host/local-fonts"}
"""Where the host has fonts, and where a bubble sees them."""

HOST_FONT_CACHE, FONT_CACHE_PLACE = "/var/cache/fontconfig", "/run/host/fonts-cache"

SYSFS_ALWAYS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
"""glibc and every run-time counts processors there."""

SYSFS_DEVICES = ("/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices")
"""Mesa finds the graphics card there."""

GPU_DEVICES = (
    "/dev/dri", "/dev/kfd", "/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidia1",
)  # fmt: skip

STARTUP_FILES = (
    ".profile", ".bash_profile", ".bash_login", ".bashrc", ".bash_logout", ".bash_aliases", ".zshenv",
    ".zprofile", ".zshrc", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".login", ".xprofile",
    ".xsession", ".xinitrc", ".config/fish/config.fish", ".config/environment.d", ".config/autostart",
    ".config/systemd", ".config/plasma-workspace", ".config/user-dirs.dirs", ".local/share/applications",
    ".local/share/dbus-1", ".local/share/systemd", ".local/bin", ".pam_environment", ".ssh", ".gnupg",
)  # fmt: skip
"""Never visible below a home that policy opens fully: writing one is getting out of the bubble."""

OWN_PLACES = tuple(
    Path("/", name)
    for name in "usr etc bin sbin lib lib32 lib64 libx32 dev proc sys boot var run tmp".split()  # noqa: SIM905
)
"""The bubble has these of its own; a host's folder there is not shown in their place."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder of the host's by the name that somebody gave it, and what that name leads to."""

    path: Path  # absolute, no `..`
    real: Path  # the same without links
    links: tuple[Path, ...] = ()  # the real folders in which the links on the way lie


@dataclass(frozen=True, slots=True)
class Document:
    """A document folder that is mounted in a bubble."""

    source: Path  # mount that the keeper made of it
    path: Path  # where it appears
    real: Path  # which folder of the host it is


@dataclass(frozen=True, slots=True)
class Reach:
    """What there is on this host that a policy could let in. Paths as the launching process sees them."""

    uid: int
    root: Path  # the merged view with the user's changes on top
    shared: Path  # folder with `tmp`, `run`, `shm`: one for all processes of the bubble
    etc: Path  # folder with IDENTITY_FILES and FONT_FILE
    home: Path  # the user's real home: its path inside, its content only if policy says so
    real_home: Path  # the same without links
    private_home: Path
    documents: tuple[Document, ...] = ()
    hidden: tuple[Path, ...] = ()  # as named and without links, whether they exist or not
    covered_folders: tuple[Path, ...] = ()  # without links: the hidden ones and STARTUP_FILES that exist
    covered_files: tuple[Path, ...] = ()
    x11: Path | None = None  # the display's socket
    xauthority: Path | None = None  # the bubble's own copy
    wayland: Path | None = None
    pulse: Path | None = None
    pulse_cookie: Path | None = None
    pipewire: Path | None = None
    cups: Path | None = None
    bus: Path | None = None  # the bubble's own xdg-dbus-proxy


def namespace_flags(policy: Policy) -> int:
    """Return the namespaces that a bubble has of its own, beside those of bubblewrap (users, mounts)."""
    flags = (
        namespaces.CLONE_NEWUSER
        | namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWPID
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
    )
    return flags if policy.network else flags | namespaces.CLONE_NEWNET


def bwrap_arguments(policy: Policy, reach: Reach) -> list[str]:
    """Return bubblewrap's arguments for `policy`, without the command. Decides everything; does nothing.

    The caller adds descriptors (seccomp, status), the working folder and the command.
    """
    user = f"/run/user/{reach.uid}"
    arguments = ["--unshare-user", "--cap-drop", "ALL"]
    if not policy.nested_namespaces:
        arguments += ["--disable-userns"]
    arguments += ["--bind", str(reach.root), "/"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--bind", str(reach.shared / "shm"), "/dev/shm"]  # noqa: S108 - the bubble's own
    arguments += ["--bind", str(reach.shared / "tmp"), "/tmp"]  # noqa: S108
    arguments += ["--bind", str(reach.shared / "run"), "/run"]
    arguments += ["--tmpfs", "/sys"]
    for path in SYSFS_DEVICES if policy.gpu else SYSFS_ALWAYS:
        arguments += ["--ro-bind-try", path, path]
    arguments += ["--remount-ro", "/sys"]
    for name in IDENTITY_FILES:
        arguments += ["--ro-bind", str(reach.etc / name), f"/etc/{name}"]
    arguments += ["--ro-bind", str(reach.etc / FONT_FILE), FONT_PLACE]
    arguments += _home(policy, reach)
    if policy.fonts:
        for path, place in (*HOST_FONTS.items(), (HOST_FONT_CACHE, FONT_CACHE_PLACE)):
            arguments += ["--ro-bind-try", path, place]
    if policy.x11 and reach.x11 is not None:
        arguments += ["--ro-bind", str(reach.x11), f"/tmp/.X11-unix/{reach.x11.name}"]  # noqa: S108
        if reach.xauthority is not None:
            arguments += ["--ro-bind", str(reach.xauthority), "/run/host/Xauthority"]
    if policy.wayland and reach.wayland is not None:
        arguments += ["--ro-bind", str(reach.wayland), f"{user}/wayland-0"]
    if policy.sound and reach.pulse is not None:
        arguments += ["--ro-bind", str(reach.pulse), f"{user}/pulse/native"]
        if reach.pulse_cookie is not None:
            arguments += ["--ro-bind", str(reach.pulse_cookie), "/run/host/pulse-cookie"]
    if policy.sound and reach.pipewire is not None:
        arguments += ["--ro-bind", str(reach.pipewire), f"{user}/pipewire-0"]
    if policy.gpu:
        for path in GPU_DEVICES:
            arguments += ["--dev-bind-try", path, path]
    if policy.printing and reach.cups is not None:
        arguments += ["--ro-bind", str(reach.cups), "/run/cups/cups.sock"]
    if policy.dbus_session and reach.bus is not None:
        arguments += ["--ro-bind", str(reach.bus), f"{user}/bus"]
    arguments += ["--remount-ro", "/dev"]
    return arguments


def environment_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return bubblewrap's arguments for the application's whole environment.

    As arguments, because bubblewrap must not have it itself: it is made of what a package says.
    """
    arguments = ["--clearenv"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    return arguments


def socket_environment(policy: Policy, reach: Reach, display: str) -> dict[str, str]:
    """Return the variables that name what `bwrap_arguments` lets in, and only that."""
    user = f"/run/user/{reach.uid}"
    made = {}
    if policy.x11 and reach.x11 is not None:
        made["DISPLAY"] = display
        if reach.xauthority is not None:
            made["XAUTHORITY"] = "/run/host/Xauthority"
    if policy.wayland and reach.wayland is not None:
        made["WAYLAND_DISPLAY"] = "wayland-0"
    if policy.sound and reach.pulse is not None:
        made["PULSE_SERVER"] = f"unix:{user}/pulse/native"
        if reach.pulse_cookie is not None:
            made["PULSE_COOKIE"] = "/run/host/pulse-cookie"
    if policy.printing and reach.cups is not None:
        made["CUPS_SERVER"] = "/run/cups/cups.sock"
    if policy.dbus_session and reach.bus is not None:
        made["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={user}/bus"
    else:
        made["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"  # else libraries try to start one by themselves
    return made


def granted_documents(policy: Policy, reach: Reach, asked: Sequence[Place]) -> tuple[Place, ...]:
    """Return the document folders that are to be mounted in the bubble, in the order of their paths.

    The names come from a file in the home and lead through folders in which applications write: what is
    not certainly a document folder is left out. Not among them: the home, what holds it, what is hidden
    in it (names with a dot); places that a bubble has of its own; what lies in the client's folders;
    a link that lies where an application may have put it; a folder inside another that is granted.
    """
    if policy.home == "private":
        return ()
    writable = [place.real for place in asked]
    if policy.home == "full":
        writable.append(reach.real_home)
    granted: list[Place] = []
    for place in sorted(set(asked), key=lambda place: place.path):
        if not all(_may_be_documents(reach, path) for path in (place.path, place.real)):
            continue
        if any(inside(link, writable) for link in place.links):
            continue
        if inside(place.path, [other.path for other in granted]):
            continue
        if policy.home == "full" and place.path.is_relative_to(reach.home):
            continue  # is there already
        granted.append(place)
    return tuple(granted)


def _may_be_documents(reach: Reach, path: Path) -> bool:
    for home in (reach.home, reach.real_home):
        if home.is_relative_to(path):
            return False
        if path.is_relative_to(home):
            return not inside(path, reach.hidden) and not path.relative_to(home).parts[0].startswith(".")
    if inside(path, reach.hidden):
        return False
    return path.is_relative_to("/run/media") or not inside(path, OWN_PLACES)


def inside(path: Path, places: Iterable[Path]) -> bool:
    """Return whether `path` is one of `places` or lies in one of them."""
    return any(path.is_relative_to(place) for place in places)


def standing(folder: Path, home: Path, path: Path) -> tuple[Path, Path]:
    """Return where the mount at `path` in a bubble stands: a folder of its runtime `folder`, and the rest."""
    for place, name in ((home, "home"), (Path("/tmp"), "shared/tmp"), (Path("/run"), "shared/run")):  # noqa: S108
        if path.is_relative_to(place):
            return folder / name, path.relative_to(place)
    return folder / "root", path.relative_to("/")


def pinned_folders(policy: Policy, home: Path, documents: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders that must not be renamed in a bubble, those that hold others first.

    Bubblewrap makes what it mounts on, and follows links: where an application of the bubble could put one,
    the next start would make files on the host.
    """
    mounted = [Path("/etc/passwd"), Path(FONT_PLACE), home]
    mounted += [path for path in documents if policy.home != "full" or not path.is_relative_to(home)]
    found = {parent for path in mounted for parent in path.parents}
    return tuple(sorted(found - {Path("/"), Path("/tmp"), Path("/run"), home}))  # noqa: S108 - mounts anyway


def pinned_runtime(policy: Policy, uid: int) -> tuple[tuple[str, bool], ...]:
    """Return what stands firm below /run, outer ones first: name and whether it is a folder.

    Everything that bubblewrap mounts a socket on, for the reason that `pinned_folders` gives.
    """
    user = f"user/{uid}"
    found = [("user", True), (user, True)]
    if policy.wayland:
        found.append((f"{user}/wayland-0", False))
    if policy.sound:
        found += [(f"{user}/pulse", True), (f"{user}/pulse/native", False), (f"{user}/pipewire-0", False)]
    if policy.dbus_session:
        found.append((f"{user}/bus", False))
    if policy.printing:
        found += [("cups", True), ("cups/cups.sock", False)]
    return tuple(found)


def _home(policy: Policy, reach: Reach) -> list[str]:
    home = str(reach.home)
    shown = [(document.real, document.path) for document in reach.documents]
    if policy.home == "full":
        arguments = ["--bind", str(reach.real_home), home]
        shown.append((reach.real_home, reach.home))
    else:
        arguments = ["--bind", str(reach.private_home), home]
    for document in reach.documents:
        arguments += ["--bind", str(document.source), str(document.path)]
    for real, path in sorted(set(shown)):
        arguments += _covers(reach, real, path)
    return arguments


def _covers(reach: Reach, real: Path, path: Path) -> list[str]:
    """Return what covers the hidden places in the host's folder `real`, which is shown at `path`."""
    folders = [place for place in reach.covered_folders if place != real and place.is_relative_to(real)]
    folders = [place for place in folders if not inside(place, set(folders) - {place})]
    files = [
        place for place in reach.covered_files if place.is_relative_to(real) and not inside(place, folders)
    ]
    arguments: list[str] = []
    # A folder that holds a covered place is a mount point too: else the application renames it and looks in.
    holders = {
        parent for place in (*folders, *files) for parent in place.parents if parent.is_relative_to(real)
    }
    for holder in sorted(holders - {real}):
        arguments += ["--bind", str(holder), str(path / holder.relative_to(real))]
    for place in sorted(set(folders)):
        at = str(path / place.relative_to(real))
        arguments += ["--tmpfs", at, "--remount-ro", at]
    for place in sorted(set(files)):
        arguments += ["--ro-bind", "/dev/null", str(path / place.relative_to(real))]
    return arguments
