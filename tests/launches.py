"""Launch profiles for small packages of the tests, written beside them as the sequencer would.

write_profile(editor, "editor", [(base, "lib/a", 0, 20), (editor, "usr/bin/editor", 0, 9)])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packageformat.launchprofile import (
    LaunchProfile,
    PackageProfiles,
    ProfileContent,
    ProfileRun,
    Touch,
    encode_profiles,
)
from packageformat.stack import bubble_id
from tests.packages import BuiltPackage, open_package

Touched = tuple[BuiltPackage, str, int, int]
"""A package, a file in it, the first page and how many."""


def content_of(package: BuiltPackage, path: str) -> ProfileContent:
    """Return a file of a package as a profile names it."""
    found = open_package(package.path).package
    entry = found.tree.find(path.encode())
    assert entry is not None
    return ProfileContent(found.content_id(entry), found.tree.file_size(entry), path.encode())


def write_profile(
    package: BuiltPackage, application: str, touched: Sequence[Touched], *, behind: int = 0
) -> Path:
    """Write the profile of one application beside its package; the last `behind` come after the window."""
    contents = [content_of(one, path) for one, path, _, _ in touched]
    distinct = list(dict.fromkeys(contents))
    profile = LaunchProfile(
        application=application,
        bubble_id=bubble_id(package.stack),
        runs=(ProfileRun("first launch", 800),),
        contents=tuple(distinct),
        touches=tuple(
            Touch(distinct.index(content), first, pages, 10 * number, 0)
            for number, (content, (_, _, first, pages)) in enumerate(zip(contents, touched, strict=True))
        ),
        window_touches=len(touched) - behind,
    )
    path = package.path.with_suffix(".profile")
    path.write_bytes(encode_profiles(PackageProfiles(package.version_id, (profile,))))
    return path
