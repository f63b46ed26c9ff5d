"""Where files that the user names on the command line appear inside. Pure but for what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bubble.entrance import Guest
from bubble.errors import LaunchError
from bubble.sandbox import OWN_PLACES, Place, Reach, inside, standing
from packageformat.policy import Policy


def guests(policy: Policy, reach: Reach, folder: Path, files: Mapping[Place, tuple[int, int]]) -> list[Guest]:
    """Return the files that have to be bound in, of those that the user named.

    What a name leads to decides, and a link is believed less than a name: an application may have made it.

    Args:
        policy: what of the home is visible anyway.
        reach: of this bubble.
        folder: the bubble's runtime folder.
        files: the files or folders, with device and inode of each.

    Raises:
        LaunchError: one of them is among the client's own folders, or a link to what it must not lead to.
    """
    shown = [(document.real, document.path) for document in reach.documents]
    if policy.home == "full":
        shown.append((reach.real_home, reach.home))
    made = []
    for place, identity in files.items():
        if any(home.is_relative_to(path) for home in _homes(reach) for path in (place.path, place.real)):
            continue  # a whole home is the policy's to give
        for path in (place.path, place.real):
            if any(path.is_relative_to(hidden) or hidden.is_relative_to(path) for hidden in reach.hidden):
                raise LaunchError(
                    f"{place.path} belongs to Millstream itself and is never shown in a bubble",
                    hint="copy it somewhere else first",
                )
        if any(
            place.real.is_relative_to(real) and place.path == path / place.real.relative_to(real)
            for real, path in shown
        ):
            continue
        if _is_own(reach, place.path) or _is_own(reach, place.real):
            continue
        if place.links and _is_suspect(reach, place, [real for real, _ in shown]):
            raise LaunchError(
                f"{place.path} is a link to {place.real} and is not followed",
                hint="name the file itself",
            )
        base, rest = standing(folder, reach.home, place.path)
        made.append(Guest(place.real, identity, base, rest))
    return made


def _homes(reach: Reach) -> Sequence[Path]:
    return reach.home, reach.real_home


def _is_own(reach: Reach, path: Path) -> bool:
    """Return whether the bubble has a file of its own at `path`."""
    if inside(path, [*_homes(reach), Path("/tmp"), Path("/run/media")]):  # noqa: S108
        return False
    return inside(path, OWN_PLACES)


def _is_suspect(reach: Reach, place: Place, writable: Sequence[Path]) -> bool:
    """Return whether a link lies where this application writes, or leads to what is hidden in the home."""
    if any(inside(link, writable) for link in place.links):
        return True
    if not place.real.is_relative_to(reach.real_home):
        return False
    rest = place.real.relative_to(reach.real_home)
    named = [place.path.relative_to(home) for home in _homes(reach) if place.path.is_relative_to(home)]
    if rest in named:
        return False  # only the home itself is a link
    return rest.parts[0].startswith(".") or inside(place.real, (*reach.covered_files, *reach.covered_folders))
