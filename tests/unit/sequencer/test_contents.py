"""The distribution's packages in a capture, the libraries it lacks, and what it borrows."""

from __future__ import annotations

from sequencer.capture import environment_of
from sequencer.contents import added_packages, installed_packages, version_label
from sequencer.hostconfig import HostConfig, add_source_packages
from sequencer.libraries import Needs, configured_folders, missing_libraries
from sequencer.trial import arguments_of

STATUS = """\
Package: libc6
Status: install ok installed
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Version: 1

Package: editor
Status: install ok installed
Description: edits
 Version: 9 (not a field)
Version: 2:1.0-1
"""


def test_only_installed_packages_count() -> None:
    assert installed_packages(STATUS) == {"libc6": "2.36-9", "editor": "2:1.0-1"}


def test_what_was_added_is_what_the_base_has_not() -> None:
    assert added_packages({"libc6": "2.36-9"}, installed_packages(STATUS)) == ("editor=2:1.0-1",)
    assert added_packages({"libc6": "2.36-8"}, {"libc6": "2.36-9"}) == ("libc6=2.36-9",)


def test_an_epoch_is_no_part_of_a_version() -> None:
    assert version_label("2:1.0-1") == "1.0-1"
    assert version_label("1.0-1") == "1.0-1"


def test_a_library_that_nobody_brings_is_named_with_who_needs_it() -> None:
    there = {"usr/lib/libz.so.1", "opt/editor/lib/libown.so"}
    needs = {
        "usr/bin/editor": Needs(("libz.so.1", "libgone.so.2"), ()),
        "opt/editor/bin/editor": Needs(("libown.so",), ("$ORIGIN/../lib",)),
        "opt/editor/bin/other": Needs(("libinside.so.3",), ()),
        "opt/editor/plugins/libinside.so.3": Needs((), (), "libinside.so.3"),
    }
    assert missing_libraries(needs, there.__contains__, ()) == {"libgone.so.2": ["usr/bin/editor"]}


def test_folders_of_the_linkers_configuration_are_searched() -> None:
    folders = configured_folders(["# a comment\n/usr/lib/fake # here\ninclude x\n\n"])
    assert folders == ["usr/lib/fake"]
    needs = {"usr/bin/editor": Needs(("libfake.so",), ())}
    assert missing_libraries(needs, {"usr/lib/fake/libfake.so"}.__contains__, folders) == {}


def test_source_packages_are_added_in_either_style() -> None:
    assert add_source_packages("Types: deb\nURIs: x\n") == "Types: deb deb-src\nURIs: x\n"
    assert add_source_packages("deb [a=b] uri suite main\n# deb c\n") == (
        "deb [a=b] uri suite main\ndeb-src [a=b] uri suite main\n# deb c\n"
    )


def test_a_recipes_variable_wins_over_the_captures() -> None:
    environment = dict(environment_of(HostConfig(certificates=b"x"), (("LANG", "de_DE.UTF-8"),)))
    assert environment["LANG"] == "de_DE.UTF-8"
    assert environment["DEBIAN_FRONTEND"] == "noninteractive"
    assert environment["PIP_CERT"].startswith("/run/millstream/")


def test_an_exec_line_loses_its_field_codes() -> None:
    assert arguments_of("editor --name 'a b' %U --percent 100%%") == [
        "editor",
        "--name",
        "a b",
        "--percent",
        "100%",
    ]
