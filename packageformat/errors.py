"""The errors of Millstream: what happened, to what, and what to do next.

    MillstreamError                 a user's problem; bugs stay ValueError and AssertionError
    ├── FormatError            10   bytes that are not what they should be
    │   ├── CorruptBlockError  11   a block whose content does not match its id
    │   ├── SignatureError     12   a signature that is missing, wrong or of an untrusted key
    │   └── UnsupportedError   13   a newer format, another architecture, an unknown feature
    ├── sequencer.errors       20-25
    ├── streamserver.errors    30-33
    ├── appclient.errors       40-47
    └── bubble.errors          50-54

The number is the exit code of the program that ends with it (1: a bug, 2: wrong usage).
"""

from __future__ import annotations


class MillstreamError(Exception):
    """A problem that a user can do something about.

    `str(error)` says what happened and to what; `hint` says what to do next;
    `retryable` says whether the same call may succeed later by itself.
    """

    exit_code = 1
    hint = ""
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def line(self) -> str:
        """Return the one line that a program prints for this error."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class FormatError(MillstreamError):
    """Bytes that do not follow the format (FORMAT.md), or exceed one of its limits."""

    exit_code = 10
    hint = "the file is damaged or was not made by Millstream: fetch or build it again"


class CorruptBlockError(FormatError):
    """A block whose content does not match its id. Nothing of it is returned."""

    exit_code = 11
    hint = "run 'appclient cache verify', then start the application again"
    retryable = True

    def __init__(self, message: str, *, expected: bytes = b"", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.expected = expected


class SignatureError(FormatError):
    """A signature that is missing, wrong, or made by a key that is not trusted."""

    exit_code = 12
    hint = "get the file again from its publisher, or trust the publisher's key if you know it"


class UnsupportedError(FormatError):
    """A version, architecture or feature that this program does not know."""

    exit_code = 13
    hint = "update Millstream, or get a package for this machine"
