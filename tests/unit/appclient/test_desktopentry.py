"""Desktop entries: what a desktop reads back is what was meant."""

from __future__ import annotations

import configparser

import pytest

from appclient.commandline import split
from appclient.desktopentry import MARK, entry_text, file_name, icon_name
from packageformat.application import Application


def parsed(text: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser["Desktop Entry"]


EDITOR = Application(
    id="org.example.Editor",
    name="Editor",
    command="editor %F",
    comment="Edit; text\\files",
    icon="editor",
    categories=("Utility", "TextEditor"),
    mime_types=("text/plain",),
    url_schemes=("note",),
    startup_wm_class="Editor",
)


def test_an_entry_tells_what_the_application_is() -> None:
    entry = parsed(entry_text(EDITOR, "editor", ["/opt/appclient"], has_icons=True))
    assert entry["Name"] == "Editor"
    assert entry["Comment"] == "Edit; text\\\\files"
    assert entry["TryExec"] == "/opt/appclient"
    assert entry["Exec"] == "/opt/appclient run org.example.Editor %F"
    assert entry["Icon"] == icon_name(EDITOR) == "millstream-org.example.Editor"
    assert entry["Categories"] == "Utility;TextEditor;"
    assert entry["MimeType"] == "text/plain;x-scheme-handler/note;"
    assert entry["StartupWMClass"] == "Editor"
    assert entry["StartupNotify"] == "true"
    assert entry["Terminal"] == "false"
    assert entry[MARK] == "editor"
    assert file_name(EDITOR) == "millstream-org.example.Editor.desktop"


@pytest.mark.parametrize(
    "program", ["/opt/my tools/appclient", "/opt/50%/appclient", '/opt/"q"/$x/appclient']
)
def test_a_program_of_any_name_survives_the_quoting(program: str) -> None:
    entry = parsed(entry_text(EDITOR, "editor", [program], has_icons=False))
    command = entry["Exec"].replace("\\\\", "\\")  # the escapes of a key's value
    assert split(command)[0].replace("%%", "%") == program


def test_without_an_icon_of_its_own_a_themed_one_is_named() -> None:
    assert parsed(entry_text(EDITOR, "editor", ["/a"], has_icons=False))["Icon"] == "editor"
    path = Application(id="x", name="X", command="x", icon="/usr/share/x.png")
    assert parsed(entry_text(path, "x", ["/a"], has_icons=False))["Icon"] == "application-x-executable"


def test_an_application_that_opens_nothing_gets_no_field_code() -> None:
    plain = Application(id="x", name="X", command="x")
    assert parsed(entry_text(plain, "x", ["/a"], has_icons=False))["Exec"] == "/a run x"
