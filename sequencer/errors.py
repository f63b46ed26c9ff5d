"""The sequencer's errors: a recipe, an installer, this machine, its disk."""

from __future__ import annotations

from packageformat.errors import MillstreamError


class UsageError(MillstreamError):
    """An argument that cannot be what the command takes."""

    exit_code = 2
    hint = "--help shows what the command takes"


class RecipeError(MillstreamError):
    """A recipe that is not one, or asks for what is not there."""

    exit_code = 20
    hint = "correct the recipe (every key is told in sequencer/README.md)"


class InstallError(MillstreamError):
    """An installer that failed."""

    exit_code = 21
    hint = "read the log, correct the command in the recipe, then build again"


class InstallTimeoutError(MillstreamError):
    """An installer that did not end in its time."""

    exit_code = 22
    hint = "raise build.timeout_s in the recipe, or make the installer ask nothing"
    retryable = True


class HostError(MillstreamError):
    """Something that this machine does not have or does not allow."""

    exit_code = 23


class StorageError(MillstreamError):
    """A disk that is full, read-only or broken."""

    exit_code = 24
    hint = "free space or choose another folder, then build again"
    retryable = True


class TrainingError(MillstreamError):
    """An application that cannot be trained."""

    exit_code = 25
    hint = "build with --no-train to do without a launch profile"
