"""The view's end of the supplier's socket: never blocks, survives the supplier, gives up in the end."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bubble.supplymessage import SIZE, Message, Word, decode_message, encode_message
from packageformat.errors import FormatError

BACKOFF_FIRST = 0.02
BACKOFF_MAX = 1.0
BACKOFF_STARTING = 0.05
"""Seconds at most between two attempts to connect while a supplier that was just started may be near."""

RESTART_PATIENCE = 5.0
"""Seconds that a supplier may take to listen before another is started beside it."""

RESTART_FIRST = 0.2
"""Seconds at least between two starts of suppliers; doubled, up to RESTART_PATIENCE, each time that one has
ended without having listened."""

GIVE_UP_AFTER = 30.0
"""Seconds without an answer, and without a connection that lasts, after which waiting readers get EIO."""

FAIL_FAST = 5.0
"""Seconds after giving up in which what is asked for fails at once: the kernel repeats a failed read-ahead as
single reads, and an application its own, each of which would wait as long again."""

SILENCE_MAX = 120.0
"""Seconds that a connected supplier may say nothing at all while readers wait."""

_RECEIVE = 1 << 16

_UNASKED = (Word.CAME, Word.SOON)
"""What a supplier says by itself."""


class SupplyLine:
    """Asks the supplier for blocks. Connects when something is needed, again and again while it is.

    Time is monotonic seconds and is passed in.
    """

    def __init__(self, place: Path, bubble_id: bytes, restart: Sequence[str]) -> None:
        self._place = place
        self._bubble_id = bubble_id
        self._restart = tuple(restart)
        self._socket: socket.socket | None = None
        self._inward = bytearray()
        self._outward = bytearray()
        self._needs: dict[tuple[int, int], Message] = {}
        self._retry_at = 0.0
        self._backoff = BACKOFF_FIRST
        self._quiet_since = 0.0  # the last answer, connection, or first need
        self._alone_since: float | None = None  # the first loss or failure to connect since the last answer
        self._failing_until = -1.0
        self._restarted_at = -RESTART_PATIENCE
        self._restart_pause = RESTART_FIRST
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def descriptor(self) -> int | None:
        """The descriptor to poll, None when there is no connection."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether to poll for writing as well."""
        return bool(self._outward)

    @property
    def needs(self) -> int:
        """How many blocks are asked for and not answered."""
        return len(self._needs)

    def need(self, content: int, block: int, pages: int, now: float, *, damaged: bool = False) -> None:
        """Ask for pages of a block, unless that is done already."""
        key = (content, block)
        before = self._needs.get(key)
        if before is not None:
            if not pages & ~before.pages:
                return
            pages |= before.pages
        if not self._needs:
            self._quiet_since = now
            self._alone_since = None
        message = Message(Word.DAMAGED if damaged else Word.NEED, content=content, block=block, pages=pages)
        self._needs[key] = message
        if now < self._failing_until:
            return
        if self._socket is not None:
            self._send(encode_message(message), now)
        elif now >= self._retry_at and not self._connect(now):
            self._postpone(now)

    def meet(self, now: float) -> None:
        """Connect if a supplier listens: it may have things to tell before anything is needed."""
        if self._socket is None:
            self._connect(now, start=False)

    def wait(self, now: float) -> float | None:
        """Return how many seconds `tick` may be left alone; None: for ever."""
        if not self._needs:
            return None
        if now < self._failing_until:
            return 0.0
        due = self._retry_at if self._socket is None else self._quiet_since + SILENCE_MAX
        return max(0.0, due - now)

    def tick(self, now: float) -> list[Message]:
        """Reconnect if that is due. Return a FAILED for each need that is given up."""
        self._children = [child for child in self._children if child.poll() is None]
        if not self._needs:
            return []
        if now < self._failing_until:
            return self._give_up(self._failing_until)
        if self._socket is not None:
            return self._give_up(now + FAIL_FAST) if now - self._quiet_since >= SILENCE_MAX else []
        if self._alone_since is not None and now - self._alone_since >= GIVE_UP_AFTER:
            return self._give_up(now + FAIL_FAST)
        if now >= self._retry_at and not self._connect(now):
            self._postpone(now)
        return []

    def receive(self, now: float) -> Iterator[Message]:
        """Yield what the supplier says, after its socket polled readable."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            _log(f"the supplier's socket failed: {error}")
            data = b""
        if not data:
            self._lose(now)
            return
        self._inward += data
        while len(self._inward) >= SIZE:
            try:
                message = decode_message(bytes(self._inward[:SIZE]))
            except FormatError as error:
                _log(f"the supplier talks nonsense: {error}")
                self._lose(now)
                return
            del self._inward[:SIZE]
            if message.word not in (Word.HAVE, Word.FAILED, *_UNASKED):
                continue
            self._quiet_since = now
            key = (message.content, message.block)
            need = self._needs.get(key)
            if need is None and message.word not in _UNASKED:
                continue
            if need is not None and (message.word is Word.FAILED or not need.pages & ~message.pages):
                del self._needs[key]
            self._alone_since = None
            self._backoff = BACKOFF_FIRST
            yield message

    def flush(self, now: float) -> None:
        """Send what could not be sent before, after the socket polled writable."""
        self._send(b"", now)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._inward.clear()
        self._outward.clear()

    def _connect(self, now: float, *, start: bool = True) -> bool:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            door.connect(str(self._place))
        except OSError as error:
            door.close()
            if start:
                self._start_supplier(now, error)
            return False
        self._socket = door
        self._quiet_since = now
        self._restart_pause = RESTART_FIRST
        hello = encode_message(Message(Word.HELLO, digest=self._bubble_id))
        self._send(hello + b"".join(map(encode_message, self._needs.values())), now)
        return True

    def _start_supplier(self, now: float, error: OSError) -> None:
        if not self._restart or now - self._restarted_at < self._pause():
            return
        self._restart_pause = min(RESTART_PATIENCE, 2 * self._restart_pause)
        self._restarted_at = now
        _log(f"no supplier ({error.strerror}): starting it")
        try:
            child = subprocess.Popen(
                self._restart,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        except OSError as failed:
            _log(f"the supplier cannot be started: {failed}")
        else:
            self._children.append(child)

    def _pause(self) -> float:
        """Return how long a start must lie behind for the next: one that still runs may listen soon."""
        self._children = [child for child in self._children if child.poll() is None]
        return RESTART_PATIENCE if self._children else self._restart_pause

    def _send(self, data: bytes, now: float) -> None:
        self._outward += data
        if self._socket is None or not self._outward:
            return
        try:
            sent = self._socket.send(self._outward)
        except BlockingIOError:
            return
        except OSError:
            self._lose(now)
            return
        del self._outward[:sent]

    def _lose(self, now: float) -> None:
        if self._needs:
            _log(f"the supplier is gone with {len(self._needs)} blocks on their way")
        self.close()
        self._postpone(now)

    def _postpone(self, now: float) -> None:
        """Wait before the next attempt to connect, longer each time until a supplier has answered."""
        if self._alone_since is None:
            self._alone_since = now
        self._retry_at = now + self._backoff
        starting = now - self._restarted_at < RESTART_PATIENCE
        self._backoff = min(BACKOFF_STARTING if starting else BACKOFF_MAX, self._backoff * 2)

    def _give_up(self, failing_until: float) -> list[Message]:
        """Hang up and fail everything that is asked for, until then and now."""
        self._failing_until = failing_until
        needs = list(self._needs)
        _log(f"no answer from a supplier: {len(needs)} blocks are given up")
        self._needs.clear()
        self._alone_since = None
        self.close()
        return [Message(Word.FAILED, content, block, error=errno.EIO) for content, block in needs]


def _log(text: str) -> None:
    print(f"view {os.getpid()}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log
