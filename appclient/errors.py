"""The client's errors: exit codes 40 to 47, a usage error, and those that the agent reports to a command.

MillstreamError
├── TooManyFilesError        2   an application that opens one at a time
├── SettingError             2   settings that are damaged
├── NotSignedInError        40   no sign-in, or it has run out
├── WrongPasswordError      41
├── NotEntitledError        42   the server does not give this package to this user
├── UnknownPackageError     43   no published application of that name, or several
├── ServerUnreachableError  44   no answer in time
├── ServerUntrustedError    45   another certificate or key than the pinned one, an older document
├── CacheError              46   the cache's disk is full or read-only
├── AgentError              47   the user's agent cannot be started or reached
│   ├── NoAgentError             none runs
│   └── SilentAgentError         it runs and says nothing
└── ReportedError           any  what the agent met, told by a command in the agent's words
"""

from __future__ import annotations

import errno
from pathlib import Path

from packageformat.errors import MillstreamError


class TooManyFilesError(MillstreamError):
    """More files than an application that takes one at a time is started for."""

    exit_code = 2


class SettingError(MillstreamError):
    """The file with the user's settings is damaged."""

    exit_code = 2
    hint = "set them anew with 'appclient settings --reset'; until then nothing is filled or reported"


class NotSignedInError(MillstreamError):
    """Nobody is signed in, or the sign-in has run out."""

    exit_code = 40
    hint = "sign in with 'appclient login URL'"


class WrongPasswordError(MillstreamError):
    """The server refused the name and password."""

    exit_code = 41
    hint = "type it again, or ask the administrator to set a new one"


class NotEntitledError(MillstreamError):
    """The server does not give a package to this user."""

    exit_code = 42
    hint = "ask the administrator for it, then run 'appclient refresh'"


class UnknownPackageError(MillstreamError):
    """No application, or more than one, is published under that name."""

    exit_code = 43
    hint = "see 'appclient list', or 'appclient refresh' if it was published just now"


class ServerUnreachableError(MillstreamError):
    """The server did not answer, or not in time."""

    exit_code = 44
    hint = "check the network and the server, then try again"
    retryable = True


class ServerUntrustedError(MillstreamError):
    """The server is not the one that was pinned at login, or sends what it must not."""

    exit_code = 45
    hint = "if the server was changed on purpose, sign in anew with 'appclient login URL'"


class CacheError(MillstreamError):
    """The client's folders cannot be written or read."""

    exit_code = 46
    hint = "free some space or make the folder writable, then try again"
    retryable = True


class AgentError(MillstreamError):
    """The user's agent cannot be started, or does not answer as it should."""

    exit_code = 47
    hint = "run 'appclient stop', then try again; the agent's log is named by 'appclient status'"
    retryable = True


class NoAgentError(AgentError):
    """No agent runs, or it ended in the middle of its answer."""


class SilentAgentError(AgentError):
    """The agent is stopped or hangs; 'appclient stop' ends it."""

    hint = "it is stopped or hangs: run 'appclient stop', then try again"

    def __init__(self, process: int, seconds: float) -> None:
        super().__init__(f"the agent (process {process}) said nothing for {seconds:.0f} s")
        self.process = process


class ReportedError(MillstreamError):
    """An error of another process, told here: its message, its hint and its exit code."""

    def __init__(self, message: str, *, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def storage_error(doing: str, path: Path, error: OSError) -> CacheError:
    """Return what the user should read when `doing` something with `path` failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(
            f"the disk is full: {doing} {path}",
            hint="free some space, or run 'appclient cache clean'; then try again",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CacheError(f"not writable: {doing} {path}", hint="make the folder writable, then try again")
    return CacheError(f"{error.strerror or error}: {doing} {path}")
