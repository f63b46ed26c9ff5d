"""Digests of pages, blocks and files. SHA-256 everywhere; what is not a page has a domain in front.

A page hash is the plain SHA-256 of its bytes: 4096, or fewer in the last page of a file. A block id
covers the block's length and its page hashes, so that one page verifies with its siblings' hashes alone.
"""

from __future__ import annotations

from hashlib import sha256

from packageformat.errors import FormatError
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE, PAGE_SIZE

BLOCK_DOMAIN = b"millstream block 1\0"
FILE_DOMAIN = b"millstream file 1\0"


def digest(data: bytes) -> bytes:
    """Return the SHA-256 of `data`: the name of a stored object."""
    return sha256(data).digest()


def page_hashes(plain: bytes | memoryview) -> bytes:
    """Return the SHA-256 of each 4 KiB page of `plain`, concatenated."""
    view = memoryview(plain)
    return b"".join(
        [sha256(view[start : start + PAGE_SIZE]).digest() for start in range(0, len(view), PAGE_SIZE)]
    )


def block_id(plain: bytes | memoryview) -> bytes:
    """Return the id of the block that holds `plain`, 1 to 65536 bytes."""
    return block_id_of_pages(page_hashes(plain), len(plain))


def block_id_of_pages(hashes: bytes, plain_size: int) -> bytes:
    """Return the id of a block of `plain_size` bytes whose pages have these hashes.

    Raises:
        FormatError: there cannot be such a block.
    """
    if not 0 < plain_size <= BLOCK_SIZE or len(hashes) != -(-plain_size // PAGE_SIZE) * DIGEST_SIZE:
        raise FormatError(f"a block of {plain_size} bytes cannot have {len(hashes)} bytes of page hashes")
    return sha256(BLOCK_DOMAIN + plain_size.to_bytes(4, "little") + hashes).digest()


def file_content_id(size: int, block_ids: bytes) -> bytes:
    """Return the id of a file's content: it names the file in a cache, whatever package it is from.

    Args:
        size: bytes of the file.
        block_ids: the ids of its blocks, concatenated.

    Raises:
        FormatError: a file of that size does not have that many blocks.
    """
    if size < 0 or len(block_ids) != -(-size // BLOCK_SIZE) * DIGEST_SIZE:
        raise FormatError(f"a file of {size} bytes cannot have {len(block_ids)} bytes of block ids")
    return sha256(FILE_DOMAIN + size.to_bytes(8, "little") + block_ids).digest()
