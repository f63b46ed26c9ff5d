from __future__ import annotations

import asyncio
import errno
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bubble.composition import write_view
from bubble.supply import ViewServer, serve_views
from bubble.supplyline import FAIL_FAST, GIVE_UP_AFTER, SILENCE_MAX, SupplyLine
from bubble.supplymessage import SIZE, Message, Word, decode_message, encode_message
from bubble.viewimage import ViewImage, load
from packageformat.entry import Kind, Node
from packageformat.errors import FormatError
from packageformat.limits import BLOCK_SIZE
from packageformat.tree import build_tree

VERSION = b"v" * 32
BUBBLE = b"b" * 32
TREE = build_tree({b"one": Node(Kind.FILE, size=3 * BLOCK_SIZE), b"two": Node(Kind.FILE, size=1)})
IDS = b"".join(bytes([n + 1]) * 32 for n in range(4))
ONE, TWO = 1, 2
"""The nodes of the two files."""


def image_in(folder: Path) -> ViewImage:
    write_view(folder / "image", [(VERSION, TREE, IDS)])
    return load((folder / "image").read_bytes())


with tempfile.TemporaryDirectory() as _folder:
    IMAGE = image_in(Path(_folder))


class Recorder:
    """A supplier that notes what it is asked and answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        self.asked.append(("bring", layer, block))
        await self.go.wait()
        if self.error is not None:
            raise self.error

    async def damaged(self, layer: bytes, block: int) -> None:
        self.asked.append(("damaged", layer, block))


def image_of(bubble_id: bytes) -> object:
    if bubble_id != BUBBLE:
        raise KeyError(bubble_id)
    return IMAGE


@asynccontextmanager
async def serving(place: Path, supplier: Recorder) -> AsyncIterator[ViewServer]:
    async with serve_views(place, image_of, supplier) as server:
        yield server


class Asker:
    """The view's end, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, place: Path, bubble_id: bytes = BUBBLE) -> Asker:
        asker = cls(*await asyncio.open_unix_connection(place))
        asker.say(Message(Word.HELLO, digest=bubble_id))
        return asker

    def say(self, message: Message) -> None:
        self.writer.write(encode_message(message))

    async def hear(self) -> Message:
        return decode_message(await asyncio.wait_for(self.reader.readexactly(SIZE), 5))

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def settled(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def test_readers_of_one_block_share_one_fetch_and_all_hear_of_it(tmp_path):
    supplier = Recorder()
    async with serving(tmp_path / "s", supplier) as server:
        askers = [await Asker.connect(tmp_path / "s") for _ in range(3)]
        for asker in askers:
            asker.say(Message(Word.NEED, content=ONE, block=2))
        await settled(lambda: server.needs == 3)
        supplier.go.set()
        assert [await asker.hear() for asker in askers] == [Message(Word.HAVE, content=ONE, block=2)] * 3
        assert supplier.asked == [("bring", VERSION, 2)]
        assert server.views == 3
        for asker in askers:
            await asker.close()
        await settled(lambda: server.views == 0)


async def test_a_reader_that_leaves_spares_the_others(tmp_path):
    supplier = Recorder()
    async with serving(tmp_path / "s", supplier) as server:
        leaver, stayer = [await Asker.connect(tmp_path / "s") for _ in range(2)]
        leaver.say(Message(Word.NEED, content=TWO, block=0))
        await settled(lambda: server.needs == 1)
        stayer.say(Message(Word.NEED, content=TWO, block=0))
        await settled(lambda: server.needs == 2)
        await leaver.close()
        supplier.go.set()
        assert await stayer.hear() == Message(Word.HAVE, content=TWO, block=0)
        assert supplier.asked == [("bring", VERSION, 3)]
        await stayer.close()


async def test_damage_is_forgotten_before_it_is_brought_anew(tmp_path):
    supplier = Recorder()
    supplier.go.set()
    async with serving(tmp_path / "s", supplier):
        asker = await Asker.connect(tmp_path / "s")
        asker.say(Message(Word.DAMAGED, content=ONE, block=1))
        assert await asker.hear() == Message(Word.HAVE, content=ONE, block=1)
        assert supplier.asked == [("damaged", VERSION, 1), ("bring", VERSION, 1)]
        await asker.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError(errno.ECONNREFUSED, "refused"), errno.EIO),
        (FormatError("damaged"), errno.EIO),
        (ZeroDivisionError("a bug"), errno.EIO),
    ],
)
async def test_whatever_a_supplier_raises_the_reader_gets_an_errno(tmp_path, error, expected):
    supplier = Recorder()
    supplier.go.set()
    supplier.error = error
    async with serving(tmp_path / "s", supplier):
        asker = await Asker.connect(tmp_path / "s")
        asker.say(Message(Word.NEED, content=ONE, block=0))
        assert await asker.hear() == Message(Word.FAILED, content=ONE, block=0, error=expected)
        asker.say(Message(Word.NEED, content=ONE, block=3))
        assert (await asker.hear()).error == errno.EINVAL
        asker.say(Message(Word.NEED, content=999, block=0))
        assert (await asker.hear()).error == errno.EINVAL
        await asker.close()


