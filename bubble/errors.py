"""What can keep a bubble from running, each with what to do about it.

MillstreamError
├── NoUserNamespacesError  50   the host does not let an ordinary user make a namespace
├── NoFuseError            51   no /dev/fuse, or no permission to open it
├── OverlayError           52   the copy-on-write layer cannot be mounted where it lies
├── LaunchError            53   the bubble stands, or nearly, and the application cannot start in it
└── BubbleBusyError        54   an ending bubble still holds the copy-on-write layer
"""

from __future__ import annotations

from packageformat.errors import MillstreamError


class NoUserNamespacesError(MillstreamError):
    """The host refuses user namespaces to this user."""

    exit_code = 50
    hint = (
        "ask the administrator to allow them (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )


class NoFuseError(MillstreamError):
    """/dev/fuse is missing or closed to this user."""

    exit_code = 51
    hint = "ask the administrator to load the module 'fuse' and to give /dev/fuse mode 0666"


class OverlayError(MillstreamError):
    """The kernel refuses an overlay over the folder that keeps the user's changes."""

    exit_code = 52
    hint = "set XDG_STATE_HOME to a folder on a local disk (not NFS, not itself an overlay)"


class LaunchError(MillstreamError):
    """An application that cannot be started in its bubble."""

    exit_code = 53
    hint = "look at the log in the bubble's folder, or run 'appclient reset' for this application"


class BubbleBusyError(MillstreamError):
    """The bubble is ending and its copy-on-write layer is not free yet."""

    exit_code = 54
    hint = "wait a moment and start the application again"
    retryable = True
