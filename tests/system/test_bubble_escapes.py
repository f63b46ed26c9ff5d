"""Ways out of a bubble that were found once: each test is the attack, and what it gets today."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bubble.entrance import Entry, GoneError, make_ready
from bubble.launch import write_in_place
from tests.accounts import Account, demonstration_account
from tests.ending import end_process
from tests.smallbubble import Bubble, Layer, Stand, small_system, stand
from tests.system.test_bubble_isolation import Open, allowing, ended, said


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with demonstration_account() as user:
        yield user


@pytest.fixture(scope="module")
def place(account: Account) -> Iterator[Stand]:
    with stand(account) as made:
        yield made


@pytest.fixture(scope="module")
def served(place: Stand) -> Iterator[Bubble]:
    made = place.bubble([small_system().build()])
    with made.supplied():
        yield made


@pytest.fixture
def bubble(served: Bubble, account: Account) -> Iterator[Bubble]:
    """A bubble that does not run; what a test changes in it and in the user's home goes."""
    before = set(account.home.iterdir())
    yield served
    assert ended(served)
    changed = [*(served.spec.state / "upper").iterdir(), *served.spec.home.iterdir()]
    subprocess.run(["rm", "-rf", *changed, *(set(account.home.iterdir()) - before)], check=True)


def put(account: Account, path: str, text: str | None = None) -> Path:
    """Make a folder, or a file with `text`, of the user's, below his home."""
    place = account.home / path
    (place if text is None else place.parent).mkdir(parents=True, exist_ok=True)
    if text is not None:
        place.write_text(text)
    while place != account.home:
        os.chown(place, account.uid, account.gid)
        place = place.parent
    return account.home / path


def linked(account: Account, path: str, target: str | Path) -> Path:
    """Make a symbolic link of the user's below his home."""
    place = account.home / path
    place.symlink_to(target)
    os.chown(place, account.uid, account.gid, follow_symlinks=False)
    return place


def changed(bubble: Bubble, **changes: Any) -> Bubble:
    return Bubble(bubble.stand, replace(bubble.spec, **changes), bubble.place)


def test_bubblewrap_has_none_of_the_packages_variables(bubble, account):
    granted = allowing(bubble, environment=(("OUT_OF_THE_PACKAGE", "x"),))
    window = Open(granted)
    assert window.ask("echo $OUT_OF_THE_PACKAGE") == "x"
    ours = [Path(f"/proc/{pid}") for pid in account.processes()]
    outer = [process for process in ours if (process / "comm").read_text() == "bwrap\n"]
    assert outer
    for process in outer:
        assert (process / "environ").read_bytes() == b"PATH=/usr/bin:/bin\0"
    assert window.end() == 0


def test_the_application_gets_its_own_variables_and_no_others(bubble):
    seen = said(bubble, "env", LD_LIBRARY_PATH="/nowhere", SECRET_TOKEN="x", LANG="C.UTF-8")
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert {"HOME", "USER", "PATH", "LANG", "XDG_RUNTIME_DIR", "container"} <= names
    assert not {"LD_LIBRARY_PATH", "SECRET_TOKEN", "PYTHONPATH"} & names


def test_a_descriptor_that_the_caller_had_open_is_not_the_applications(bubble, account):
    put(account, "secret", "secret\n")
    argv = bubble._driver(["sh", "-c", "ls /proc/self/fd; cat /proc/self/fd/6/secret <&6"], ())
    done = account.run(["sh", "-c", 'exec 6<"$HOME" 9<"$HOME/secret"; exec "$@"', "sh", *argv])
    assert done.stdout.split() == ["0", "1", "2", "3"]
    assert "secret" not in done.stdout


def test_a_document_folder_that_an_application_has_made_a_link_is_left_out(bubble, account):
    documents = put(account, "Documents")
    put(account, ".ssh/id", "key\n")
    put(account, "private/diary", "diary\n")
    secrets = account.home / "private"
    asked = (documents, documents / "Templates", documents / "Videos", account.home / "Music")
    links = "ln -s ../.ssh Templates; ln -s ../private Videos"
    planting = f"mkdir ~/.ssh ~/private; cd ~/Documents; {links}; echo planted"
    granted = changed(bubble, documents=asked)
    assert said(granted, "sh", "-c", planting) == "planted\n"
    assert ended(bubble)
    linked(account, "Music", ".ssh")
    looking = (
        "cat ~/Documents/Templates/id ~/Documents/Videos/diary ~/Music/id; echo x > ~/Documents/Templates/rc"
    )
    for home in ("documents", "full"):
        made = changed(granted, policy=replace(granted.spec.policy, home=home))
        out = made.run("sh", "-c", looking + "; echo up").stdout
        assert "key" not in out
        assert "up" in out
        assert ended(bubble)
    assert "diary" not in granted.run("sh", "-c", looking).stdout
    assert sorted(path.name for path in (account.home / ".ssh").iterdir()) == ["id"]
    assert (secrets / "diary").read_text() == "diary\n"


