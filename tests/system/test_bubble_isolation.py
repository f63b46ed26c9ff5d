"""What an application in a bubble can reach, and how a second start joins the first."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from packageformat.policy import Policy
from tests.accounts import Account, demonstration_account
from tests.ending import end_process
from tests.smallbubble import Bubble, Built, Stand, small_system, stand

STATUS = (
    "while read name value rest; do case $name in Cap*|NoNew*|Seccomp:) echo $name $value;; esac; done "
    "< /proc/self/status"
)
NO_CAPABILITIES = {
    "CapInh:": "0000000000000000",
    "CapPrm:": "0000000000000000",
    "CapEff:": "0000000000000000",
    "CapBnd:": "0000000000000000",
    "CapAmb:": "0000000000000000",
    "NoNewPrivs:": "1",
    "Seccomp:": "2",
}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with demonstration_account() as user:
        yield user


@pytest.fixture(scope="module")
def system() -> Built:
    return small_system().build()


@pytest.fixture(scope="module")
def place(account: Account) -> Iterator[Stand]:
    """One stand for all: what is cached once stays, and tests are quick."""
    with stand(account) as made:
        yield made


@pytest.fixture(scope="module")
def served(place: Stand, system: Built) -> Iterator[Bubble]:
    made = place.bubble([system])
    with made.supplied():
        yield made


@pytest.fixture
def bubble(served: Bubble) -> Iterator[Bubble]:
    """A bubble that does not run, with what earlier tests changed in it gone."""
    yield served
    assert ended(served)
    subprocess.run(
        ["rm", "-rf", *(served.spec.state / "upper").iterdir(), *served.spec.home.glob("*")], check=True
    )


def allowing(bubble: Bubble, **policy: Any) -> Bubble:
    return Bubble(bubble.stand, replace(bubble.spec, policy=Policy(**policy)), bubble.place)


def ended(bubble: Bubble, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(bubble.spec.runtime.iterdir()) and not (bubble.spec.state / "running.json").exists():
            return True
        time.sleep(0.02)
    return False


def said(bubble: Bubble, *argv: str, **how: Any) -> str:
    done = bubble.run(*argv, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def python(bubble: Bubble, code: str, **how: Any) -> str:
    return said(bubble, "python3", "-c", code, **how)


class Open:
    """A shell that runs in the bubble until it is told to end."""

    def __init__(self, bubble: Bubble, **how: Any) -> None:
        self.process = bubble.start("sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)
        assert self.ask("echo up") == "up"

    def ask(self, command: str) -> str:
        """Run a command and return the one line that it prints."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline()).rstrip("\n")

    def end(self) -> int:
        self.process.stdin.close()
        code = int(self.process.wait(20))
        self.process.stdout.close()
        return code


def test_an_application_has_no_capabilities_and_cannot_get_any(bubble):
    lines = dict(line.split() for line in said(bubble, "sh", "-c", STATUS).splitlines())
    assert lines == NO_CAPABILITIES


def test_a_second_start_joins_without_capabilities(bubble):
    first = Open(bubble)
    spaces = "cd /proc/self/ns; readlink pid ipc net uts | tr '\\n' ' '; echo; cd"
    mine = first.ask(spaces)
    first.ask("echo shared > /tmp/shared; echo shared > /usr/shared; echo ok")
    assert said(bubble, "sh", "-c", spaces).strip() == mine.strip()
    assert said(bubble, "cat", "/tmp/shared", "/usr/shared") == "shared\nshared\n"
    lines = dict(line.split() for line in said(bubble, "sh", "-c", STATUS).splitlines())
    assert lines == NO_CAPABILITIES
    assert first.ask("cat /tmp/shared") == "shared"
    assert first.end() == 0


def test_joiners_see_each_others_processes_but_cannot_look_into_process_one(bubble):
    first = Open(bubble)
    pid = first.ask("echo $$")
    assert said(bubble, "cat", f"/proc/{pid}/comm") == "sh\n"
    done = bubble.run(
        "sh",
        "-c",
        "ls /proc/1/root; readlink /proc/1/exe; cat /proc/1/maps /proc/1/environ; kill -9 1; echo alive",
    )
    assert done.stdout == "alive\n"
    assert "Permission denied" in done.stderr
    assert first.end() == 0


