"""The messages between a view and its supplier: 48 bytes each, over a unix stream socket.

    view -> supplier   HELLO    digest: the bubble's id
                       NEED     content, block of it, pages of that, urgency 0 a reader waits .. 255 idle
                       DAMAGED  content, block, pages: the cache's are wrong; forget them, bring them again
    supplier -> view   HAVE     content, block, pages: they are in the cache now, and answer a NEED
                       CAME     content, block, pages: they are in the cache now, though nobody has asked
                       SOON     content: pages of it are on their way; the kernel should know the file
                       FAILED   content, block, error: an errno for whoever waits

A content is a file of the view, by its node; pages are bits, bit n for page n of the block.

Both ends are processes of one user, and neither believes more than its own bounds allow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE

_MESSAGE = struct.Struct("<BBHIIHxx32s")
SIZE = _MESSAGE.size
NO_DIGEST = bytes(DIGEST_SIZE)


class Word(IntEnum):
    """What a message says."""

    HELLO = 1
    NEED = 2
    DAMAGED = 3
    HAVE = 4
    FAILED = 5
    CAME = 6
    SOON = 7


@dataclass(frozen=True, slots=True)
class Message:
    """One message; fields that a word does not use are 0."""

    word: Word
    content: int = 0  # number in the view image
    block: int = 0  # number in the content
    pages: int = 0  # bits
    urgency: int = 0
    error: int = 0  # errno
    digest: bytes = NO_DIGEST

    def __post_init__(self) -> None:
        if not (
            0 <= self.content < 1 << 32
            and 0 <= self.block < 1 << 32
            and 0 <= self.pages < 1 << 16
            and 0 <= self.urgency < 256
            and 0 <= self.error < 4096
            and len(self.digest) == DIGEST_SIZE
        ):
            raise FormatError("a message between view and supplier that is out of bounds")


def encode_message(message: Message) -> bytes:
    """Return the 48 bytes of a message."""
    return _MESSAGE.pack(
        message.word,
        message.urgency,
        message.error,
        message.content,
        message.block,
        message.pages,
        message.digest,
    )


def decode_message(data: bytes) -> Message:
    """Return the message that 48 bytes are.

    Raises:
        FormatError: they are none.
    """
    if len(data) != SIZE:
        raise FormatError(f"a message of {len(data)} bytes between view and supplier")
    word, urgency, error, content, block, pages, digest = _MESSAGE.unpack(data)
    try:
        return Message(Word(word), content, block, pages, urgency, error, digest)
    except ValueError as error_:
        raise FormatError(f"an unknown message between view and supplier: {word}") from error_
