"""Where files that the user names on the command line appear inside. Pure but for what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bubble.entrance import Guest
from bubble.errors import LaunchError
from bubble.sandbox import Reach, visible_documents
from packageformat.policy import Policy

_OWN = tuple(
    Path("/", name)
    for name in "usr etc bin sbin lib lib32 lib64 libx32 dev proc sys boot var".split()  # noqa: SIM905
)
"""The bubble has these of its own; a host's file there is not shown in their place."""


def guests(policy: Policy, reach: Reach, folder: Path, files: Sequence[Path]) -> list[Guest]:
    """Return the files that have to be bound in, of those that the user named.

    Args:
        policy: what of the home is visible anyway.
        reach: of this bubble.
        folder: the bubble's runtime folder.
        files: absolute, normalised paths of files or folders that exist.

    Raises:
        LaunchError: one of them is among the client's own folders.
    """
    visible = [*visible_documents(policy, reach)]
    if policy.home == "full":
        visible.append(reach.home)
    made = []
    for path in files:
        if reach.home.is_relative_to(path):
            continue  # a whole home is the policy's to give
        if any(path.is_relative_to(hidden) or hidden.is_relative_to(path) for hidden in reach.hidden):
            raise LaunchError(
                f"{path} belongs to Millstream itself and is never shown in a bubble",
                hint="copy it somewhere else first",
            )
        if any(path.is_relative_to(place) for place in visible) or _inside(path, _OWN):
            continue
        if path.is_relative_to(reach.home):
            made.append(Guest(path, folder / "home", path.relative_to(reach.home)))
        elif path.is_relative_to("/tmp"):  # noqa: S108
            made.append(Guest(path, folder / "shared/tmp", path.relative_to("/tmp")))  # noqa: S108
        elif path.is_relative_to("/run"):
            if path.is_relative_to("/run/media"):
                made.append(Guest(path, folder / "shared/run", path.relative_to("/run")))
        else:
            made.append(Guest(path, folder / "root", path.relative_to("/")))
    return made


def _inside(path: Path, places: Sequence[Path]) -> bool:
    return any(path.is_relative_to(place) for place in places)