def test_closing_the_first_window_leaves_the_second(bubble):
    first = Open(bubble)
    second = Open(bubble)
    assert first.end() == 0
    time.sleep(0.3)
    assert second.ask("echo still; :") == "still"
    third = Open(bubble)
    assert third.ask("test -e /proc/1 && echo joined") == "joined"
    assert (second.end(), third.end()) == (0, 0)


def test_an_orphan_keeps_the_bubble_and_is_reaped(bubble):
    said(bubble, "sh", "-c", "(sleep 1.5; echo late > ~/late) > /dev/null 2>&1 &")
    assert not ended(bubble, 0.5)
    assert ended(bubble)
    assert (bubble.spec.home / "late").read_text() == "late\n"


def test_ten_starts_at_once_make_one_bubble(bubble):
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(bubble.run("sh", "-c", "readlink /proc/self/ns/pid; sleep 3")),
            daemon=True,
        )
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    assert [(done.returncode, done.stderr) for done in results] == [(0, "")] * 10
    assert len({done.stdout for done in results}) == 1


def test_starts_that_follow_each_other_closely_never_meet_a_dying_bubble(bubble):
    for turn in range(12):
        assert said(bubble, "sh", "-c", f"echo {turn} >> /usr/turns; echo {turn}") == f"{turn}\n"
    assert said(bubble, "cat", "/usr/turns").split() == [str(turn) for turn in range(12)]


def test_a_record_of_a_process_id_that_was_given_anew_is_not_believed(bubble, account):
    said(bubble, "true")
    assert ended(bubble)
    other = account.start(["sleep", "60"])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = {"process": other.pid, "started": 1, "boot": boot, "flags": 0, "folder": "/nowhere"}
    (bubble.spec.state / "running.json").write_text(json.dumps(record))
    os.chown(bubble.spec.state / "running.json", account.uid, account.gid)
    assert said(bubble, "echo", "fresh") == "fresh\n"
    end_process(other)


def test_a_killed_keeper_takes_the_bubble_with_it_and_the_next_start_works(bubble):
    first = Open(bubble)
    record = json.loads((bubble.spec.state / "running.json").read_text())
    os.kill(record["process"], signal.SIGKILL)
    assert first.process.wait(10) == 137
    first.process.stdin.close()
    first.process.stdout.close()
    assert said(bubble, "echo", "again") == "again\n"


def test_a_view_killed_with_its_holder_ends_the_bubble_rather_than_hang_it(bubble, account):
    first = Open(bubble)
    for name in ("bubble.holder", "bubble.view"):
        (process,) = account.named(name)
        os.kill(process, signal.SIGKILL)
    assert first.process.wait(10) == 137
    first.process.stdin.close()
    first.process.stdout.close()
    assert "the view has died" in bubble.log()
    assert said(bubble, "echo", "again") == "again\n"


def test_the_home_is_private_and_stays(bubble, account):
    (account.home / ".bashrc").write_text("real")
    (account.home / "secret").write_text("real")
    assert (
        said(bubble, "sh", "-c", "cd; pwd; ls -A; echo mine > .bashrc; mkdir .config") == f"{account.home}\n"
    )
    assert ended(bubble)
    assert said(bubble, "sh", "-c", "cat ~/.bashrc; ls -A ~") == "mine\n.bashrc\n.config\n"
    assert (account.home / ".bashrc").read_text() == "real"
    assert (bubble.spec.home / ".bashrc").read_text() == "mine\n"
    (bubble.spec.home / ".bashrc").unlink()


def test_document_folders_are_the_users_own(bubble, account):
    documents = account.home / "Documents"
    documents.mkdir(exist_ok=True)
    os.chown(documents, account.uid, account.gid)
    (documents / "old.txt").write_text("old\n")
    with_documents = Bubble(bubble.stand, replace(bubble.spec, documents=(documents,)), bubble.place)
    assert (
        said(with_documents, "sh", "-c", "cat ~/Documents/old.txt; echo new > ~/Documents/new.txt") == "old\n"
    )
    assert (documents / "new.txt").read_text() == "new\n"
    assert (documents / "new.txt").stat().st_uid == account.uid
    assert ended(bubble)
    private = replace(with_documents.spec, policy=Policy(home="private"))
    closed = Bubble(bubble.stand, private, bubble.place)
    assert said(closed, "sh", "-c", "ls ~/Documents 2>/dev/null || echo none") in ("", "none\n")


