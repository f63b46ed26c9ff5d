"""`python -m bubble.view`: the process that answers one bubble's file system. One thread, no network.

It reads requests from /dev/fuse, answers from the view image and the cache, and asks the supplier for
blocks that are missing; a read that must wait is kept and answered when its blocks have arrived. It ends
when the file system is unmounted, and takes the bubble's runtime folder with it.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from bubble import fuse, runtimefolder
from bubble.acquaintance import introduce
from bubble.cachefile import CacheFolder
from bubble.contentstore import ContentStore, Lack
from bubble.fuse import Opcode
from bubble.holder import hold
from bubble.launchorder import Run, read_order
from bubble.namesahead import NamesAhead, Place
from bubble.pushline import PushLine, start
from bubble.supplyline import SupplyLine
from bubble.supplymessage import Message, Word
from bubble.trace import Trace
from bubble.viewfiles import ViewFiles
from bubble.viewimage import ViewImage, load
from packageformat.errors import MillstreamError
from packageformat.limits import BLOCK_SIZE, PAGES_A_BLOCK

ATTEMPTS_MAX = 3
"""How often a supplier may say HAVE for a block that then is not there or damaged."""

ALL_PAGES = (1 << PAGES_A_BLOCK) - 1

INTERRUPT_INTERVAL = 0.25
"""Seconds between two looks at whether an interrupted reader is being killed."""

_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class ViewTask:
    """What the launching process tells a view, as JSON on its standard input."""

    bubble_id: str  # hex
    image: str
    cache: str
    supplier: str
    supplier_restart: list[str]
    folder: str  # removed at the end
    figures: str  # file for the figures of this run, written at the end
    door: int  # descriptor of the socket over which /dev/fuse's descriptor comes
    streamed: bool = False  # not everything is in the cache: no read-ahead of the kernel's, pages are pushed
    orders: list[str] = field(default_factory=list)  # files with what a launch wants, in order (launchorder)
    kept: list[int] = field(default_factory=list)  # descriptors to keep open to the end: the upper's lock


@dataclass(slots=True)
class _Read:
    """A read that waits for blocks."""

    unique: int
    thread: int  # host's id of the reading thread, 0 if not visible
    content: int
    offset: int
    size: int
    blocks: dict[int, int]  # and the pages of each that it waits for
    interrupted: bool = False


class View:
    """The answering loop. Everything it does not know comes by descriptor, socket or cache file."""

    def __init__(
        self,
        image: ViewImage,
        store: ContentStore,
        line: SupplyLine,
        device: int,
        uid: int,
        gid: int,
        pushing: PushLine | None = None,
        introduce: Callable[[Iterable[Place]], bool] = lambda _: False,
    ) -> None:
        self._image = image
        self._store = store
        self._line = line
        self._device = device
        self._trace = Trace.from_environment()
        self._reads: dict[int, _Read] = {}
        self._attempts: dict[tuple[int, int], int] = {}
        self._pushing = pushing
        self._introduce = introduce
        self._ahead = NamesAhead(image)
        self._files = ViewFiles(image, uid, gid, self._ahead, None if pushing is None else pushing.met)
        self.requests = [0] * 64
        self.read_bytes = 0
        self.waits = 0  # reads that had to wait
        self.damages = 0
        self.failures = 0
        self.died = 0  # views of this file system that have died before this one

    def run(self) -> None:
        """Answer until the file system is unmounted."""
        device = self._device
        line = self._line
        poll = select.poll()
        poll.register(device, select.POLLIN)
        watched: tuple[int, int] | None = None
        telling: tuple[int, int] | None = None
        buffer = bytearray(fuse.BUFFER_SIZE)
        buffers = [buffer]
        readv = os.readv
        while True:
            if self._pushing is not None:  # first: what it lets go of may be the line's descriptor by now
                self._pushing.flush()
                descriptor = self._pushing.descriptor
                telling = _watch(poll, telling, None if descriptor is None else (descriptor, select.POLLOUT))
            descriptor = line.descriptor
            events = select.POLLIN | (select.POLLOUT if line.wants_to_write else 0)
            watched = _watch(poll, watched, None if descriptor is None else (descriptor, events))
            for number, events in poll.poll(self._patience()):
                if number == device:
                    try:
                        size = readv(device, buffers)
                    except OSError as error:
                        if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                            continue
                        if error.errno != errno.ENODEV:
                            log(f"/dev/fuse failed: {error}")
                        return
                    if not self._answer(memoryview(buffer)[:size]):
                        return
                elif telling is None or number != telling[0]:
                    if events & select.POLLOUT:
                        line.flush(time.monotonic())
                    if events & ~select.POLLOUT:
                        self._arrived(line.receive(time.monotonic()))
            if self._reads:
                self._arrived(line.tick(time.monotonic()))
                self._look_at_interrupted()

    def foresee(self, order: Iterable[Run]) -> None:
        """Have the kernel know the files that the order of a launch names."""
        self._meet(dict.fromkeys(content for content, _, _ in order))

    def figures(self) -> dict[str, int | dict[str, int]]:
        """Return what was done so far."""
        names = {int(opcode): opcode.name for opcode in Opcode}
        return {
            "requests": {
                names.get(number, str(number)): count for number, count in enumerate(self.requests) if count
            },
            "read_bytes": self.read_bytes,
            "waits": self.waits,
            "damages": self.damages,
            "failures": self.failures,
            "died": self.died,
            "pages_pushed": self._pushing.pages if self._pushing is not None else 0,
        }

    def _patience(self) -> float | None:
        """Return for how many milliseconds nothing need be done."""
        if not self._reads:
            return None
        wait = self._line.wait(time.monotonic())
        if any(read.interrupted for read in self._reads.values()):
            wait = INTERRUPT_INTERVAL if wait is None else min(wait, INTERRUPT_INTERVAL)
        return None if wait is None else wait * 1000 + 1

    def _answer(self, request: memoryview) -> bool:
        """Answer one request. Returns False if there will be no more."""
        _, opcode, unique, node, _, _, thread, _, _ = fuse.IN.unpack_from(request)
        self.requests[opcode & 63] += 1
        try:
            if opcode == Opcode.READ:
                answer = self._read(request, unique, node, thread)
            elif opcode == Opcode.INTERRUPT:
                answer = self._interrupt(request)
            elif opcode == Opcode.DESTROY:
                self._reply(fuse.reply(unique))
                return False
            else:
                answer = self._files.answer(opcode, unique, node, request[fuse.IN.size :])
        except OSError as error:
            log(f"{_name(opcode)} of node {node} fails: {error}")
            answer = fuse.failure(unique, error.errno or errno.EIO)
        except MillstreamError as error:
            log(f"{_name(opcode)} of node {node} fails: {error.line()}")
            answer = fuse.failure(unique, errno.EIO)
        except Exception:  # noqa: BLE001 - an unanswered request leaves its caller deaf to signals
            log(f"a bug in {_name(opcode)} of node {node}: {traceback.format_exc().strip()!r}")
            answer = fuse.failure(unique, errno.EIO)
        if answer:
            self._reply(answer)
        return True

    def _reply(self, answer: bytes) -> None:
        try:
            os.write(self._device, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the reader was killed meanwhile
                log(f"a reply was refused: {error}")

    def _read(self, request: memoryview, unique: int, node: int, thread: int) -> bytes:
        _, offset, size = fuse.READ_IN.unpack_from(request, fuse.IN.size)
        content = self._files.content(node)
        size = min(size, max(0, self._files.size(node) - offset))
        if content is None or not size:
            return fuse.reply(unique)
        if self._trace is not None:
            self._trace.note(content, offset, size)
        if self._pushing is not None:
            self._pushing.read(content, offset, size)
            self._pushing.flush()  # while this is answered, what lies around it is pushed
        return self._serve(unique, content, offset, size, thread)

    def _serve(self, unique: int, content: int, offset: int, size: int, thread: int) -> bytes:
        """Return the reply to a read, or nothing if it has to wait."""
        store = self._store
        lacks = store.lacks(content, offset, size)
        if not lacks:
            data = store.read(content, offset, size)
            if len(data) == size:
                self.read_bytes += size
                if self._attempts:
                    for block in range(offset // BLOCK_SIZE, (offset + size - 1) // BLOCK_SIZE + 1):
                        self._attempts.pop((content, block), None)
                return fuse.reply(unique, data)
            blocks = range(offset // BLOCK_SIZE, (offset + size - 1) // BLOCK_SIZE + 1)
            for block in blocks:
                self._distrust(content, block)
            lacks = [(block, ALL_PAGES, Lack.DAMAGED) for block in blocks]
        now = time.monotonic()
        for block, _, lack in lacks:
            attempts = self._attempts.get((content, block), 0)
            if attempts >= ATTEMPTS_MAX:
                self._attempts.pop((content, block), None)
                log(f"block {block} of {self._content_name(content)} stays {lack.value}: its readers get EIO")
                self.failures += 1
                return fuse.failure(unique, errno.EIO)
        for block, pages, lack in lacks:
            if lack is Lack.DAMAGED:
                self.damages += 1
                self._distrust(content, block)
                log(
                    f"block {block} of {self._content_name(content)} is damaged in the cache: asked for again"
                )
            self._line.need(content, block, pages, now, damaged=lack is Lack.DAMAGED)
        self.waits += 1
        self._reads[unique] = _Read(
            unique, thread, content, offset, size, {block: pages for block, pages, _ in lacks}
        )
        return b""

    def _distrust(self, content: int, block: int) -> None:
        self._store.distrust(content, block)
        if self._pushing is not None:
            self._pushing.distrust(content, block)

    def _arrived(self, messages: Iterable[Message]) -> None:
        """Go on with the reads that waited for what the supplier speaks of."""
        came: dict[int, dict[int, int]] = {}
        soon: list[int] = []
        for message in messages:
            content, block = message.content, message.block
            if message.word is Word.SOON:
                soon.append(content)
                continue
            self._store.refresh(content)
            if message.word is Word.HAVE:
                if self._pushing is not None:
                    self._pushing.changed(content)
                key = (content, block)
                self._attempts[key] = self._attempts.get(key, 0) + 1
            elif message.word is Word.FAILED:
                self.failures += 1
                log(
                    f"block {block} of {self._content_name(content)} cannot be had: "
                    f"{os.strerror(message.error)}"
                )
            for read in tuple(self._reads.values()):
                if read.content != content or block not in read.blocks:
                    continue
                if message.word is Word.FAILED:
                    del self._reads[read.unique]
                    self._reply(fuse.failure(read.unique, message.error or errno.EIO))
                    continue
                read.blocks[block] &= ~message.pages
                if not read.blocks[block]:
                    del read.blocks[block]
                if not read.blocks:
                    del self._reads[read.unique]
                    self._go_on(read)
            if message.word is Word.CAME:
                blocks = came.setdefault(content, {})
                blocks[block] = blocks.get(block, 0) | message.pages
        if self._pushing is not None:
            if soon:
                self._expect(soon)  # first: what came together with it is of these files
            for content, blocks in came.items():
                self._pushing.came(content, blocks)

    def _expect(self, contents: Iterable[int]) -> None:
        """Have the kernel know files of which pages are on their way, so that they can be pushed."""
        assert self._pushing is not None
        self._pushing.expect(self._meet(contents))

    def _meet(self, contents: Iterable[int]) -> list[int]:
        """Have files named to the kernel; return those that there are."""
        known = []
        for content in contents:
            try:
                self._image.content(content)
                known.append(content)
            except IndexError:
                log(f"somebody speaks of a file {content} that there is not")
        try:
            places = self._ahead.want(known)
        except Exception:  # noqa: BLE001 - it is a hint, and applications wait for this process
            log(f"a bug in naming files ahead: {traceback.format_exc().strip()!r}")
            places = []
        if places and not self._introduce(places):
            log("the keeper does not look at files ahead: they will be read instead")
        return known

    def _go_on(self, read: _Read) -> None:
        try:
            answer = self._serve(read.unique, read.content, read.offset, read.size, read.thread)
        except OSError as error:
            log(f"READ of {self._content_name(read.content)} fails: {error}")
            answer = fuse.failure(read.unique, errno.EIO)
        except Exception:  # noqa: BLE001 - the reader is owed a reply
            log(f"a bug in READ: {traceback.format_exc().strip()!r}")
            answer = fuse.failure(read.unique, errno.EIO)
        if answer:
            self._reply(answer)
            if self._pushing is not None:
                self._pushing.read(read.content, read.offset, read.size)
        elif read.interrupted:
            self._reads[read.unique].interrupted = True

    def _interrupt(self, request: memoryview) -> bytes:
        """Note that a signal came for a reader who waits. There is no reply to this request itself."""
        (unique,) = fuse.INTERRUPT_IN.unpack_from(request, fuse.IN.size)
        read = self._reads.get(unique)
        if read is not None:
            read.interrupted = True
            self._look_at_interrupted()
        return b""

    def _look_at_interrupted(self) -> None:
        """Let readers go that are being killed.

        Others keep waiting: EINTR for a page fault would be SIGBUS, and a timer's signal is no reason for
        that. The kernel tells of the first signal only, so we look again until the read is answered.
        """
        for read in [read for read in self._reads.values() if read.interrupted]:
            if _is_dying(read.thread):
                del self._reads[read.unique]
                self._reply(fuse.failure(read.unique, errno.EINTR))

    def _content_name(self, content: int) -> str:
        """Return a name for the log: the first path that has this content, and its id."""
        found = self._image.content(content)
        name = self._image.content_id(found) or b""
        path = os.fsdecode(self._image.path(content))
        return f"/{path} ({name.hex()[:16] or 'name not known yet'}, package {found.layer.hex()[:16]})"


def _watch(
    poll: select.poll, before: tuple[int, int] | None, wanted: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Have `poll` watch a descriptor for events instead of what it watched in its place; return it."""
    if wanted != before:
        if before is not None:
            poll.unregister(before[0])
        if wanted is not None:
            poll.register(*wanted)
    return wanted


