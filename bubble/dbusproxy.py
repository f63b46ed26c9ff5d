"""The session bus as a bubble sees it: through xdg-dbus-proxy, filtered to the names of its policy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bubble.errors import LaunchError
from packageformat.policy import Policy

PORTAL = "org.freedesktop.portal.Desktop"
_PORTAL_PLACE = "@/org/freedesktop/portal/desktop"

PORTAL_INTERFACES = ("FileChooser", "Inhibit", "NetworkMonitor", "Notification", "OpenURI", "Settings")
"""The portals that are allowed where there is a bus.

A portal knows its caller by the proxy's process, and takes it for a program of the host's without a name. So
only those are here that do no more for such a program than ask the user, show, or tell what is no secret;
none that starts programs (Background, DynamicLauncher), sees the screen or other input (ScreenCast,
RemoteDesktop, InputCapture, GlobalShortcuts, Camera), or hands out what is the user's (Secret, Account,
Location, Trash).
"""


def proxy_arguments(policy: Policy, address: str, place: Path, ready: int) -> list[str]:
    """Return xdg-dbus-proxy's arguments.

    Args:
        policy: the names that the application may talk to or own.
        address: of the user's session bus.
        place: the socket to make.
        ready: a descriptor on which the proxy writes a byte when it listens; it ends when the other end
            is closed.
    """
    return [
        f"--fd={ready}",
        address,
        str(place),
        "--filter",
        *(
            f"--call={PORTAL}=org.freedesktop.portal.{interface}.*{_PORTAL_PLACE}"
            for interface in PORTAL_INTERFACES
        ),
        f"--call={PORTAL}=org.freedesktop.DBus.Properties.Get{_PORTAL_PLACE}",
        f"--call={PORTAL}=org.freedesktop.DBus.Properties.GetAll{_PORTAL_PLACE}",
        f"--call={PORTAL}=org.freedesktop.portal.Request.Close{_PORTAL_PLACE}/*",
        f"--broadcast={PORTAL}=org.freedesktop.portal.*{_PORTAL_PLACE}/*",
        *(f"--talk={name}" for name in policy.dbus_talk),
        *(f"--own={name}" for name in policy.dbus_own),
    ]


def start_proxy(policy: Policy, address: str, place: Path, log: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the proxy and return it, and the descriptor whose last copy ends it when closed.

    Raises:
        LaunchError: xdg-dbus-proxy is missing, or the session bus does not answer.
    """
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            ["xdg-dbus-proxy", *proxy_arguments(policy, address, place, theirs)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs],
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        os.close(ours)
        raise LaunchError(
            f"the session bus cannot be filtered: {error}", hint="install xdg-dbus-proxy"
        ) from error
    finally:
        os.close(theirs)
    if not os.read(ours, 1):
        os.close(ours)
        process.wait()
        raise LaunchError(f"no session bus at {address}", hint="start the application from a desktop session")
    return process, ours