def test_the_clients_own_folders_and_other_homes_are_nowhere(bubble, account):
    other = bubble.stand.folder / "homes/other"
    other.mkdir(exist_ok=True)
    (other / "settings").write_text("MARK-OF-ANOTHER")
    full = allowing(bubble, home="full")
    for made in (bubble, full):
        out = made.run(
            "sh",
            "-c",
            f"ls -A {bubble.stand.folder}; find / -name settings -not -path '/proc/*' -not -path '/sys/*'",
        ).stdout
        assert out.split() == []
        assert ended(bubble)
    assert "Read-only" in full.run("sh", "-c", f"echo x > {bubble.stand.folder}/x").stderr


def test_a_full_home_is_the_users_without_his_startup_files(bubble, account):
    (account.home / ".bashrc").write_text("real")
    (account.home / ".ssh").mkdir(exist_ok=True)
    (account.home / ".ssh/id").write_text("key")
    (account.home / "note").write_text("note\n")
    for path in (".bashrc", ".ssh", ".ssh/id", "note"):
        os.chown(account.home / path, account.uid, account.gid)
    full = allowing(bubble, home="full")
    out = full.run(
        "sh",
        "-c",
        "cat ~/note ~/.bashrc; ls ~/.ssh; echo evil > ~/.bashrc; echo evil > ~/.ssh/rc; echo more > ~/note",
    )
    assert out.stdout == "note\n"
    assert (account.home / ".bashrc").read_text() == "real"
    assert [path.name for path in (account.home / ".ssh").iterdir()] == ["id"]
    assert (account.home / "note").read_text() == "more\n"


def test_named_files_are_bound_at_their_own_paths_in_every_window(bubble, account):
    folder = account.home / "elsewhere"
    folder.mkdir(exist_ok=True)
    named, beside = folder / "letter.txt", folder / "other.txt"
    for path in (named, beside):
        path.write_text("text\n")
        os.chown(path, account.uid, account.gid)
    first = Open(bubble)
    assert first.ask(f"cat {named} 2>/dev/null || echo not yet") == "not yet"
    assert said(bubble, "cat", str(named), files=[named]) == "text\n"
    assert first.ask(f"cat {named}") == "text"
    first.ask(f"echo edited > {named}; echo ok")
    assert named.read_text() == "edited\n"
    assert first.ask(f"cat {beside} 2>/dev/null || echo hidden") == "hidden"
    assert first.end() == 0


def test_a_link_that_an_application_plants_does_not_lead_a_named_file_out(bubble, account):
    target = account.home / "victim"
    target.mkdir(exist_ok=True)
    folder = account.home / "trap"
    folder.mkdir(exist_ok=True)
    named = folder / "planted.txt"
    named.write_text("x")
    for path in (target, folder, named):
        os.chown(path, account.uid, account.gid)
    said(bubble, "sh", "-c", f"ln -s {target} ~/trap")
    done = bubble.run("cat", str(named), files=[named])
    assert done.returncode == 53
    assert "cannot be shown" in done.stderr
    assert list(target.iterdir()) == []


def test_the_clients_own_files_cannot_be_named(bubble):
    done = bubble.run("cat", str(bubble.spec.view_image), files=[bubble.spec.view_image])
    assert done.returncode == 53
    assert "never shown" in done.stderr


def test_there_is_no_network_but_loopback(bubble):
    code = (
        "import socket, threading\n"
        "print(sorted(name for _, name in socket.if_nameindex()))\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "print('loopback')\n"
        "try: socket.create_connection(('127.0.0.1', PORT), 2)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = code.replace("PORT", str(server.getsockname()[1]))
        assert python(bubble, code) == "['lo']\nloopback\nConnection refused\n"
        assert ended(bubble)
        out = python(allowing(bubble, network=True), code.replace("print(sorted(", "(sorted("))
        assert out == "loopback\n"


def test_no_namespaces_no_mounts_no_tracing_inside(bubble):
    code = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def tried(call, *arguments): return ctypes.get_errno() if call(*arguments) < 0 else 0\n"
        "print(tried(libc.unshare, 0x10000000), tried(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None),\n"
        "      tried(libc.ptrace, 16, 1, 0, 0))\n"
    )
    assert python(bubble, code) == "1 1 1\n"
    assert ended(bubble)
    nested = code.replace(", tried(libc.mount", ", 0 and tried(libc.mount")
    assert python(allowing(bubble, nested_namespaces=True), nested) == "0 0 1\n"