async def test_reads_fail_at_once_while_the_view_image_is_missing(tmp_path):
    image = tmp_path / "image"
    supplier = Recorder()
    supplier.go.set()
    async with serve_views(tmp_path / "s", lambda _: image, supplier):
        asker = await Asker.connect(tmp_path / "s")
        asker.say(Message(Word.NEED, content=ONE, block=1))
        assert await asker.hear() == Message(Word.FAILED, content=ONE, block=1, error=errno.EIO)
        assert supplier.asked == []
        image_in(tmp_path)
        asker.say(Message(Word.NEED, content=ONE, block=1))
        assert (await asker.hear()).word is Word.HAVE
        await asker.close()


async def test_the_reads_of_a_view_of_an_unknown_bubble_fail(tmp_path):
    async with serving(tmp_path / "s", Recorder()):
        asker = await Asker.connect(tmp_path / "s", b"x" * 32)
        asker.say(Message(Word.NEED))
        assert await asker.hear() == Message(Word.FAILED, error=errno.EIO)
        await asker.close()


async def test_a_view_that_does_not_begin_with_a_hello_is_turned_away(tmp_path):
    async with serving(tmp_path / "s", Recorder()):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(encode_message(Message(Word.NEED)))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_ends_leaves_no_socket_and_hangs_up(tmp_path):
    supplier = Recorder()
    (tmp_path / "s").write_text("left behind")
    async with serving(tmp_path / "s", supplier) as server:
        asker = await Asker.connect(tmp_path / "s")
        asker.say(Message(Word.NEED, content=ONE, block=0))
        await settled(lambda: server.needs == 1)
    assert not (tmp_path / "s").exists()
    assert await asyncio.wait_for(asker.reader.read(), 5) == b""
    await asker.close()


# The view's own end


async def test_a_view_hears_at_once_what_is_coming_also_what_was_said_before_it_began(tmp_path):
    async with serving(tmp_path / "s", Recorder()) as server:
        server.expect(BUBBLE, [ONE])
        server.expect(b"another bubble's" * 2, [5])
        server.expect(BUBBLE, [TWO])
        asker = await Asker.connect(tmp_path / "s")
        heard = [await asker.hear(), await asker.hear()]
        assert heard == [Message(Word.SOON, content=ONE), Message(Word.SOON, content=TWO)]
        server.expect(BUBBLE, [TWO, ONE])
        heard = [await asker.hear(), await asker.hear()]
        assert heard == [Message(Word.SOON, content=TWO), Message(Word.SOON, content=ONE)]
        server.tell(BUBBLE, [(ONE, 0, 1)])
        assert await asker.hear() == Message(Word.CAME, content=ONE, pages=1)
        await asker.close()


def test_a_line_meets_a_supplier_that_listens_and_starts_none(tmp_path):
    started = tmp_path / "started"
    line = SupplyLine(tmp_path / "s", BUBBLE, ("touch", str(started)))
    line.meet(0.0)
    assert line.descriptor is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        line.meet(0.0)
        door, _ = listener.accept()
        with door:
            assert decode_message(door.recv(SIZE, socket.MSG_WAITALL)) == Message(Word.HELLO, digest=BUBBLE)
    line.close()
    time.sleep(0.1)
    assert not started.exists()


