"""Sums and differences of two byte strings, byte by byte, modulo 256.

Python has no such operation on bytes, but it has integers of any length: the strings are read as two of them
and added (or subtracted) with the top bit of each byte kept out, so that nothing is carried from byte to
byte. Hundreds of MB/s, where a loop would do 20.
"""

from __future__ import annotations


def add_bytes(first: bytes | bytearray | memoryview, second: bytes | bytearray | memoryview) -> bytes:
    """Return the sum of two strings of one length, each byte modulo 256."""
    a, b, tops = _numbers(first, second)
    lows = tops - (tops >> 7)  # 0x7f in each byte
    return (((a & lows) + (b & lows)) ^ ((a ^ b) & tops)).to_bytes(len(first), "little")


def subtract_bytes(first: bytes | bytearray | memoryview, second: bytes | bytearray | memoryview) -> bytes:
    """Return the first string less the second, of one length, each byte modulo 256."""
    a, b, tops = _numbers(first, second)
    lows = tops - (tops >> 7)
    return (((a | tops) - (b & lows)) ^ ((a ^ b ^ tops) & tops)).to_bytes(len(first), "little")


def unequal_bytes(first: bytes | memoryview, second: bytes | memoryview) -> bytes:
    """Return a string that is zero just where two strings of one length are equal."""
    return (int.from_bytes(first, "little") ^ int.from_bytes(second, "little")).to_bytes(len(first), "little")


def _numbers(
    first: bytes | bytearray | memoryview, second: bytes | bytearray | memoryview
) -> tuple[int, int, int]:
    if len(first) != len(second):
        raise ValueError(f"byte strings of {len(first)} and {len(second)} bytes")
    tops = int.from_bytes(b"\x80" * len(first), "little")
    return int.from_bytes(first, "little"), int.from_bytes(second, "little"), tops