def _is_dying(thread: int) -> bool:
    """Return whether a thread has SIGKILL pending (as every fatal signal makes it), or is gone."""
    if not thread:
        return True
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except OSError:
        return True
    return any(
        int(line.split()[1], 16) & _SIGKILL_BIT
        for line in status.splitlines()
        if line.startswith(("SigPnd:", "ShdPnd:"))
    )


def log(text: str) -> None:
    """Write one line to the log, which is standard error."""
    stamp = time.strftime("%H:%M:%S")
    print(f"{stamp} view {os.getpid()}: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"request {opcode}"


def _receive_device(door: socket.socket) -> int | None:
    """Return the descriptor of /dev/fuse that the keeper sends, or None if it went away."""
    data, controls, _, _ = door.recvmsg(1, socket.CMSG_SPACE(4))
    if not data or not controls:
        return None
    return int(struct.unpack("i", controls[0][2])[0])


def _await_init(device: int, readahead: int | None) -> fuse.Init | None:
    """Answer INIT and return what the kernel offers, None if the mount went away before."""
    select.select([device], [], [])
    try:
        request = os.read(device, fuse.BUFFER_SIZE)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, opcode, unique, *_ = fuse.IN.unpack_from(request)
    if opcode != Opcode.INIT:
        raise ValueError(f"the kernel began with {_name(opcode)}")
    init = fuse.Init.decode(request[fuse.IN.size :])
    os.write(device, fuse.reply(unique, init.reply(readahead=readahead)))
    return init


def _raise_descriptor_limit() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit - 64


def serve(task: ViewTask) -> int:
    """Hold the file system of one bubble and have it served, to its end."""
    image = load(Path(task.image).read_bytes())
    gc.collect()
    gc.freeze()
    gc.disable()
    door = socket.socket(fileno=task.door)  # open to the end, here and in each view: the keeper listens
    device = _receive_device(door)
    if device is None:
        return 1
    readahead = int(os.environ["MILLSTREAM_READAHEAD"]) if "MILLSTREAM_READAHEAD" in os.environ else None
    pushes = task.streamed and readahead is None
    init = _await_init(device, 0 if pushes else readahead)
    if init is None:
        return 0
    return hold(
        device,
        resends=bool(init.features & fuse.Feature.HAS_RESEND) and "MILLSTREAM_NO_RESEND" not in os.environ,
        serve=lambda died: _serve(task, image, device, door, pushes, died),
        log=log,
    )


def _serve(
    task: ViewTask, image: ViewImage, device: int, door: socket.socket, pushes: bool, died: int
) -> int:
    """Be the view of one bubble, to its end."""
    line = SupplyLine(Path(task.supplier), bytes.fromhex(task.bubble_id), task.supplier_restart)
    pushing: PushLine | None = None
    try:
        most = _raise_descriptor_limit()

        def make_store() -> ContentStore:
            return ContentStore(image, CacheFolder(Path(task.cache)), most)

        order = _order_of(task) if pushes and not died else []  # from another view the kernel has it
        if pushes:
            pushing = start(device, make_store, [door.fileno(), *task.kept], log, order)
        store = make_store()
        view = View(
            image,
            store,
            line,
            device,
            os.getuid(),
            os.getgid(),
            pushing,
            lambda places: introduce(door, places),
        )
        view.died = died
        if pushes:
            line.meet(time.monotonic())
        if pushing is not None and order:
            view.foresee(order)
        signal.signal(signal.SIGUSR1, lambda *_: _write_figures(view, task))
        view.run()
    except (MillstreamError, OSError) as error:
        log(f"ends: {error}")
        return 1
    except Exception:  # noqa: BLE001 - the last chance to say why
        log(f"ends by a bug: {traceback.format_exc().strip()!r}")
        return 1
    _write_figures(view, task)
    if pushing is not None:
        pushing.close()
    line.close()
    os.close(device)
    runtimefolder.remove(Path(task.folder))  # should the holder be gone
    return 0


def _order_of(task: ViewTask) -> list[Run]:
    """Return what a launch wants, as far as that is known; what is damaged is not."""
    order: list[Run] = []
    for place in task.orders:
        try:
            order += read_order(Path(place))
        except FileNotFoundError:
            pass  # removed meanwhile
        except (OSError, MillstreamError) as error:
            log(f"{place} is of no use: {error}")
    return order


def _write_figures(view: View, task: ViewTask) -> None:
    place = Path(task.figures)
    try:
        scratch = place.with_suffix(".new")
        scratch.write_text(json.dumps(view.figures()) + "\n")
        scratch.replace(place)
    except OSError as error:
        log(f"the figures cannot be written: {error}")


def _stay(number: int, frame: FrameType | None) -> None:
    """Ignore a signal: the view ends with the mount, never before. (A supplier must not inherit that.)"""


def main(told: dict[str, Any] | None = None) -> int:
    """Serve, clean up. `told`, or what standard input says, is the task."""
    task = ViewTask(**(json.load(sys.stdin) if told is None else told))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _stay)
    try:
        return serve(task)
    except (MillstreamError, OSError) as error:
        log(f"ends: {error}")
        return 1
    except Exception:  # noqa: BLE001 - the last chance to say why
        log(f"ends by a bug: {traceback.format_exc().strip()!r}")
        return 1
    finally:
        runtimefolder.remove(Path(task.folder))


if __name__ == "__main__":
    sys.exit(main())