def test_a_document_folder_that_the_user_has_made_a_link_is_shown(bubble, account):
    put(account, "disk/papers/letter", "letter\n")
    link = linked(account, "Documents", "disk/papers")
    assert said(changed(bubble, documents=(link,)), "cat", str(link / "letter")) == "letter\n"


def test_document_folders_are_no_way_to_the_system_nor_to_hidden_folders(bubble, account):
    put(account, ".config/app/token", "token\n")
    asked = tuple(
        map(
            Path,
            ("/", "/home", "/etc", "/usr", "/run", "/tmp", "/proc", account.home, account.home / ".config"),
        )
    )
    granted = changed(bubble, documents=asked)
    assert said(granted, "sh", "-c", "cat ~/.config/app/token 2>/dev/null || echo none") == "none\n"
    assert ":" in said(granted, "head", "-1", "/etc/passwd")


def test_one_application_cannot_keep_the_others_from_starting(bubble, account):
    documents = put(account, "Documents")
    put(account, ".cache")
    linked(account, "Documents/Templates", account.home / ".cache")
    linked(account, "Documents/Round", "Round")
    linked(account, "Documents/Nowhere", "/nowhere/at/all")
    asked = (documents, *(documents / name for name in ("Templates", "Round", "Nowhere", "Absent")))
    assert said(changed(bubble, documents=asked), "echo", "up") == "up\n"


def test_a_named_link_to_the_home_does_not_open_the_home(bubble, account):
    put(account, "note", "note\n")
    put(account, "src")
    link = linked(account, "src/project", account.home)
    done = bubble.run("sh", "-c", f"cat {link}/note", files=[link])
    assert "note\n" not in done.stdout


def test_a_named_link_to_a_startup_file_or_a_hidden_folder_is_refused(bubble, account):
    put(account, ".bashrc", "real\n")
    put(account, ".config/app/token", "token\n")
    put(account, "dotfiles/zshrc", "real\n")
    linked(account, ".zshrc", "dotfiles/zshrc")
    for target in (".bashrc", ".config/app", "dotfiles/zshrc"):
        link = linked(account, "evil.png", target)
        done = bubble.run("sh", "-c", f"cat {link}; echo evil > {link}", files=[link])
        assert (done.returncode, done.stdout) == (53, "")
        assert "is not followed" in done.stderr
        link.unlink()
    assert (account.home / ".bashrc").read_text() == "real\n"


def test_a_named_link_in_a_document_folder_is_not_followed_out_of_it(bubble, account):
    documents = put(account, "Documents")
    put(account, "private/diary", "diary\n")
    link = linked(account, "Documents/report", "../private/diary")
    done = changed(bubble, documents=(documents,)).run("cat", str(link), files=[link])
    assert (done.returncode, done.stdout) == (53, "")


def test_a_named_link_of_the_users_to_a_plain_file_works(bubble, account):
    put(account, "papers/letter", "letter\n")
    link = linked(account, "latest", "papers/letter")
    assert said(bubble, "cat", str(link), files=[link]) == "letter\n"


def test_hidden_folders_stay_hidden_behind_links(bubble, account):
    """~/.cache -> ~/scratch, as on machines whose home is on a server."""
    put(account, "scratch/ours/key", "key\n")
    linked(account, ".cache", account.home / "scratch")
    hidden = (*bubble.spec.hidden, account.home / ".cache/ours")
    full = changed(allowing(bubble, home="full"), hidden=hidden)
    script = "cat ~/.cache/ours/key ~/scratch/ours/key; mv ~/scratch ~/s2; cat ~/s2/ours/key; echo up"
    assert full.run("sh", "-c", script).stdout == "up\n"
    assert ended(bubble)
    documents = changed(bubble, hidden=hidden, documents=(account.home / "scratch",))
    assert documents.run("sh", "-c", "cat ~/scratch/ours/key; echo up").stdout == "up\n"
    assert ended(bubble)
    named = account.home / "scratch/ours/key"
    refused = changed(bubble, hidden=hidden).run("cat", str(named), files=[named])
    assert (refused.returncode, refused.stdout) == (53, "")


