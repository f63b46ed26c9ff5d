"""Bubblewrap's arguments: the whole of what an application may see and reach, as one pure function.

Bubblewrap is no policy; whoever writes its arguments owns the security model. That is here, and nowhere
else: nothing outside `bwrap_arguments` and `namespace_flags` decides what gets into a bubble. Everything
starts from nothing; each line that lets something in stands under the policy that grants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    ".config/systemd", ".ssh", ".gnupg",
)  # fmt: skip
"""Below a home that policy opens fully: never visible, for writing one is getting out of the bubble."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What there is on this host that a policy could let in. Paths as the launching process sees them."""

    uid: int
    root: Path  # the merged view with the user's changes on top
    shared: Path  # folder with `tmp`, `run`, `shm`: one for all processes of the bubble
    etc: Path  # folder with IDENTITY_FILES and FONT_FILE
    home: Path  # the user's real home: its path inside, its content only if policy says so
    private_home: Path
    documents: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    startup_files: tuple[Path, ...] = ()  # those of STARTUP_FILES that exist
    startup_folders: tuple[Path, ...] = ()
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
        arguments += ["--ro-bind-try", "/usr/share/fonts", "/run/host/fonts"]
        arguments += ["--ro-bind-try", "/usr/local/share/fonts", "/run/host/local-fonts"]
        arguments += ["--ro-bind-try", "/var/cache/fontconfig", "/run/host/fonts-cache"]
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


def visible_documents(policy: Policy, reach: Reach) -> tuple[Path, ...]:
    """Return the document folders that are bound in.

    Not among them: a folder that holds the home itself (user-dirs.dirs says `$HOME` for a folder that is
    turned off), the root, one that holds or lies in a hidden folder's place.
    """
    if policy.home == "private":
        return ()
    kept = []
    for path in reach.documents:
        if path in (Path("/"), reach.home) or path in reach.home.parents:
            continue
        if any(path == hidden or hidden in path.parents for hidden in reach.hidden):
            continue
        kept.append(path)
    return tuple(sorted(set(kept)))


def _home(policy: Policy, reach: Reach) -> list[str]:
    home = str(reach.home)
    documents = visible_documents(policy, reach)
    if policy.home == "full":
        arguments = ["--bind", home, home]
        shown: Iterable[Path] = (reach.home, *documents)
    else:
        arguments = ["--bind", str(reach.private_home), home]
        shown = documents
    for path in documents:
        arguments += ["--bind", str(path), str(path)]
    for path in sorted(reach.hidden):
        if any(place in path.parents for place in shown):
            arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
    if policy.home == "full":
        for path in reach.startup_files:
            arguments += ["--ro-bind", "/dev/null", str(path)]
        for path in reach.startup_folders:
            arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
    return arguments
