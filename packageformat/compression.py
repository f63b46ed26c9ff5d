"""Compressed bytes, bounded. The only module that knows zstandard.

Every compressed piece is exactly one zstd frame that declares its content size, and nothing after it;
what is empty is stored as nothing. The declared size is compared with the expected one *before* the decoder
allocates anything: zstandard's own `max_output_size` does not bound a frame that declares its size.
"""

from __future__ import annotations

import zstandard

from packageformat.errors import FormatError
from packageformat.limits import COMPRESSION_RATIO_MAX

_WINDOW_MAX = 8 << 20

_DESCRIPTOR = 4
"""Where the frame header's descriptor is; zstd ignores one of its bits, so a flip there would go unseen."""

_UNUSED_BIT = 0x10


def compress(plain: bytes, level: int = 9, dictionary: bytes = b"") -> bytes:
    """Return `plain` as one zstd frame; `dictionary` is raw content that the reader has as well."""
    if not plain:
        return b""
    return zstandard.ZstdCompressor(
        level=level, dict_data=_dictionary(dictionary), write_content_size=True, write_dict_id=False
    ).compress(plain)


def decompress(stored: bytes, plain_size: int, dictionary: bytes = b"") -> bytes:
    """Return the `plain_size` bytes that `stored`, untrusted, holds.

    Args:
        stored: one zstd frame.
        plain_size: bytes expected, which the caller has bounded.
        dictionary: the raw content that `stored` was compressed with.

    Raises:
        FormatError: `stored` is not one frame of exactly `plain_size` bytes.
    """
    if plain_size == 0:
        if stored:
            raise FormatError("compressed bytes where nothing was expected")
        return b""
    if plain_size > len(stored) * COMPRESSION_RATIO_MAX:
        raise FormatError(f"{len(stored)} compressed bytes cannot hold {plain_size}")
    try:
        if len(stored) > _DESCRIPTOR and stored[_DESCRIPTOR] & _UNUSED_BIT:
            raise FormatError("a compressed frame with a bit set that must be clear")
        declared = zstandard.get_frame_parameters(stored).content_size
        if declared != plain_size:
            raise FormatError(f"a compressed frame of {declared} bytes where {plain_size} were expected")
        plain = zstandard.ZstdDecompressor(
            dict_data=_dictionary(dictionary), max_window_size=_WINDOW_MAX
        ).decompress(stored, max_output_size=plain_size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"compressed bytes that cannot be read ({error})") from error
    if len(plain) != plain_size:
        raise FormatError(f"compressed bytes held {len(plain)} bytes where {plain_size} were expected")
    return plain


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict | None:
    if not content:
        return None
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