def test_in_a_full_home_hidden_folders_do_not_move_with_their_parents(bubble, account):
    put(account, ".config/systemd/user/x.service", "unit\n")
    put(account, ".config/other", "other\n")
    full = allowing(bubble, home="full")
    script = "mv ~/.config ~/.c2 && cat ~/.c2/systemd/user/x.service; cat ~/.config/other"
    assert full.run("sh", "-c", script).stdout == "other\n"
    assert (account.home / ".config/systemd/user/x.service").exists()


def test_a_full_home_starts_when_a_startup_file_is_a_link(bubble, account):
    put(account, "dot/zshrc", "real\n")
    linked(account, ".zshrc", "dot/zshrc")
    linked(account, ".zshenv", "/nowhere")
    full = allowing(bubble, home="full")
    done = full.run(
        "sh", "-c", "cat ~/.zshrc; echo evil > ~/.zshrc; mv ~/dot ~/d2; echo evil > ~/d2/zshrc; echo up"
    )
    assert done.stdout == "up\n"
    assert (account.home / "dot/zshrc").read_text() == "real\n"


def test_a_sound_cookie_that_is_a_link_is_not_shown(bubble, account):
    put(account, ".ssh/id", "key\n")
    put(account, ".config/pulse")
    linked(account, ".config/pulse/cookie", "../../.ssh/id")
    made = allowing(bubble, sound=True)
    assert said(made, "sh", "-c", "cat /run/host/pulse-cookie; echo up") == "up\n"


def test_a_policy_that_was_narrowed_is_not_joined(bubble):
    wide = allowing(bubble, network=True)
    window = Open(wide)
    done = bubble.run("echo", "joined")
    assert (done.returncode, done.stdout) == (54, "")
    assert "close all its windows" in done.stderr
    assert said(wide, "echo", "joined") == "joined\n"
    assert window.end() == 0


@pytest.mark.parametrize(
    "moved", ["/run/host", "/run/user", "/run/user/$(id -u)", "/tmp/.X11-unix", "/etc", "/etc/fonts", "/home"]
)
def test_a_running_application_cannot_lead_the_next_start_out(bubble, account, moved):
    """Bubblewrap follows links when it makes what it mounts on: /oldroot is the host then."""
    planted = put(account, "planted")
    made = allowing(bubble, x11=True, wayland=True, sound=True, dbus_session=True, printing=True)
    window = Open(made)
    told = window.ask(
        f"mv {moved} {moved}.2 2>/dev/null; ln -s /oldroot{planted} {moved} 2>/dev/null; echo tried"
    )
    assert told == "tried"
    assert said(made, "echo", "joined") == "joined\n"
    assert list(planted.iterdir()) == []
    link = f"ln -s /oldroot{planted}/new"
    window.ask(
        f"cd /run/user/*; for name in * pulse/native; do rm -rf $name; {link} $name; done; "
        f"{link} /run/host/new; {link} /tmp/.X11-unix/X9; echo tried"
    )
    assert said(made, "echo", "joined") == "joined\n"
    assert list(planted.iterdir()) == []
    assert window.end() == 0


