"""The errors of the stream server.

MillstreamError
├── StoreError                  30   the store on disk, its database or its folders
│   ├── UnknownNameError        30   a user, group or package that the server does not have
│   └── DamagedObjectError      30   a stored package whose bytes are not what they were
├── UntrustedPublisherError     31   a package signed by a key that this server does not trust
├── ConflictError               32   a package that contradicts one that is there
│   ├── MissingRuntimeError     32   a package whose runtimes are not here yet
│   └── MissingPackageError     32   a launch profile whose package is not here yet
└── ServerConfigurationError    33   address, certificate, folders: what `serve` needs to start
"""

from __future__ import annotations

from packageformat.errors import MillstreamError


class StoreError(MillstreamError):
    """The store, its database or its folders cannot be read or written."""

    exit_code = 30
    hint = "look at the folder's owner, its free space and its disk"


class UnknownNameError(StoreError):
    """A user, group, publisher or package that this server does not have."""

    hint = "the 'list' command shows what there is"


class DamagedObjectError(StoreError):
    """A stored package whose bytes on disk are no longer what was imported."""

    hint = "import the same package file again: it replaces the damaged copy"


class UntrustedPublisherError(MillstreamError):
    """A package whose publisher's key is not trusted here."""

    exit_code = 31
    hint = "if you know this publisher: 'streamserver trust add', then import the package again"


class ConflictError(MillstreamError):
    """A package, user or group that contradicts one that is there already."""

    exit_code = 32
    hint = "give the new package another version, or remove the old one first"


class MissingRuntimeError(ConflictError):
    """A package that requires runtimes which this server does not have."""

    hint = "import the runtimes first, the base before what stands on it"


class MissingPackageError(ConflictError):
    """A launch profile of a package version which this server does not have."""

    hint = "import the package that was trained first, or train the one that is here"


class ServerConfigurationError(MillstreamError):
    """An address, a certificate or a folder with which the server cannot start."""

    exit_code = 33
    hint = "'streamserver serve --help' shows what is needed"
