"""A launch pack of a library whose table of relocations is stored by columns; always the same bytes."""

from __future__ import annotations

import random
import struct

from packageformat.compression import compress, decompress
from packageformat.encoding import Value, decode, encode
from packageformat.hashing import block_id, digest
from packageformat.hashtree import root, split
from packageformat.launchpack import PREAMBLE, PackExtent, PackLayer, directory_end
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.packbuild import PackSource, build_pack
from packageformat.packdirectory import EXTENT
from packageformat.tree import Kind, Node, build_tree

VERSION = digest(b"a library with a table of relocations")
EXTENTS_FIELD = 7


def relocations(count: int) -> bytes:
    """Return a table like .rela.dyn: pointers of neighbouring places to code, text and one another."""
    source = random.Random(24)
    table = []
    place, code, text = 0x2C7D10, 0x41230, 0x1F0A21
    for number in range(count):
        place += 8 if number % 5 else 24
        if number % 3:
            text += source.choice((7, 12, 15, 9, 31))
        else:
            code += 16 * source.randrange(1, 40)
        table.append(struct.pack("<QQq", place, 8, text if number % 3 else code))
    return b"".join(table)


_SOURCE = random.Random(3)
CODE = bytes(_SOURCE.choice(b"\x48\x89\xe5\x8b\x45\x0f\x1f\xc3\xe8") for _ in range(14 * PAGE_SIZE))
LIBRARY = CODE + bytes(16) + relocations(1200) + CODE[: 2 * PAGE_SIZE]
"""The table begins near the end of the first block, not at a page's edge, and ends in the second."""

TREE = build_tree({b"": Node(Kind.FOLDER), b"library.so": Node(Kind.FILE, size=len(LIBRARY))})
BLOCKS = [LIBRARY[start : start + BLOCK_SIZE] for start in range(0, len(LIBRARY), BLOCK_SIZE)]
BLOCK_IDS = b"".join(map(block_id, BLOCKS))
TABLE_STACK = (PackLayer(VERSION, root(split(BLOCK_IDS)), len(BLOCKS)),)
TABLE_EXTENTS = (PackExtent(0, 0, 12, 4), PackExtent(0, 1, 0, -(-len(BLOCKS[1]) // PAGE_SIZE)))


def make_table_pack() -> bytes:
    """Return the launch pack."""
    source = PackSource(VERSION, TREE, BLOCK_IDS)
    return build_pack("library", [source], TABLE_EXTENTS, lambda _layer, block: BLOCKS[block])


def with_first_page(extent: int, first_page: int) -> bytes:
    """Return the launch pack with another byte for an extent's first page, all digests right."""
    pack = make_table_pack()
    end = directory_end(pack)
    preamble = PREAMBLE.unpack_from(pack)
    fields = decode(decompress(pack[PREAMBLE.size : end], preamble[4]), max_bytes=1 << 20)
    assert isinstance(fields, tuple)
    extents = bytearray(_octets(fields[EXTENTS_FIELD]))
    extents[extent * EXTENT.size + 5] = first_page
    plain = encode((*fields[:EXTENTS_FIELD], bytes(extents), *fields[EXTENTS_FIELD + 1 :]))
    packed = compress(plain, 19)
    return PREAMBLE.pack(*preamble[:3], len(packed), len(plain), digest(packed)) + packed + pack[end:]


def _octets(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value