def test_portals_that_act_for_a_program_of_the_hosts_are_out_of_reach(bubble, account):
    address = f"unix:path={account.runtime}/portal-bus"
    daemon = account.start(
        ["dbus-daemon", "--session", "--nofork", f"--address={address}"], stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 10
        while not (account.runtime / "portal-bus").exists() and time.monotonic() < end:
            time.sleep(0.02)
        variables = {"DBUS_SESSION_BUS_ADDRESS": address}
        window = Open(allowing(bubble, dbus_session=True), environment=account.environment(**variables))
        (proxied,) = bubble.spec.runtime.glob("*/bus")
        call = ["dbus-send", "--print-reply", "--dest=org.freedesktop.portal.Desktop"]

        def answer(method: str, *more: str) -> str:
            argv = [*call, "/org/freedesktop/portal/desktop", f"org.freedesktop.portal.{method}", *more]
            return account.run(argv, DBUS_SESSION_BUS_ADDRESS=f"unix:path={proxied}").stderr

        # Nobody owns the name on this bus: what passes the proxy is ServiceUnknown.
        assert "ServiceUnknown" in answer("Settings.ReadOne", "string:a", "string:b")
        assert "ServiceUnknown" in answer("OpenURI.OpenURI")
        for method in ("Background.RequestBackground", "ScreenCast.CreateSession", "Trash.TrashFile"):
            assert "AccessDenied" in answer(method), method
        assert window.end() == 0
        assert ended(bubble)
    finally:
        end_process(daemon)


def test_a_start_right_after_a_bubble_was_killed_in_a_read_makes_a_new_one(place, account):
    layer = Layer()
    layer.file("opt/big", os.urandom(1 << 20))
    made = place.bubble([small_system().build(), layer.build()])
    with made.supplied():
        window = Open(made)
    (view,) = account.named("bubble.view")
    record = json.loads((made.spec.state / "running.json").read_text())
    with made.supplied("delay=2"):
        window.process.stdin.write("read line < /opt/big\n")
        window.process.stdin.flush()
        time.sleep(0.5)
        os.kill(view, signal.SIGSTOP)
        os.kill(record["process"], signal.SIGKILL)
        going_on = threading.Timer(1.5, os.kill, (view, signal.SIGCONT))
        going_on.start()
        try:
            assert said(made, "echo", "again") == "again\n"
        finally:
            going_on.join()
            window.process.wait(10)
            window.process.stdin.close()
            window.process.stdout.close()
        assert ended(made)


def test_entering_a_bubble_whose_process_one_is_ending_is_told_apart(tmp_path):
    """The start waits then for the end of that process, and makes a new bubble."""
    with subprocess.Popen(["true"]) as ending:
        keeper = os.pidfd_open(ending.pid)
        os.waitid(os.P_PIDFD, keeper, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GoneError):
            make_ready(keeper, 0x10000000, Entry(("true",), (), tmp_path, tmp_path))
        os.close(keeper)


def test_what_a_killed_view_and_keeper_left_is_swept_by_any_bubbles_start(bubble, account):
    window = Open(bubble)
    running = json.loads((bubble.spec.state / "running.json").read_text())
    left = bubble.spec.runtime / "0123abcd"
    fresh = bubble.spec.runtime / "0123abce"
    for folder, age in ((left, 100), (fresh, 0)):
        for name in ("view", "root", "shared", "home", "etc"):
            (folder / name).mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
        os.chown(folder, account.uid, account.gid)
    os.utime(running["folder"], (time.time() - 100,) * 2)
    other = changed(bubble, state=bubble.spec.state.with_name("another"), home=bubble.spec.home / "another")
    assert said(other, "echo", "up") == "up\n"
    assert not left.exists()
    assert fresh.exists(), "might be one that is being made"
    assert Path(running["folder"]).exists(), "runs"
    subprocess.run(["rm", "-r", fresh], check=True)
    assert window.end() == 0


def test_the_memory_of_a_bubbles_own_places_is_bounded(bubble):
    sizes = (
        "import os; print(*(os.statvfs(p).f_blocks * os.statvfs(p).f_frsize for p in ('/tmp', '/dev/shm')))"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for size in said(bubble, "python3", "-c", sizes).split():
        assert int(size) < 0.3 * memory
    assert "Read-only" in bubble.run("sh", "-c", "echo x > /dev/x").stderr


def test_a_file_that_is_mounted_is_never_empty_while_it_changes(tmp_path):
    place = tmp_path / "hosts"
    place.write_bytes(b"x" * 100)
    with place.open("rb") as mounted:
        write_in_place(place, b"new\n")
        assert mounted.read() == b"new\n"
    assert place.read_bytes() == b"new\n"
    with pytest.raises(OSError, match="nowhere") as caught:
        write_in_place(tmp_path / "nowhere/x", b"")
    assert caught.value.filename == str(tmp_path / "nowhere/x")


def test_a_full_runtime_folder_is_named_by_its_place(bubble, account, tmp_path):
    """Its own file system in a namespace of mounts of the test's: full after the first folders."""
    runtime = account.runtime / "full"
    runtime.mkdir()
    os.chown(runtime, account.uid, account.gid)
    argv = changed(bubble, runtime=runtime)._driver(["true"], ())
    script = (
        f"mount -t tmpfs -o size=4k,mode=777 tmpfs {runtime} && echo x > {runtime}/full && cd / && "
        f'exec setpriv --reuid {account.uid} --regid {account.gid} --clear-groups "$@"'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *argv],
        capture_output=True,
        text=True,
        env=account.environment(),
        cwd="/",
    )
    runtime.rmdir()
    assert done.returncode == 53
    assert str(runtime) in done.stderr
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1
