"""gettext's compiled catalogs (.mo): the translations in them, read with bounds. Pure.

The format is in GNU gettext's manual, *The Format of GNU MO Files*. Catalogs come out of packages: a broken
one ends in `CatalogError`, and none gives more text than it has bytes.
"""

from __future__ import annotations

import re
import struct

_MAGIC = 0x950412DE

_CHARSET = re.compile(rb"charset=([A-Za-z0-9_-]+)")

_KNOWN = re.compile(
    r"utf-?8|us-ascii|iso-?8859-\d+|koi8-[rtu]|(cp|windows-)125\d|euc-(jp|kr)|big5|gb2312|gbk|gb18030"
)
"""Charsets that are decoded. Python knows more, and not all of those are bounded (punycode)."""


class CatalogError(ValueError):
    """Bytes that are no catalog."""


def translations(catalog: bytes) -> list[str]:
    """Return the translated messages of a catalog, without its header; bytes of no character are left out.

    Args:
        catalog: untrusted bytes, a whole file.

    Raises:
        CatalogError: it is not a catalog, or its charset is none that is known.
    """
    try:
        for order in "<>":
            magic, _, count, originals, translated = struct.unpack_from(order + "5I", catalog)
            if magic == _MAGIC:
                break
        else:
            raise CatalogError("not a catalog of messages")
        original = struct.unpack_from(f"{order}{2 * count}I", catalog, originals)
        table = struct.unpack_from(f"{order}{2 * count}I", catalog, translated)
    except struct.error as error:
        raise CatalogError("a catalog that is cut short") from error
    if sum(table[::2]) > len(catalog):
        raise CatalogError("a catalog whose messages lie in one another")
    charset = "utf-8"
    parts: list[bytes] = []
    for length, start, asked in zip(table[::2], table[1::2], original[::2], strict=True):
        part = catalog[start : start + length]
        if asked:
            parts.append(part)
        else:  # the translation of nothing is the header
            named = _CHARSET.search(part)
            charset = named[1].decode("ascii").lower() if named is not None else charset
    if not _KNOWN.fullmatch(charset):
        raise CatalogError(f"a catalog in {charset}")
    try:
        return [part.decode(charset, "ignore") for part in parts]
    except LookupError as error:
        raise CatalogError(f"a catalog in {charset}") from error
