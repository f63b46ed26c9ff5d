"""Who and where an application thinks it is: the host's answers, written anew for the bubble. Pure.

Packages carry no passwd, hosts, resolv.conf and the like: these are the host's to say, and an application
must not learn more of the host than it needs (nor abort because the user has no passwd entry).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from bubble.sandbox import FONT_CACHE_PLACE, HOST_FONTS
from packageformat.policy import Policy

NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
netgroup: files
"""

LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

_FONTCONFIG = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
%s</fontconfig>
"""


@dataclass(frozen=True, slots=True)
class Person:
    """The user, as the host's name service knows him."""

    name: str
    uid: int
    gid: int
    group: str
    full_name: str
    home: str

    def __post_init__(self) -> None:
        for text in (self.name, self.group, self.full_name, self.home):
            if ":" in text or "\n" in text:
                raise ValueError(f"not a field of passwd: {text!r}")


@dataclass(frozen=True, slots=True)
class HostAnswers:
    """What the host says; empty where it does not."""

    hostname: str = "localhost"
    hosts: str = ""  # /etc/hosts
    resolv_conf: str = ""
    localtime: bytes = b""  # the time zone's TZif data
    timezone: str = ""  # its name, as Europe/Berlin
    machine_id: str = ""
    locale: str = "C.UTF-8"
    fonts_cached: bool = False  # whether its font cache fits its fonts


def _fonts(host: HostAnswers, policy: Policy) -> str:
    """Return the configuration of the host's fonts, with the host's own cache of them if that is of use."""
    lines: list[str] = []
    if policy.fonts:
        lines += [f"<dir>{place}</dir>" for place in HOST_FONTS.values()]
    if policy.fonts and host.fonts_cached:
        lines += [f"<cachedir>{FONT_CACHE_PLACE}</cachedir>"]
        lines += [f'<remap-dir as-path="{path}">{place}</remap-dir>' for path, place in HOST_FONTS.items()]
    return _FONTCONFIG % "".join(f"  {line}\n" for line in lines)


def identity_files(person: Person, host: HostAnswers, policy: Policy, bubble_id: bytes) -> dict[str, bytes]:
    """Return name (in /etc) -> content of the files that the host owns.

    The machine id is derived: the same for a bubble on a machine, and no two bubbles can compare theirs.
    """
    passwd = ["root:x:0:0:root:/root:/bin/sh"]
    group = ["root:x:0:"]
    if person.uid != 0:
        passwd.append(f"{person.name}:x:{person.uid}:{person.gid}:{person.full_name}:{person.home}:/bin/sh")
    if person.gid != 0:
        group.append(f"{person.group}:x:{person.gid}:")
    passwd.append("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin")
    group.append("nogroup:x:65534:")
    machine_id = sha256(b"millstream machine id\0" + host.machine_id.encode() + bubble_id).hexdigest()[:32]
    hosts = LOCALHOST + f"127.0.1.1\t{host.hostname}\n"
    if policy.network and host.hosts:
        hosts = host.hosts
    return {
        "passwd": _lines(passwd),
        "group": _lines(group),
        "hosts": hosts.encode(),
        "hostname": f"{host.hostname}\n".encode(),
        "nsswitch.conf": NSSWITCH.encode(),
        "resolv.conf": host.resolv_conf.encode() if policy.network else b"",
        "localtime": host.localtime,
        "timezone": f"{host.timezone}\n".encode() if host.timezone else b"Etc/UTC\n",
        "machine-id": f"{machine_id}\n".encode(),
        "fonts.conf": _fonts(host, policy).encode(),
    }


_PASSED = frozenset({
    "LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES", "TZ",
    "XDG_CURRENT_DESKTOP", "XDG_SESSION_DESKTOP", "XDG_SESSION_TYPE", "XDG_SESSION_CLASS", "DESKTOP_SESSION",
    "GTK_THEME", "GTK_IM_MODULE", "QT_IM_MODULE", "XMODIFIERS", "GDK_SCALE", "GDK_DPI_SCALE",
    "QT_SCALE_FACTOR",    "XCURSOR_THEME", "XCURSOR_SIZE", "DESKTOP_STARTUP_ID", "XDG_ACTIVATION_TOKEN",
})  # fmt: skip
"""Variables that reach the application as they are; besides them LC_*."""


def environment(
    person: Person, host: HostAnswers, policy: Policy, given: Mapping[str, str], sockets: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of an application.

    Args:
        person: the user.
        host: for the locale if the caller has none.
        policy: its `environment` has the last word.
        given: the caller's environment, of which only harmless variables pass.
        sockets: variables that name what the policy lets in (DISPLAY, ...).
    """
    made = {name: value for name, value in given.items() if name in _PASSED or name.startswith("LC_")}
    made.setdefault("LANG", host.locale)
    made.update(
        HOME=person.home,
        USER=person.name,
        LOGNAME=person.name,
        SHELL="/bin/sh",
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/games:/usr/games",
        XDG_RUNTIME_DIR=f"/run/user/{person.uid}",
        XDG_DATA_DIRS="/usr/local/share:/usr/share",
        XDG_CONFIG_DIRS="/etc/xdg",
        TMPDIR="/tmp",  # noqa: S108 - the bubble's own
        container="millstream",
    )
    made.update(sockets)
    made.update(policy.environment)
    return made


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
