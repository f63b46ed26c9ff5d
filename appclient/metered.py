"""Whether the network link is metered, as NetworkManager says over the system bus. The one door to D-Bus.

One property of one service is asked for, so the protocol is spoken here: authentication by the user's id,
Hello, Properties.Get. No bus, no NetworkManager, or an answer that is not one: not known, which counts as no.
Source: D-Bus specification, *Message Protocol*; NetworkManager's NMMetered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
ASK_SECONDS = 2.0

_ANSWER_MAX = 1 << 20
_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8
_YES, _GUESS_YES = 1, 3  # NM_METERED_YES, NM_METERED_GUESS_YES
_BUS = "org.freedesktop.DBus"
_MANAGER = "org.freedesktop.NetworkManager"


async def is_metered(bus: Path = SYSTEM_BUS) -> bool:
    """Return whether the link that carries the default route is metered, if anybody knows."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await _ask(bus) in (_YES, _GUESS_YES)
    except (OSError, ValueError, EOFError, TimeoutError) as error:
        _log.debug("whether the link is metered is not known: %s", error)
        return False


async def _ask(bus: Path) -> int:
    reader, writer = await asyncio.open_unix_connection(bus, limit=_ANSWER_MAX)
    try:
        writer.write(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        if not (await reader.readline()).startswith(b"OK "):
            raise ValueError("the bus does not take this user")
        writer.write(b"BEGIN\r\n")
        writer.write(call(1, _BUS, "/org/freedesktop/DBus", _BUS, "Hello"))
        await _reply(reader, 1)
        get = call(
            2, _MANAGER, "/org/freedesktop/NetworkManager", f"{_BUS}.Properties", "Get", _MANAGER, "Metered"
        )
        writer.write(get)
        return number_in_variant(await _reply(reader, 2))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def call(serial: int, destination: str, path: str, interface: str, member: str, *arguments: str) -> bytes:
    """Return a method call whose arguments are all text."""
    fields = [
        (_PATH, b"o", path),
        (_INTERFACE, b"s", interface),
        (_MEMBER, b"s", member),
        (_DESTINATION, b"s", destination),
    ]
    header = bytearray()
    for code, signature, text in fields:
        header += bytes(-len(header) % 8) + bytes((code, 1)) + signature + b"\0" + _text(text)
    if arguments:
        kinds = b"s" * len(arguments)
        header += (
            bytes(-len(header) % 8) + bytes((_SIGNATURE, 1)) + b"g\0" + bytes((len(kinds),)) + kinds + b"\0"
        )
    body = bytearray()
    for argument in arguments:
        body += bytes(-len(body) % 4) + _text(argument)
    start = struct.pack("<cBBBII", b"l", _CALL, 0, 1, len(body), serial) + struct.pack("<I", len(header))
    return start + header + bytes(-(len(start) + len(header)) % 8) + body


def number_in_variant(body: bytes) -> int:
    """Return the unsigned number that a reply's only value, a variant, holds.

    Raises:
        ValueError: it holds something else.
    """
    if body[:3] != b"\x01u\0" or len(body) != 8:
        raise ValueError("another answer than a number")
    return int(struct.unpack_from("<I", body, 4)[0])


async def _reply(reader: asyncio.StreamReader, serial: int) -> bytes:
    """Return the body of the reply to a call; what else the bus says is passed over."""
    while True:
        start = await reader.readexactly(16)
        if start[:1] != b"l":
            raise ValueError("a message in another byte order")
        body_size, _, fields_size = struct.unpack_from("<III", start, 4)
        if body_size + fields_size > _ANSWER_MAX:
            raise ValueError("a message that is too long")
        fields = await reader.readexactly(fields_size + -fields_size % 8)
        body = await reader.readexactly(body_size)
        if start[1] in (_RETURN, _ERROR) and replies_to(fields[:fields_size]) == serial:
            if start[1] == _ERROR:
                raise ValueError("nobody answers for NetworkManager")
            return body


def replies_to(fields: bytes) -> int:
    """Return the serial of the call that a message with these header fields replies to; 0: none.

    Raises:
        ValueError: they are damaged.
    """
    at = 0
    try:
        while at < len(fields):
            at += -at % 8
            code, count = fields[at], fields[at + 1]
            signature = fields[at + 2 : at + 2 + count]
            at += 3 + count
            if signature == b"u":
                at += -at % 4
                (value,) = struct.unpack_from("<I", fields, at)
                if code == _REPLY_SERIAL:
                    return int(value)
                at += 4
            elif signature in (b"s", b"o"):
                at += -at % 4
                at += 5 + struct.unpack_from("<I", fields, at)[0]
            elif signature == b"g":
                at += 2 + fields[at]
            else:
                raise ValueError("a header field of another type")
    except (IndexError, struct.error) as error:
        raise ValueError("header fields that are cut short") from error
    return 0


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"
