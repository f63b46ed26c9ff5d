"""What every signed document carries so that an old one cannot be played again.

generation, issue and expiry.
"""

from __future__ import annotations

from typing import Protocol

from packageformat.errors import FormatError
from packageformat.limits import CLOCK_SKEW, GENERATION_MAX, INSTANT_MAX


class Dated(Protocol):
    """A document with a generation, and its times in seconds since 1970."""

    @property
    def generation(self) -> int:
        """A number that only grows."""

    @property
    def issued(self) -> int:
        """When it was made."""

    @property
    def expires(self) -> int:
        """From when on it is worth nothing."""


def check_dates(document: Dated) -> None:
    """Check that the generation and times of a document are possible.

    Raises:
        FormatError: they are not.
    """
    if not 0 <= document.generation <= GENERATION_MAX:
        raise FormatError(f"a document of generation {document.generation}")
    if not 0 <= document.issued < document.expires <= INSTANT_MAX:
        raise FormatError("a document that expires before it was issued")


def check_fresh(document: Dated, now: int, previous_generation: int) -> None:
    """Check that a document, whose signature has been checked, is the current one as far as one can tell.

    Args:
        document: a pointer or publishing document.
        now: seconds since 1970.
        previous_generation: the highest generation seen before of the same thing; 0 at first.

    Raises:
        FormatError: it has expired, comes from the future, or is older than one seen before.
    """
    if now >= document.expires + CLOCK_SKEW:
        raise FormatError(
            f"a document that expired {now - document.expires} seconds ago",
            hint="connect to the server to get a new one, and check this machine's clock",
        )
    if document.issued > now + CLOCK_SKEW:
        raise FormatError(
            f"a document issued {document.issued - now} seconds from now", hint="check this machine's clock"
        )
    if document.generation < previous_generation:
        raise FormatError(
            f"a document of generation {document.generation} after one of {previous_generation}",
            hint="the server went back in time: ask its administrator whether it was restored from a backup",
        )
