"""Profile files beside packages, and what becomes of them in the next version."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from packageformat.errors import FormatError
from packageformat.launchprofile import PackageProfiles
from sequencer.errors import StorageError
from sequencer.packagefile import open_package_file
from sequencer.profilefile import (
    carried_over,
    earlier_profiles,
    joined,
    profile_path,
    read_profiles,
    write_profiles,
)
from sequencer.trial import arguments_of
from tests.vectors.sample import SAMPLE, make_profiles


def test_a_profile_lies_beside_its_package_and_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = profile_path(tmp_path / "calculator_1.2.3-4+b1.ovp")
    assert path == tmp_path / "calculator_1.2.3-4+b1.profile"
    write_profiles(path, make_profiles())
    assert read_profiles(path) == make_profiles()
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        read_profiles(tmp_path / "none.profile")
    (tmp_path / "x.profile").write_bytes(b"x" * 100)
    with pytest.raises(FormatError, match=r"x\.profile: not a launch profile"):
        read_profiles(tmp_path / "x.profile")


def test_profiles_of_an_earlier_version_are_taken_over_as_far_as_they_hold(tmp_path: Path) -> None:
    (tmp_path / "calculator_2.ovp").write_bytes(SAMPLE.file)
    file = open_package_file(tmp_path / "calculator_2.ovp")
    whole = make_profiles().profiles[0]
    lost = replace(whole.contents[2], content_id=bytes(32), path=b"usr/share/gone")
    old = PackageProfiles(bytes(range(32)), (replace(whole, contents=(*whole.contents[:2], lost)),
                                             replace(whole, application="removed")))  # fmt: skip
    carried = carried_over(old, [file])
    file.close()
    assert carried.profiles.version_id == SAMPLE.package.version_id
    assert [one.application for one in carried.profiles.profiles] == ["org.example.Calculator"]
    assert (carried.pages, carried.found) == (28, 25)


def test_the_newest_profile_of_another_version_comes_first(tmp_path: Path) -> None:
    for age, name in enumerate(
        ("editor_2.profile", "editor_1.profile", "editor_3.profile", "other_1.profile")
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    found = earlier_profiles(tmp_path, tmp_path / "editor_2.ovp", "editor")
    assert [path.name for path in found] == ["editor_1.profile", "editor_3.profile"]


def test_training_one_application_keeps_the_profiles_of_the_others() -> None:
    both = make_profiles()
    one = PackageProfiles(both.version_id, (replace(both.profiles[0], touches=(), window_touches=0),))
    assert joined(both, one).profiles == (one.profiles[0], both.profiles[1])
    assert joined(PackageProfiles(bytes(32), both.profiles), one) == one
    assert joined(None, one) == one


@pytest.mark.parametrize(
    ("command", "document", "argv"),
    [
        ("editor %U", "", ["editor"]),
        ("editor %U --x", "/d.txt", ["editor", "/d.txt", "--x"]),
        ("editor %i %c", "/d.txt", ["editor", "/d.txt"]),
        ("'my editor' 100%% %f", "/d.txt", ["my editor", "100%", "/d.txt"]),
    ],
)
def test_a_document_stands_where_the_command_line_says(command: str, document: str, argv: list[str]) -> None:
    assert arguments_of(command, document) == argv
