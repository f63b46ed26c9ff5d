from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bubble import namespaces
from bubble.errors import LaunchError
from bubble.guests import guests
from bubble.sandbox import (
    Reach,
    bwrap_arguments,
    namespace_flags,
    socket_environment,
    visible_documents,
)
from packageformat.policy import Policy

FOLDER = Path("/run/user/1000/m/b")
HOME = Path("/home/ann")
DENY = Policy(home="private", fonts=False)

EVERYTHING = Reach(
    uid=1000,
    root=FOLDER / "root",
    shared=FOLDER / "shared",
    etc=FOLDER / "etc",
    home=HOME,
    private_home=FOLDER / "home",
    documents=(HOME / "Documents", HOME / "Downloads"),
    hidden=(HOME / ".local/state/millstream", HOME / ".cache/millstream"),
    startup_files=(HOME / ".bashrc",),
    startup_folders=(HOME / ".ssh",),
    x11=Path("/tmp/.X11-unix/X7"),
    xauthority=FOLDER / "Xauthority",
    wayland=Path("/run/user/1000/wayland-1"),
    pulse=Path("/run/user/1000/pulse/native"),
    pulse_cookie=HOME / ".config/pulse/cookie",
    pipewire=Path("/run/user/1000/pipewire-0"),
    cups=Path("/run/cups/cups.sock"),
    bus=FOLDER / "bus",
)


def added(policy: Policy, reach: Reach = EVERYTHING) -> list[str]:
    """Return what a policy adds to the arguments of nothing granted."""
    before = triples(bwrap_arguments(DENY, reach))
    return [item for item in triples(bwrap_arguments(policy, reach)) if item not in before]


def triples(arguments: list[str]) -> list[str]:
    """Return each option with its values."""
    found: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            found.append(argument)
        else:
            found[-1] += f" {argument}"
    return found


def test_nothing_granted_is_exactly_this():
    assert triples(bwrap_arguments(DENY, EVERYTHING)) == [
        "--unshare-user",
        "--cap-drop ALL",
        "--disable-userns",
        "--bind /run/user/1000/m/b/root /",
        "--proc /proc",
        "--dev /dev",
        "--bind /run/user/1000/m/b/shared/shm /dev/shm",
        "--bind /run/user/1000/m/b/shared/tmp /tmp",
        "--bind /run/user/1000/m/b/shared/run /run",
        "--tmpfs /sys",
        "--ro-bind-try /sys/devices/system/cpu /sys/devices/system/cpu",
        "--ro-bind-try /sys/devices/system/node /sys/devices/system/node",
        "--remount-ro /sys",
        "--ro-bind /run/user/1000/m/b/etc/passwd /etc/passwd",
        "--ro-bind /run/user/1000/m/b/etc/group /etc/group",
        "--ro-bind /run/user/1000/m/b/etc/hosts /etc/hosts",
        "--ro-bind /run/user/1000/m/b/etc/hostname /etc/hostname",
        "--ro-bind /run/user/1000/m/b/etc/nsswitch.conf /etc/nsswitch.conf",
        "--ro-bind /run/user/1000/m/b/etc/resolv.conf /etc/resolv.conf",
        "--ro-bind /run/user/1000/m/b/etc/localtime /etc/localtime",
        "--ro-bind /run/user/1000/m/b/etc/timezone /etc/timezone",
        "--ro-bind /run/user/1000/m/b/etc/machine-id /etc/machine-id",
        "--ro-bind /run/user/1000/m/b/etc/fonts.conf /etc/fonts/conf.d/05-millstream-host.conf",
        "--bind /run/user/1000/m/b/home /home/ann",
    ]
    assert socket_environment(DENY, EVERYTHING, ":7") == {"DBUS_SESSION_BUS_ADDRESS": "disabled:"}


def test_a_bubble_has_no_network_unless_policy_grants_it():
    own = (
        namespaces.CLONE_NEWUSER
        | namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWPID
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
    )
    assert namespace_flags(DENY) == own | namespaces.CLONE_NEWNET
    assert namespace_flags(Policy(network=True)) == own