def test_ipc_tmp_run_and_shared_memory_are_the_bubbles_own(bubble):
    outside = Path("/tmp/millstream-outside")
    outside.write_text("x")
    try:
        out = said(
            bubble, "sh", "-c", "ls /tmp /run/user /dev/shm; cat /proc/sysvipc/shm | tail -n +2; ls -A /home"
        )
    except AssertionError:
        out = bubble.run("sh", "-c", "ls /tmp /dev/shm; ls -A /home").stdout
    finally:
        outside.unlink()
    assert "millstream-outside" not in out


def test_exit_codes_signals_and_streams_are_the_applications_own(bubble):
    assert bubble.run("sh", "-c", "exit 42").returncode == 42
    assert bubble.run("sh", "-c", "kill -11 $$").returncode == 139
    assert bubble.run("cat", stdin="through\n").stdout == "through\n"
    trapped = bubble.start(
        "sh",
        "-c",
        "trap 'echo got it; exit 9' TERM; echo up; while :; do sleep 0.1; done",
        stdout=subprocess.PIPE,
    )
    assert trapped.stdout.readline() == b"up\n"
    trapped.terminate()
    assert trapped.communicate(timeout=10)[0] == b"got it\n"
    assert trapped.returncode == 9


def test_the_application_inherits_no_ignored_signals_and_no_descriptors(bubble):
    out = python(
        bubble,
        "import os\n"
        "print(open('/proc/self/status').read())\n"
        "print('fds', sorted(os.listdir('/proc/self/fd')))",
    )
    ignored = next(line.split()[1] for line in out.splitlines() if line.startswith("SigIgn"))
    assert int(ignored, 16) & ~(1 << 12 | 1 << 24) == 0, "only what Python itself ignores"
    assert out.splitlines()[-1] == "fds ['0', '1', '2', '3']"


def test_a_command_that_is_not_there_is_one_line(bubble):
    for command in ("nothing-like-that", "/usr/bin/nothing", "/etc/passwd"):
        done = bubble.run(command)
        assert done.returncode == 53
        assert len(done.stderr.splitlines()) == 1
        assert command in done.stderr


