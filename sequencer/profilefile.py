"""Profile files: launch profiles beside the package that they are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packageformat.errors import FormatError
from packageformat.launchprofile import (
    LaunchProfile,
    PackageProfiles,
    content_index,
    decode_profiles,
    encode_profiles,
    extents_of,
)
from packageformat.limits import PROFILE_BYTES_MAX
from sequencer.errors import StorageError
from sequencer.pack import write_bytes
from sequencer.packagefile import SUFFIX, PackageFile

PROFILE_SUFFIX = ".profile"


@dataclass(frozen=True, slots=True)
class Carried:
    """Profiles of another version, taken over."""

    profiles: PackageProfiles
    pages: int  # of the old profiles
    found: int  # of them, in the new stack


def profile_path(package: Path) -> Path:
    """Return where the profiles of a package file lie."""
    return package.with_name(package.name.removesuffix(SUFFIX) + PROFILE_SUFFIX)


def read_profiles(path: Path) -> PackageProfiles:
    """Return the profiles in the file `path`.

    Raises:
        StorageError: it cannot be read.
        FormatError: it is no profile file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(PROFILE_BYTES_MAX + 1)
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", hint="make one: sequencer train PACKAGE.ovp"
        ) from error
    try:
        return decode_profiles(data)
    except FormatError as error:
        raise type(error)(f"{path}: {error}", hint="make it anew: sequencer train PACKAGE.ovp") from error


def write_profiles(path: Path, profiles: PackageProfiles) -> None:
    """Write a profile file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    write_bytes(path, encode_profiles(profiles))


def carried_over(old: PackageProfiles, files: Sequence[PackageFile]) -> Carried:
    """Return profiles of an earlier version as profiles of the topmost package of a stack.

    Applications that it no longer has are left out. The pages are still told by the contents that were
    touched then: `found` says how many the new stack has.
    """
    packages = [file.package for file in files]
    kept = {application.id for application in packages[-1].manifest.applications}
    profiles = tuple(profile for profile in old.profiles if profile.application in kept)
    index = content_index([(one.version_id, one.tree, one.block_ids) for one in packages])
    trees = [one.tree for one in packages]
    missing = sum(extents_of(profile, index, trees)[1] for profile in profiles)
    pages = sum(profile.pages for profile in profiles)
    return Carried(PackageProfiles(packages[-1].version_id, profiles), pages, pages - missing)


def earlier_profiles(folder: Path, package: Path, name: str) -> Iterator[Path]:
    """Give the profile files of other versions of the package `name` in `folder`, the newest first."""
    own = profile_path(package)
    found = [path for path in folder.glob(f"{name}_*{PROFILE_SUFFIX}") if path != own and path.is_file()]
    yield from sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def joined(before: PackageProfiles | None, now: PackageProfiles) -> PackageProfiles:
    """Return `now` with the profiles of `before`, of the same version, for applications that it lacks."""
    if before is None or before.version_id != now.version_id:
        return now
    trained = {profile.application for profile in now.profiles}
    kept: list[LaunchProfile] = [one for one in before.profiles if one.application not in trained]
    return PackageProfiles(now.version_id, (*now.profiles, *kept))
