from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bubble import namespaces
from bubble.errors import LaunchError
from bubble.guests import guests
from bubble.sandbox import (
    Document,
    Place,
    Reach,
    bwrap_arguments,
    environment_arguments,
    granted_documents,
    namespace_flags,
    pinned_folders,
    pinned_runtime,
    socket_environment,
)
from packageformat.policy import Policy

FOLDER = Path("/run/user/1000/m/b")
HOME = Path("/home/ann")
DENY = Policy(home="private", fonts=False)

DOCUMENTS = tuple(
    Document(FOLDER / f"shared/documents/{number}", HOME / name, HOME / name)
    for number, name in enumerate(("Documents", "Downloads"))
)
HIDDEN = (HOME / ".local/state/millstream", HOME / ".cache/millstream")

EVERYTHING = Reach(
    uid=1000,
    root=FOLDER / "root",
    shared=FOLDER / "shared",
    etc=FOLDER / "etc",
    home=HOME,
    real_home=HOME,
    private_home=FOLDER / "home",
    documents=DOCUMENTS,
    hidden=HIDDEN,
    covered_files=(HOME / ".bashrc",),
    covered_folders=(*HIDDEN, HOME / ".ssh"),
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
    if policy.home == "private":
        reach = replace(reach, documents=())
    before = triples(bwrap_arguments(DENY, replace(reach, documents=())))
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
    assert triples(bwrap_arguments(DENY, replace(EVERYTHING, documents=()))) == [
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
        "--remount-ro /dev",
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
                "--bind /run/user/1000/m/b/shared/documents/0 /home/ann/Documents",
                "--bind /run/user/1000/m/b/shared/documents/1 /home/ann/Downloads",
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
        real_home=HOME,
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
    pins = [item for item in found if item.startswith("--bind /home/ann/.")]
    assert pins == [f"--bind {HOME / name} {HOME / name}" for name in (".cache", ".local", ".local/state")]


def test_what_is_covered_is_covered_wherever_its_real_folder_is_shown():
    shown = Document(FOLDER / "shared/documents/0", HOME / "Papers", Path("/disk/papers"))
    reach = replace(
        EVERYTHING,
        documents=(shown,),
        covered_folders=(Path("/disk/papers/a/ours"), Path("/disk/papers/a/ours/deeper")),
        covered_files=(Path("/disk/papers/rc"), Path("/disk/papers/a/ours/rc")),
    )
    found = triples(bwrap_arguments(Policy(), reach))
    first = found.index("--bind /run/user/1000/m/b/shared/documents/0 /home/ann/Papers") + 1
    assert found[first : first + 5] == [
        "--bind /disk/papers/a /home/ann/Papers/a",
        "--tmpfs /home/ann/Papers/a/ours",
        "--remount-ro /home/ann/Papers/a/ours",
        "--ro-bind /dev/null /home/ann/Papers/rc",
        "--ro-bind-try /usr/share/fonts /run/host/fonts",
    ]


def granted(*asked: Place, policy: Policy | None = None) -> list[Path]:
    return [place.path for place in granted_documents(policy or Policy(), EVERYTHING, asked)]


def plain(path: Path | str) -> Place:
    return Place(Path(path), Path(path))


def test_a_document_folder_never_opens_the_home_or_what_is_hidden_or_the_system():
    strange = (
        HOME, "/", "/home", HOME / ".cache/millstream/x", HOME / ".cache", HOME / ".ssh", "/etc", "/usr/x",
        "/proc", "/run/user/1000", "/tmp/x", "/dev",
    )  # fmt: skip
    assert granted(*map(plain, strange)) == []
    for target in strange:
        assert granted(Place(HOME / "Music", Path(target), (HOME,))) == []
    usual = (HOME / "Documents", Path("/data/music"), Path("/run/media/ann/stick"))
    assert granted(*map(plain, usual)) == sorted(usual)
    assert granted(*map(plain, usual), policy=DENY) == []


def test_a_document_folder_that_is_a_link_is_granted_only_where_no_application_writes():
    users = Place(HOME / "Documents", Path("/data/documents"), (HOME,))
    assert granted(users) == [HOME / "Documents"]
    assert granted(users, policy=Policy(home="full")) == []
    planted = Place(HOME / "Documents/Videos", Path("/data/secret"), (HOME / "Documents",))
    assert granted(plain(HOME / "Documents"), planted) == [HOME / "Documents"]
    behind = Place(HOME / "Documents/Videos", Path("/data/secret"), (HOME, Path("/data/documents")))
    assert granted(users, behind) == [HOME / "Documents"]


def test_a_document_folder_in_another_is_there_already():
    assert granted(plain(HOME / "Documents"), plain(HOME / "Documents/Templates")) == [HOME / "Documents"]


def test_the_folders_that_hold_mounts_are_pinned():
    assert pinned_folders(Policy(), HOME, [HOME / "a/b/Documents", Path("/data/x")]) == tuple(
        map(Path, ("/data", "/etc", "/etc/fonts", "/etc/fonts/conf.d", "/home", HOME / "a", HOME / "a/b"))
    )
    assert pinned_runtime(DENY, 1000) == (("user", True), ("user/1000", True))
    assert ("user/1000/bus", False) in pinned_runtime(Policy(dbus_session=True), 1000)


def test_variables_go_to_the_application_by_arguments():
    made = environment_arguments({"A": "1", "B": ""})
    assert made == ["--clearenv", "--setenv", "A", "1", "--setenv", "B", ""]


def named(*paths: str, policy: Policy | None = None) -> list[tuple[str, str]]:
    files = {plain(path): (1, 2) for path in paths}
    found = guests(policy or Policy(), EVERYTHING, FOLDER, files)
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


@pytest.mark.parametrize(
    ("real", "link"),
    [
        ("/home/ann/.bashrc", "/home/ann"),
        ("/home/ann/.config/x", "/data"),
        ("/home/ann/private/diary", "/home/ann/Documents"),
        ("/data/secret", "/home/ann/Documents/deep"),
    ],
)
def test_a_link_is_not_followed_to_what_an_application_could_want(real, link):
    with pytest.raises(LaunchError, match="not followed"):
        guests(Policy(), EVERYTHING, FOLDER, {Place(Path("/data/x.png"), Path(real), (Path(link),)): (1, 2)})


def test_a_link_to_the_home_or_to_the_clients_folders_opens_neither():
    link = (HOME / "src",)
    assert guests(Policy(), EVERYTHING, FOLDER, {Place(HOME / "src/project", HOME, link): (1, 2)}) == []
    with pytest.raises(LaunchError, match="never shown"):
        guests(Policy(), EVERYTHING, FOLDER, {Place(HOME / "src/x", HIDDEN[0] / "x", link): (1, 2)})
