"""X authority files: the one cookie that a bubble needs, out of all that the user has. Pure."""

from __future__ import annotations

import re
import struct

FAMILY_WILD = 0xFFFF
_LENGTH = struct.Struct(">H")
_DISPLAY = re.compile(r"(?:unix)?:(\d{1,5})(?:\.\d+)?")


def display_number(display: str) -> int | None:
    """Return the number of a display of this machine's (`:1.0` -> 1), None for any other."""
    match = _DISPLAY.fullmatch(display)
    return int(match[1]) if match else None


def authority_for(data: bytes, number: int) -> bytes:
    """Return an authority file with only the cookies for display `number`, valid under any host name.

    Args:
        data: the user's authority file (libXau: family, address, number, name, data; each with its length).
        number: of the display.
    """
    kept = []
    for _, display, name, cookie in _records(data):
        if display in (b"", str(number).encode()):
            fields = (b"", display, name, cookie)
            kept.append(_LENGTH.pack(FAMILY_WILD) + b"".join(_LENGTH.pack(len(f)) + f for f in fields))
    return b"".join(kept)


def _records(data: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Return address, display number, name and cookie of each record; a broken tail is left out."""
    records: list[tuple[bytes, bytes, bytes, bytes]] = []
    offset = 0
    while offset + 2 <= len(data):
        offset += 2  # the family
        fields = []
        for _ in range(4):
            if offset + 2 > len(data):
                return records
            (length,) = _LENGTH.unpack_from(data, offset)
            fields.append(data[offset + 2 : offset + 2 + length])
            offset += 2 + length
        if offset > len(data):
            return records
        records.append((fields[0], fields[1], fields[2], fields[3]))
    return records
