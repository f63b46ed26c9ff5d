"""What an application notices when a process of its bubble is killed: nothing, or an error; no hang."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from tests.accounts import Account, demonstration_account
from tests.smallbubble import Bubble, Layer, Stand, small_system, stand

BIG = b"".join(sha256(str(n).encode()).digest() for n in range(BLOCK_SIZE * 6 // 32))
KILLS = 5
OF_ITS_VIEW = (1, 128 + signal.SIGBUS, 128 + signal.SIGKILL)
"""How a program ends with its view: by a read that failed, by a page that never came, or with its bubble.

Which of them it is depends on who runs first once the keeper has the kernel abort the file system."""
DEATHS_APART = 5.2
"""Seconds between two kills of a view of which the third is not to be the last (bubble/holder.py)."""


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with demonstration_account() as user:
        yield user


@pytest.fixture
def place(account: Account) -> Iterator[Stand]:
    with stand(account) as made:
        yield made


@pytest.fixture
def bubble(place: Stand, request: pytest.FixtureRequest) -> Bubble:
    layer = Layer()
    for number in range(KILLS + 1):
        layer.file(f"opt/big{number}", bytes([number]) + BIG)
    return place.bubble([small_system().build(), layer.build()], streamed=getattr(request, "param", False))


WITH_A_PUSHER_OR_WITHOUT = pytest.mark.parametrize("bubble", [False, True], indirect=True)


def one(account: Account, name: str, seconds: float = 10) -> int:
    """Return the one process of that name; it may just be being started."""
    end = time.monotonic() + seconds
    while len(found := account.named(name)) != 1:
        assert time.monotonic() < end, (name, found)
        time.sleep(0.01)
    return found[0]


class Reader:
    """A shell in the bubble that prints checksums."""

    def __init__(self, bubble: Bubble, **environment: str) -> None:
        self.process = bubble.start(
            "sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, environment=environment
        )
        assert self.ask("echo up") == "up"

    def tell(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return str(self.process.stdout.readline()).rstrip("\n")

    def ask(self, command: str) -> str:
        self.tell(command)
        return self.hear()

    def end(self) -> int:
        self.process.stdin.close()
        return self.ended()

    def ended(self, seconds: float = 20) -> int:
        return int(self.process.wait(seconds))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # what it was told and never read
            self.process.stdin.close()
        self.process.stdout.close()


def sum_of(number: int) -> str:
    return sha256(bytes([number]) + BIG).hexdigest()


def test_what_is_announced_is_in_the_kernel_before_anybody_asks(place: Stand, account: Account) -> None:
    layer = Layer()
    large = BIG * 20  # more than the system's own libraries together
    source = place.folder / "large"
    source.write_bytes(large)
    source.chmod(0o644)
    layer.file("opt/some where/big", source)
    layer.link("opt/some where/the link", "big")
    bubble = place.bubble([small_system().build(), layer.build()], streamed=True)
    figures = bubble.spec.state / "view.json"
    pages = len(large) // PAGE_SIZE
    with bubble.supplied("soon=opt/some where/big"), Reader(bubble) as reader:
        view = one(account, "bubble.view")

        def ask_figures() -> dict[str, Any]:
            figures.unlink(missing_ok=True)
            os.kill(view, signal.SIGUSR1)
            while not figures.exists():
                assert time.monotonic() < end
                time.sleep(0.02)
            return dict(json.loads(figures.read_text()))

        end = time.monotonic() + 20
        while (before := ask_figures())["pages_pushed"] < pages:
            assert time.monotonic() < end, before
            time.sleep(0.05)
        assert reader.ask("read x < '/opt/some where/the link'; [ \"$x\" ] && echo read") == "read"
        named = ask_figures()
        assert reader.ask("sha256sum < '/opt/some where/big'").split()[0] == sha256(large).hexdigest()
        after = ask_figures()
        assert reader.end() == 0
    assert named["requests"]["LOOKUP"] == before["requests"]["LOOKUP"], "all names were known"
    assert after["read_bytes"] - before["read_bytes"] < len(large) / 2, "only the programs are read"


def test_who_pushes_is_replaced_with_the_view_and_not_missed(place: Stand, account: Account) -> None:
    layer = Layer()
    source = place.folder / "large"
    source.write_bytes(BIG)
    source.chmod(0o644)
    layer.file("opt/big", source)
    bubble = place.bubble([small_system().build(), layer.build()], streamed=True)
    with bubble.supplied(), Reader(bubble) as reader:
        first = one(account, "bubble.pusher")
        os.kill(one(account, "bubble.view"), signal.SIGKILL)
        assert reader.ask("cat /etc/issue") == "a small system"
        end = time.monotonic() + 10
        while first in (there := account.named("bubble.pusher")) or not there:
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(one(account, "bubble.pusher"), signal.SIGKILL)
        assert reader.ask("sha256sum < /opt/big").split()[0] == sha256(BIG).hexdigest()
        assert reader.end() == 0
    assert bubble.log().count("another takes over") == 1


@WITH_A_PUSHER_OR_WITHOUT
def test_views_killed_in_reads_are_replaced_and_every_byte_is_right(bubble: Bubble, account: Account) -> None:
    with bubble.supplied("delay=0.4"), Reader(bubble) as reader:
        for number in range(KILLS):
            view = one(account, "bubble.view")
            began = time.monotonic()
            reader.tell(f"sha256sum < /opt/big{number}")
            time.sleep(0.5)
            os.kill(view, signal.SIGKILL)
            assert reader.hear().split()[0] == sum_of(number)
            while one(account, "bubble.view") == view:  # is ending still
                assert time.monotonic() - began < 20
            time.sleep(max(0.0, DEATHS_APART - (time.monotonic() - began)))
        assert reader.end() == 0
    assert bubble.log().count("another takes over") == KILLS


def test_a_view_killed_while_nobody_reads_is_replaced(bubble: Bubble, account: Account) -> None:
    with bubble.supplied(), Reader(bubble) as reader:
        os.kill(one(account, "bubble.view"), signal.SIGKILL)
        assert reader.ask("cat /etc/issue") == "a small system"
        assert reader.ask("sha256sum < /opt/big0").split()[0] == sum_of(0)
        assert reader.end() == 0


@WITH_A_PUSHER_OR_WITHOUT
def test_views_that_die_again_and_again_end_the_bubble(bubble: Bubble, account: Account) -> None:
    with bubble.supplied("delay=0.5"), Reader(bubble) as reader:
        reader.tell("sha256sum < /opt/big0")
        for _ in range(3):
            time.sleep(0.2)
            os.kill(one(account, "bubble.view"), signal.SIGKILL)
        assert reader.ended(10) == 137
        assert "given up" in bubble.log()
        assert "the bubble ends" in bubble.log()
        done = bubble.run("cat", "/etc/issue")
        assert (done.returncode, done.stdout) == (0, "a small system\n")


@WITH_A_PUSHER_OR_WITHOUT
def test_a_kernel_that_repeats_no_requests_ends_the_bubble_rather_than_hang_it(
    bubble: Bubble, account: Account
) -> None:
    with bubble.supplied("delay=0.5"), Reader(bubble, MILLSTREAM_NO_RESEND="1") as reader:
        reader.tell("sha256sum < /opt/big0")
        time.sleep(0.2)
        os.kill(one(account, "bubble.view"), signal.SIGKILL)
        assert reader.ended(10) == 137
        assert "repeats no requests" in bubble.log()


@WITH_A_PUSHER_OR_WITHOUT
def test_a_view_whose_holder_was_killed_serves_on_and_is_the_last(bubble: Bubble, account: Account) -> None:
    with bubble.supplied("delay=0.1"), Reader(bubble) as reader:
        os.kill(one(account, "bubble.holder"), signal.SIGKILL)
        assert reader.ask("sha256sum < /opt/big0").split()[0] == sum_of(0)
        reader.tell("sha256sum < /opt/big1")
        time.sleep(0.2)
        os.kill(one(account, "bubble.view"), signal.SIGKILL)
        assert reader.ended(10) == 137
        assert "the view has died" in bubble.log()


def test_a_pusher_that_waits_for_a_page_of_a_dead_view_hangs_nobody(place: Stand, account: Account) -> None:
    layer = Layer()
    layer.file("opt/big", BIG)
    bubble = place.bubble([small_system().build(), layer.build()], streamed=True)
    code = (
        "import os, sys\n"
        "big = os.open('/opt/big', os.O_RDONLY)\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(len(os.pread(big, 4096, 4096 * int(line))), flush=True)\n"
    )

    def wait_for(name: str, state: str) -> None:
        end = time.monotonic() + 10
        process = one(account, name)
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != state:
            assert time.monotonic() < end, (name, state)
            time.sleep(0.01)

    with bubble.supplied(), Reader(bubble) as reader:
        assert reader.ask(f'exec python3 -c "{code}"') == "ready"
        os.kill(one(account, "bubble.pusher"), signal.SIGSTOP)
        assert reader.ask("0") == "4096"  # its block is here, and the pusher is to push all of it
        os.kill(one(account, "bubble.view"), signal.SIGSTOP)
        wait_for("bubble.view", "T")
        reader.tell("8")
        time.sleep(0.5)  # now this page is locked: its reader waits for the view
        os.kill(one(account, "bubble.pusher"), signal.SIGCONT)
        wait_for("bubble.pusher", "D")
        for name in ("bubble.holder", "bubble.view"):
            os.kill(one(account, name), signal.SIGKILL)
        assert reader.ended(10) in OF_ITS_VIEW
    assert "the view has died" in bubble.log()
    assert account.named("bubble.pusher") == []


@WITH_A_PUSHER_OR_WITHOUT
def test_nothing_is_left_when_the_holder_was_killed(bubble: Bubble, account: Account) -> None:
    with bubble.supplied(), Reader(bubble) as reader:
        os.kill(one(account, "bubble.holder"), signal.SIGKILL)
        assert reader.end() == 0
        end = time.monotonic() + 10
        while any(bubble.spec.runtime.iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
        assert not any(bubble.spec.runtime.iterdir())
        assert account.named("bubble.view") == []
