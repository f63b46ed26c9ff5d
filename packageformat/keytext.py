"""The text of a publisher's key files: each half says which one it is.

millstream-private-key HEX      64 hexadecimal digits: the Ed25519 seed
millstream-public-key HEX       64 hexadecimal digits: the Ed25519 public key
"""

from __future__ import annotations

import re

PRIVATE_TAG = "millstream-private-key"
PUBLIC_TAG = "millstream-public-key"
_BARE = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def private_text(seed: bytes) -> str:
    """Return the content of a file with the private key `seed`."""
    return f"{PRIVATE_TAG} {seed.hex()}\n"


def public_text(key: bytes) -> str:
    """Return the content of a file with the public key `key`."""
    return f"{PUBLIC_TAG} {key.hex()}\n"


def key_of_text(text: str, tag: str, *, bare: bool) -> bytes | None:
    """Return the 32 bytes of the half `tag` that the untrusted `text` holds, None if it holds no such thing.

    `bare` takes 64 digits without a tag too: key files had none before.
    """
    words = text.split()
    if bare and len(words) == 1:
        words.insert(0, tag)
    if len(words) != 2 or words[0] != tag or not _BARE.fullmatch(words[1]):
        return None
    return bytes.fromhex(words[1])


def is_private(text: str) -> bool:
    """Tell whether `text` says of itself that it is a private key, of this kind or in PEM."""
    return "PRIVATE" in text.upper()
