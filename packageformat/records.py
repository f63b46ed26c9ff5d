"""Tables of 24-byte records by columns: relocations of ELF files, as launch packs store them.

A relocation (Elf64_Rela, in .rela.dyn) is three numbers of 8 bytes: where, what, and a number to add. It is
much like the one before, but zstd finds whole strings only. By columns it compresses to half: first come the
low two bytes of the three numbers, as steps from the record before, then all other bytes, as they are.
An extent begins at the edge of a page, seldom at that of a record: it need not, since the three numbers are
treated alike, and pages and tables begin at multiples of 8.

Steps are added up for all records at once, in one integer: a loop would hold up launches.
"""

from __future__ import annotations

RECORD_SIZE = 24
"""Bytes of a record: of an Elf64_Rela, and of an Elf64_Sym as well."""

STEPPED = (0, 1, 8, 9, 16, 17)
"""The bytes of a record that are stored as steps: the low two of each number."""

PLAIN = tuple(place for place in range(RECORD_SIZE) if place not in STEPPED)

_LANES = 12
"""Bytes of a record's three lanes while they are added up: numbers of 16 bits, above each 16 for carries."""

_CARRIES = 16
"""After so many doublings of what is added up, those are full."""


def by_columns(data: bytes) -> bytes:
    """Return records as columns, in as many bytes; `by_rows` undoes it.

    Args:
        data: of any length, and anything at all; what is left after the last whole record stays as it is.
    """
    count, end = _whole(data)
    lanes = bytearray(_LANES * count)
    for lane, place in enumerate(STEPPED):
        lanes[_in_lanes(lane) :: _LANES] = data[place:end:RECORD_SIZE]
    numbers = int.from_bytes(lanes, "big")
    guards = int.from_bytes(b"\0\1\0\0" * (3 * count), "big")  # a bit above each number, to borrow from
    steps = ((numbers | guards) - (numbers >> 8 * _LANES)).to_bytes(len(lanes), "big")
    return b"".join(
        (
            *(steps[_in_lanes(lane) :: _LANES] for lane in range(len(STEPPED))),
            *(data[place:end:RECORD_SIZE] for place in PLAIN),
            data[end:],
        )
    )


def by_rows(data: bytes | memoryview) -> bytes:
    """Return the bytes that `by_columns` makes `data` of; there are such for any `data`."""
    count, end = _whole(data)
    lanes = bytearray(_LANES * count)
    for lane in range(len(STEPPED)):
        lanes[_in_lanes(lane) :: _LANES] = data[lane * count : (lane + 1) * count]
    numbers = int.from_bytes(lanes, "big")
    doublings = 0
    while 1 << doublings < count:
        numbers += numbers >> (8 * _LANES << doublings)  # now each is the sum of twice as many steps
        doublings += 1
        if doublings % _CARRIES == 0:
            numbers &= int.from_bytes(b"\0\0\xff\xff" * (3 * count), "big")
    sums = numbers.to_bytes(len(lanes), "big")
    rows = bytearray(data)
    for lane, place in enumerate(STEPPED):
        rows[place:end:RECORD_SIZE] = sums[_in_lanes(lane) :: _LANES]
    for column, place in enumerate(PLAIN, len(STEPPED)):
        rows[place:end:RECORD_SIZE] = data[column * count : (column + 1) * count]
    return bytes(rows)


def _whole(data: bytes | memoryview) -> tuple[int, int]:
    """Return the number of whole records, and where the last one ends."""
    count = len(data) // RECORD_SIZE
    return count, count * RECORD_SIZE


def _in_lanes(lane: int) -> int:
    """Return where a stepped byte is in the lanes of a record, whose numbers have the highest byte first."""
    number, high = divmod(lane, 2)
    return 4 * number + 3 - high
