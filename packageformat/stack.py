"""A stack of package versions, bottom first, and the bubble that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE, STACK_MAX

BUBBLE_DOMAIN = b"millstream bubble 1\0"


def bubble_id(version_ids: Sequence[bytes]) -> bytes:
    """Return the id of the bubble of these versions, bottom first.

    It keys the user's system upper and the launch packs.

    Raises:
        FormatError: there are none, too many, one twice, or one is not a version id.
    """
    if not 0 < len(version_ids) <= STACK_MAX or len(set(version_ids)) != len(version_ids):
        raise FormatError(f"a bubble is of 1 to {STACK_MAX} different packages")
    if any(len(version) != DIGEST_SIZE for version in version_ids):
        raise FormatError("a bubble with a version id that is not one")
    return sha256(BUBBLE_DOMAIN + b"".join(version_ids)).digest()