def test_needs_are_said_again_to_the_next_supplier(tmp_path):
    line = SupplyLine(tmp_path / "s", BUBBLE, ())
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as listener:
            (tmp_path / "s").unlink(missing_ok=True)
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            line.need(ONE, 1, 1, time.monotonic())
            line.tick(time.monotonic() + 1)
            door, _ = listener.accept()
            with door:
                hello = decode_message(door.recv(SIZE, socket.MSG_WAITALL))
                assert hello == Message(Word.HELLO, digest=BUBBLE)
                assert decode_message(door.recv(SIZE, socket.MSG_WAITALL)) == Message(
                    Word.NEED, content=ONE, block=1, pages=1
                )
        assert list(line.receive(time.monotonic())) == []
        assert line.descriptor is None
    line.close()


def test_a_line_without_any_supplier_gives_up_in_the_end(tmp_path):
    line = SupplyLine(tmp_path / "nobody", BUBBLE, ())
    line.need(ONE, 1, 1, 1000.0)
    told: list[Message] = []
    now = 1000.0
    while not told and now < 1000.0 + 2 * GIVE_UP_AFTER:
        wait = line.wait(now)
        assert wait is not None
        now += max(wait, 0.001)
        told = line.tick(now)
    assert told == [Message(Word.FAILED, content=ONE, block=1, error=errno.EIO)]
    assert GIVE_UP_AFTER <= now - 1000.0 < GIVE_UP_AFTER + 3
    assert line.wait(now) is None


def test_after_giving_up_a_line_fails_at_once_for_a_while_and_then_tries_again(tmp_path):
    line = SupplyLine(tmp_path / "nobody", BUBBLE, ())
    line.need(ONE, 1, 1, 1000.0)
    line.tick(1000.0)
    now = 1000.0 + GIVE_UP_AFTER
    assert len(line.tick(now)) == 1
    for block in (1, 2):  # the kernel's second try, the application's next
        line.need(ONE, block, 1, now + 1)
        assert line.wait(now + 1) == 0
        assert line.tick(now + 1) == [Message(Word.FAILED, content=ONE, block=block, error=errno.EIO)]
    now += FAIL_FAST
    line.need(ONE, 1, 1, now)
    assert line.wait(now) != 0
    assert line.tick(now) == []
    line.close()


def test_a_supplier_that_hangs_up_again_and_again_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        line = SupplyLine(tmp_path / "s", BUBBLE, ())
        now = 1000.0
        line.need(ONE, 1, 1, now)
        told: list[Message] = []
        connections = 0
        while not told and now < 1000.0 + 2 * GIVE_UP_AFTER:
            if line.descriptor is not None:
                listener.accept()[0].close()
                connections += 1
                assert list(line.receive(now)) == []
            wait = line.wait(now)
            assert wait is not None
            now += max(wait, 0.001)
            told = line.tick(now)
        assert [message.word for message in told] == [Word.FAILED]
        assert now - 1000.0 < GIVE_UP_AFTER + 3
        assert connections < 50
        line.close()


def test_a_supplier_that_says_nothing_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        line = SupplyLine(tmp_path / "s", BUBBLE, ())
        line.need(ONE, 1, 1, 1000.0)
        assert line.tick(1000.0 + SILENCE_MAX - 1) == []
        assert line.wait(1000.0 + SILENCE_MAX - 1) == 1
        assert [message.word for message in line.tick(1000.0 + SILENCE_MAX)] == [Word.FAILED]
        assert line.descriptor is None


def test_what_was_not_asked_for_is_not_believed(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        line = SupplyLine(tmp_path / "s", BUBBLE, ())
        line.need(ONE, 1, 1, 0.0)
        door, _ = listener.accept()
        with door:
            door.send(encode_message(Message(Word.HAVE, content=5, block=5)))
            door.send(encode_message(Message(Word.HAVE, content=ONE, block=1, pages=1)))
            door.send(encode_message(Message(Word.CAME, content=7, block=7, pages=3)))
            time.sleep(0.05)
            assert list(line.receive(0.0)) == [
                Message(Word.HAVE, content=ONE, block=1, pages=1),
                Message(Word.CAME, content=7, block=7, pages=3),
            ], "what came unasked is told on: the view looks for itself"
            door.send(encode_message(Message(Word.SOON, content=TWO)))
            time.sleep(0.05)
            assert list(line.receive(0.0)) == [Message(Word.SOON, content=TWO)]
            door.send(b"nonsense" * 6)
            time.sleep(0.05)
            assert list(line.receive(0.0)) == []
            assert line.descriptor is None
