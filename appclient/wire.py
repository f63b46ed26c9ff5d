"""What commands and the agent say to each other: framed JSON over the user's own socket. No I/O here.

A frame is four bytes of length (little endian) and one JSON object with a "kind". A command sends one
message; the agent answers with any number of "progress" and "working" (a sign of life) messages and then one
"done" or "failed".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from appclient.errors import AgentError, ReportedError
from packageformat.errors import MillstreamError

MESSAGE_MAX = 8 << 20
"""Bytes of one message: a publishing list of the greatest length fits."""

_LENGTH = struct.Struct("<I")
LENGTH_SIZE = _LENGTH.size


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Fields are taken by type; one that is missing or of another type is an AgentError."""

    kind: str
    fields: Mapping[str, object] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field of text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def octets(self, name: str) -> bytes:
        """Return a field of bytes, sent as hexadecimal digits."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError as error:
            raise self._wrong(name) from error

    def number(self, name: str) -> int:
        """Return a field with a whole number."""
        value = self.fields.get(name)
        if type(value) is not int:
            raise self._wrong(name)
        return value

    def flag(self, name: str) -> bool:
        """Return a field that is true or false; false if it is missing."""
        return self.fields.get(name) is True

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field with a list of texts."""
        value = self.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name)
        return tuple(value)

    def record(self, name: str) -> dict[str, object]:
        """Return a field with an object, for printing."""
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name)
        return value

    def records(self, name: str) -> list[dict[str, object]]:
        """Return a field with a list of objects, for printing."""
        value = self.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name)
        return value

    def _wrong(self, name: str) -> AgentError:
        return AgentError(
            f"a message {self.kind!r} of the agent without {name!r}",
            hint="another version of appclient runs as the agent: run 'appclient stop' and try again",
        )


def encode(message: Message) -> bytes:
    """Return `message` as a frame."""
    body = json.dumps({"kind": message.kind, **message.fields}, separators=(",", ":")).encode()
    if len(body) > MESSAGE_MAX:
        raise ValueError(f"a message of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


def length_of(prefix: bytes) -> int:
    """Return how many bytes follow a frame's first four.

    Raises:
        AgentError: more than a message may have.
    """
    (length,) = _LENGTH.unpack(prefix)
    if not 0 < length <= MESSAGE_MAX:
        raise AgentError(f"a message of {length} bytes, allowed up to {MESSAGE_MAX}")
    return int(length)


def decode(body: bytes) -> Message:
    """Return the message of a frame's body.

    Raises:
        AgentError: it is not one.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AgentError("a message of the agent that is not one") from error
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise AgentError("a message of the agent that is not one")
    return Message(value.pop("kind"), value)


def failure(error: MillstreamError) -> Message:
    """Return `error` as the last message of an answer."""
    return Message("failed", {"message": str(error), "hint": error.hint, "exit_code": error.exit_code})


def failure_of(message: Message) -> ReportedError:
    """Return the error that `failure` told."""
    return ReportedError(
        message.text("message"), hint=message.text("hint"), exit_code=message.number("exit_code")
    )
