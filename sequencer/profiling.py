"""The launch profile of a package that was just built: trained, or taken over from an earlier version."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bubble.errors import LaunchError, NoFuseError, NoUserNamespacesError, OverlayError
from packageformat.errors import FormatError
from sequencer.errors import HostError, StorageError, TrainingError
from sequencer.packagefile import PackageFile, open_package_file, open_stack
from sequencer.profilefile import (
    carried_over,
    earlier_profiles,
    profile_path,
    read_profiles,
    write_profiles,
)
from sequencer.training import Plan, Watch, gui_applications, train
from sequencer.workfolder import cache_folder

CANNOT_RUN = (HostError, LaunchError, NoFuseError, NoUserNamespacesError, OverlayError)


@dataclass(frozen=True, slots=True)
class Profiled:
    """What became of a package's profile."""

    path: Path | None  # None: there is none
    how: str  # trained, taken over, none; empty if no application shows a window
    told: str  # one line for the packager, or empty


def provide_profile(
    package: Path, folders: Sequence[Path], *, training: bool, earlier: Path | None, watch: Watch
) -> Profiled:
    """Write the launch profile of a package beside it, if one can be had. The package is good either way.

    Args:
        package: the package file.
        folders: where its runtimes lie.
        training: start its applications; else, and where that is not possible, take over a profile.
        earlier: the profile of an earlier version, instead of the newest beside the package.
        watch: is told how training goes.

    Raises:
        StorageError, FormatError: `earlier` cannot be read, or the profile not be written.
    """
    with ExitStack() as opened:
        stack = open_stack(open_package_file(package), folders)
        for file in stack:
            opened.callback(file.close)
        if not gui_applications(stack):
            return Profiled(None, "", "")
        why = "not trained"
        if training:
            try:
                scratch = cache_folder()
                scratch.mkdir(parents=True, exist_ok=True)
                profiles = train(stack, scratch, Plan(), watch)
            except (*CANNOT_RUN, TrainingError) as error:
                why = f"not trained: {error.line()}"
            else:
                path = profile_path(package)
                write_profiles(path, profiles)
                return Profiled(path, "trained", "")
        return _taken_over(package, stack, earlier, why)


def _taken_over(package: Path, stack: Sequence[PackageFile], earlier: Path | None, why: str) -> Profiled:
    name = stack[-1].package.manifest.name
    for place in [earlier] if earlier else earlier_profiles(package.parent, package, name):
        try:
            carried = carried_over(read_profiles(place), stack)
        except (FormatError, StorageError):
            if earlier:
                raise
            continue
        if carried.found:
            path = profile_path(package)
            write_profiles(path, carried.profiles)
            share = carried.found / carried.pages
            return Profiled(path, "taken over", f"{why}; {share:.0%} of the pages of {place.name} hold")
    return Profiled(None, "none", f"{why}; no launch profile: the first start is slower")
