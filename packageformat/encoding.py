"""Documents as bytes: a canonical subset of MessagePack. The only module that knows msgpack.

Values are None, bool, int (64 bit), str (UTF-8), bytes and arrays (tuples). No maps, no floats, no
extensions: fields are told by position. Each value has exactly one encoding, the shortest.
"""

from __future__ import annotations

from typing import TypeAlias

import msgpack  # type: ignore[import-untyped]

from packageformat.errors import FormatError
from packageformat.limits import ENCODING_DEPTH_MAX

Value: TypeAlias = "bool | int | str | bytes | tuple[Value, ...] | None"

_LENGTH_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_NUMBER_SIZES = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
_NUMBER_SIZES |= {0xC0: 1, 0xC2: 1, 0xC3: 1}  # none, false, true
_COUNT_SIZES = {0xDC: 2, 0xDD: 4}


def encode(value: Value) -> bytes:
    """Return the one encoding of `value`.

    Raises:
        FormatError: a number beyond 64 bits or text that is not Unicode.
        TypeError: a value of another type; that is a bug.
    """
    try:
        packed = msgpack.packb(value, use_bin_type=True, strict_types=False)
    except (OverflowError, UnicodeEncodeError, ValueError) as error:
        raise FormatError(f"a value that has no encoding: {error}") from error
    assert isinstance(packed, bytes)
    return packed


def decode(data: bytes, *, max_bytes: int) -> Value:
    """Return the value of `data`, untrusted, of at most `max_bytes`.

    Raises:
        FormatError: `data` is too long, cut short, goes on after its value, nests too deep, has a type that
            we do not use, or is not the canonical encoding of its value.
    """
    if len(data) > max_bytes:
        raise FormatError(f"a document of {len(data)} bytes, allowed up to {max_bytes}")
    _check_shape(data)
    try:
        value: Value = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=len(data),
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise FormatError("a document that is not MessagePack") from error
    if encode(value) != data:
        raise FormatError("a document that is not in its canonical encoding")
    return value


def _check_shape(data: bytes) -> None:
    """Check types, depth and every count, before anything is allocated by a count that a stranger wrote."""
    end = len(data)
    position = 0
    open_arrays: list[int] = []
    while True:
        if position >= end:
            raise FormatError("a document that is cut short")
        head = data[position]
        count = -1
        if head < 0x80 or head >= 0xE0:
            position += 1
        elif 0xA0 <= head < 0xC0:
            position += 1 + (head & 31)
        elif 0x90 <= head < 0xA0:
            count = head & 15
            position += 1
        elif head in _NUMBER_SIZES:
            position += _NUMBER_SIZES[head]
        elif head in _LENGTH_SIZES:
            size = _LENGTH_SIZES[head]
            position += 1 + size + int.from_bytes(data[position + 1 : position + 1 + size], "big")
        elif head in _COUNT_SIZES:
            size = _COUNT_SIZES[head]
            count = int.from_bytes(data[position + 1 : position + 1 + size], "big")
            position += 1 + size
        else:
            raise FormatError(f"a document with a value of a type that is not used: 0x{head:02x}")
        if count > end - position:
            raise FormatError("a document whose array is longer than the document")
        if count > 0:
            if len(open_arrays) >= ENCODING_DEPTH_MAX:
                raise FormatError(f"a document that nests deeper than {ENCODING_DEPTH_MAX} arrays")
            open_arrays.append(count)
            continue
        while open_arrays:
            open_arrays[-1] -= 1
            if open_arrays[-1]:
                break
            open_arrays.pop()
        if not open_arrays:
            break
    if position != end:
        raise FormatError("a document that is cut short or goes on after its end")