@pytest.mark.parametrize(
    ("policy", "expected", "variables"),
    [
        (
            Policy(home="private", fonts=False, x11=True),
            [
                "--ro-bind /tmp/.X11-unix/X7 /tmp/.X11-unix/X7",
                "--ro-bind /run/user/1000/m/b/Xauthority /run/host/Xauthority",
            ],
            {"DISPLAY": ":7", "XAUTHORITY": "/run/host/Xauthority"},
        ),
        (
            Policy(home="private", fonts=False, wayland=True),
            ["--ro-bind /run/user/1000/wayland-1 /run/user/1000/wayland-0"],
            {"WAYLAND_DISPLAY": "wayland-0"},
        ),
        (
            Policy(home="private", fonts=False, sound=True),
            [
                "--ro-bind /run/user/1000/pulse/native /run/user/1000/pulse/native",
                "--ro-bind /home/ann/.config/pulse/cookie /run/host/pulse-cookie",
                "--ro-bind /run/user/1000/pipewire-0 /run/user/1000/pipewire-0",
            ],
            {"PULSE_SERVER": "unix:/run/user/1000/pulse/native", "PULSE_COOKIE": "/run/host/pulse-cookie"},
        ),
        (
            Policy(home="private", fonts=False, printing=True),
            ["--ro-bind /run/cups/cups.sock /run/cups/cups.sock"],
            {"CUPS_SERVER": "/run/cups/cups.sock"},
        ),
        (
            Policy(home="private", fonts=False, dbus_session=True),
            ["--ro-bind /run/user/1000/m/b/bus /run/user/1000/bus"],
            {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus"},
        ),
        (
            Policy(home="private", fonts=True),
            [
                "--ro-bind-try /usr/share/fonts /run/host/fonts",
                "--ro-bind-try /usr/local/share/fonts /run/host/local-fonts",
                "--ro-bind-try /var/cache/fontconfig /run/host/fonts-cache",
            ],
            {},
        ),
        (
            Policy(home="documents", fonts=False),
            [
                "--bind /home/ann/Documents /home/ann/Documents",
                "--bind /home/ann/Downloads /home/ann/Downloads",
            ],
            {},
        ),
    ],
)
def test_each_grant_adds_its_own_and_nothing_else(policy, expected, variables):
    assert added(policy) == expected
    environment = socket_environment(policy, EVERYTHING, ":7")
    if not policy.dbus_session:
        assert environment.pop("DBUS_SESSION_BUS_ADDRESS") == "disabled:"
    assert environment == variables


def test_what_the_host_does_not_have_is_left_out():
    nothing = Reach(
        uid=1000,
        root=FOLDER / "root",
        shared=FOLDER / "shared",
        etc=FOLDER / "etc",
        home=HOME,
        private_home=FOLDER / "home",
    )
    granted = Policy(
        x11=True, wayland=True, sound=True, printing=True, dbus_session=True, home="private", fonts=False
    )
    assert added(granted, nothing) == []
    assert socket_environment(granted, nothing, ":7") == {"DBUS_SESSION_BUS_ADDRESS": "disabled:"}


def test_the_graphics_card_brings_its_devices_and_sysfs():
    found = added(Policy(home="private", fonts=False, gpu=True))
    assert "--dev-bind-try /dev/dri /dev/dri" in found
    assert "--ro-bind-try /sys/dev /sys/dev" in found
    assert all(item.split()[0] in ("--dev-bind-try", "--ro-bind-try") for item in found)


def test_namespaces_of_its_own_only_by_policy():
    assert "--disable-userns" not in bwrap_arguments(Policy(nested_namespaces=True), EVERYTHING)
    assert "--disable-userns" in bwrap_arguments(Policy(), EVERYTHING)


def test_a_full_home_hides_the_clients_folders_and_the_startup_files():
    found = triples(bwrap_arguments(Policy(home="full", fonts=False), EVERYTHING))
    assert "--bind /home/ann /home/ann" in found
    assert not any("/m/b/home" in item for item in found)
    for hidden in EVERYTHING.hidden:
        assert found.index(f"--tmpfs {hidden}") > found.index("--bind /home/ann /home/ann")
        assert f"--remount-ro {hidden}" in found
    assert "--ro-bind /dev/null /home/ann/.bashrc" in found
    assert "--tmpfs /home/ann/.ssh" in found


def test_a_document_folder_never_opens_the_home_or_what_is_hidden():
    strange = (
        HOME,
        Path("/"),
        Path("/home"),
        HOME / ".cache/millstream/x",
        HOME / ".cache",
        HOME / "Documents",
    )
    reach = replace(EVERYTHING, documents=strange)
    assert visible_documents(Policy(), reach) == (HOME / ".cache", HOME / "Documents")
    found = triples(bwrap_arguments(Policy(), reach))
    place = found.index(f"--bind {HOME}/.cache {HOME}/.cache")
    assert found.index(f"--tmpfs {HOME}/.cache/millstream") > place


def named(*paths: str, policy: Policy | None = None) -> list[tuple[str, str]]:
    found = guests(policy or Policy(), EVERYTHING, FOLDER, [Path(path) for path in paths])
    return [(str(guest.place.relative_to(FOLDER)), str(guest.path)) for guest in found]


def test_named_files_appear_at_their_own_paths():
    assert named("/home/ann/notes/a b.txt") == [("home", "notes/a b.txt")]
    assert named("/tmp/x/y.odt") == [("shared/tmp", "x/y.odt")]
    assert named("/run/media/ann/stick/z") == [("shared/run", "media/ann/stick/z")]
    assert named("/data/z") == [("root", "data/z")]


def test_named_files_that_are_visible_anyway_or_the_bubbles_own_are_left_alone():
    assert (
        named(
            "/home/ann/Documents/x.odt",
            "/usr/share/doc/x",
            "/etc/passwd",
            "/run/user/1000/bus",
            "/proc/1/mem",
        )
        == []
    )
    assert named("/home/ann", "/home", "/") == []
    assert named("/home/ann/x", policy=Policy(home="full")) == []


@pytest.mark.parametrize(
    "path", ["/home/ann/.cache/millstream/files/ab/cd", "/home/ann/.cache/millstream", "/home/ann/.local"]
)
def test_the_clients_own_files_are_refused(path):
    with pytest.raises(LaunchError, match="never shown"):
        named(path)