def test_the_display_is_reached_by_policy_alone(bubble, account, tmp_path):
    handshake = (
        "import os, socket, struct\n"
        "if 'DISPLAY' not in os.environ:\n"
        "    print('no display', os.path.exists('/tmp/.X11-unix'))\n"
        "    raise SystemExit\n"
        "data = open(os.environ['XAUTHORITY'], 'rb').read()\n"
        "cookie = data[-16:]\n"
        "name = b'MIT-MAGIC-COOKIE-1'\n"
        "door = socket.socket(socket.AF_UNIX)\n"
        "door.connect('/tmp/.X11-unix/X' + os.environ['DISPLAY'][1:])\n"
        "head = struct.pack('<BxHHHHxx', 0x6c, 11, 0, len(name), len(cookie))\n"
        "door.send(head + name + bytes(2) + cookie)\n"
        "print(door.recv(1)[0], len(data))\n"
    )
    authority = account.home / "authority"
    number = os.getpid() % 1000 + 100
    cookie = os.urandom(16).hex()
    subprocess.run(
        ["xauth", "-f", authority, "add", f":{number}", ".", cookie], check=True, capture_output=True
    )
    subprocess.run(
        ["xauth", "-f", authority, "add", f":{number + 1}", ".", "00" * 16], check=True, capture_output=True
    )
    os.chown(authority, account.uid, account.gid)
    screen = subprocess.Popen(
        ["Xvfb", f":{number}", "-auth", authority, "-nolisten", "tcp"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 20
        while not Path(f"/tmp/.X11-unix/X{number}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        variables = {"DISPLAY": f":{number}", "XAUTHORITY": str(authority)}
        assert python(bubble, handshake, **variables) == "no display False\n"
        assert ended(bubble)
        answer, size = python(allowing(bubble, x11=True), handshake, **variables).split()
        assert answer == "1", "the server let us in"
        assert int(size) < authority.stat().st_size, "with the one cookie of this display"
    finally:
        end_process(screen)


def test_the_session_bus_is_filtered(bubble, account, tmp_path):
    address = f"unix:path={account.runtime}/real-bus"
    daemon = account.start(
        ["dbus-daemon", "--session", "--nofork", f"--address={address}"], stderr=subprocess.DEVNULL
    )
    call = ["dbus-send", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]
    try:
        end = time.monotonic() + 10
        while not (account.runtime / "real-bus").exists() and time.monotonic() < end:
            time.sleep(0.02)
        variables = {"DBUS_SESSION_BUS_ADDRESS": address}
        shown = "echo $DBUS_SESSION_BUS_ADDRESS"
        assert said(bubble, "sh", "-c", shown, **variables) == "disabled:\n"
        assert ended(bubble)
        granted = allowing(bubble, dbus_session=True, dbus_own=("org.example.Mine",))
        window = Open(granted, environment=account.environment(**variables))
        assert window.ask(shown) == f"unix:path=/run/user/{account.uid}/bus"
        (proxied,) = bubble.spec.runtime.glob("*/bus")
        through = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={proxied}"}
        own = account.run(
            [*call, "org.freedesktop.DBus.RequestName", "string:org.example.Mine", "uint32:0"], **through
        )
        assert own.returncode == 0
        foreign = account.run(
            [*call, "org.freedesktop.DBus.RequestName", "string:org.example.Other", "uint32:0"], **through
        )
        assert foreign.returncode != 0
        assert window.end() == 0
        assert ended(bubble)
    finally:
        end_process(daemon)


def driver(bubble: Bubble, *argv: str) -> list[str]:
    return bubble._driver(argv, ())


def test_a_host_without_user_namespaces_is_one_clear_line(bubble, account):
    done = account.run(
        ["bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", *driver(bubble, "true")]
    )
    assert done.returncode == 50
    assert done.stderr.startswith("this host refuses user namespaces")
    assert len(done.stderr.splitlines()) == 1


def test_a_host_without_fuse_is_one_clear_line(bubble, account):
    done = account.run(["bwrap", "--dev-bind", "/", "/", "--dev", "/dev", *driver(bubble, "true")])
    assert done.returncode == 51
    assert done.stderr.startswith("/dev/fuse cannot be used: No such file")
    assert len(done.stderr.splitlines()) == 1


def test_an_upper_on_an_overlay_is_one_clear_line(bubble, account, tmp_path):
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    moved = replace(bubble.spec, state=tmp_path / "merged/state", runtime=account.runtime / "o")
    argv = driver(Bubble(bubble.stand, moved, bubble.place), "true")
    script = (
        f"cd {tmp_path} && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && "
        f'cd / && exec setpriv --reuid {account.uid} --regid {account.gid} --clear-groups "$@"'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *argv],
        capture_output=True,
        text=True,
        env=account.environment(),
        cwd="/",
    )
    assert done.returncode == 52, done.stderr
    assert done.stderr.startswith("no overlay can be mounted over")
    assert len(done.stderr.splitlines()) == 1


def test_the_probe_says_what_works(account):
    code = (
        "from bubble.launch import probe; host = probe(); host.require(); "
        "print(host.userns, host.fuse, host.overlay, host.bwrap)"
    )
    assert account.run([account.python, "-c", code]).stdout == "True True True True\n"
    done = account.run(["bwrap", "--dev-bind", "/", "/", "--dev", "/dev", account.python, "-c", code])
    assert "NoFuseError" in done.stderr


def test_fonts_of_the_host_come_with_a_configuration_for_them(bubble):
    assert "/run/host/fonts" in said(bubble, "cat", "/etc/fonts/conf.d/05-millstream-host.conf")
    assert ended(bubble)
    assert "/run/host" not in said(
        allowing(bubble, fonts=False), "cat", "/etc/fonts/conf.d/05-millstream-host.conf"
    )
