"""The Exec line, by the examples of the Desktop Entry Specification."""

from __future__ import annotations

import pytest

from appclient.commandline import AT_ONCE_MAX, invocation, split
from appclient.errors import TooManyFilesError
from packageformat.application import Application
from packageformat.errors import FormatError


def application(command: str, **more: object) -> Application:
    return Application(id="org.example.Editor", name="Text Editor", command=command, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("editor --new", ["editor", "--new"]),
        ('"my editor" "a\\"b" "\\$HOME"', ["my editor", 'a"b', "$HOME"]),
        ('sh -c "echo \\\\done"', ["sh", "-c", "echo \\done"]),
        ('  editor\t""', ["editor", ""]),
        ('a"b c"d', ["ab cd"]),
    ],
)
def test_words_are_split_as_the_specification_says(command: str, words: list[str]) -> None:
    assert split(command) == words


def test_a_program_that_takes_one_file_is_not_started_without_bound() -> None:
    names = [f"/tmp/{number}" for number in range(AT_ONCE_MAX + 1)]
    assert len(invocation(application("editor %f"), names[1:]).left) == AT_ONCE_MAX - 1
    with pytest.raises(TooManyFilesError, match="Text Editor opens one file at a time, and 17 were named"):
        invocation(application("editor %u"), names)
    assert invocation(application("editor %F"), names).left == ()


def test_a_quote_that_is_not_closed_is_refused() -> None:
    with pytest.raises(FormatError):
        split('editor "half')


@pytest.mark.parametrize(
    ("command", "arguments", "argv"),
    [
        ("editor %F", ["/a b", "/c"], ("editor", "/a b", "/c")),
        ("editor %U", [], ("editor",)),
        ("editor %f", [], ("editor",)),
        ("editor --file=%f", ["/a"], ("editor", "--file=/a")),
        ("editor %u --fast", ["https://x/y"], ("editor", "https://x/y", "--fast")),
        ("editor 100%%", [], ("editor", "100%")),
        ("editor --name %c", [], ("editor", "--name", "Text Editor")),
        ("editor %d %m", ["/a"], ("editor", "/a")),
        ("editor", ["/a"], ("editor", "/a")),
    ],
)
def test_field_codes_take_their_values(command: str, arguments: list[str], argv: tuple[str, ...]) -> None:
    assert invocation(application(command), arguments).argv == argv


def test_a_value_is_never_split_again() -> None:
    hostile = "/tmp/a; rm -rf $HOME \"' %U"
    assert invocation(application("editor %f"), [hostile]).argv == ("editor", hostile)


def test_the_icon_and_the_desktop_file_are_named() -> None:
    told = application("editor %i --from %k", icon="pen", desktop_file=b"usr/share/applications/e.desktop")
    assert invocation(told, []).argv == (
        "editor", "--icon", "pen", "--from", "/usr/share/applications/e.desktop",
    )  # fmt: skip
    assert invocation(application("editor %i %k"), []).argv == ("editor",)


def test_what_a_command_for_one_file_leaves_is_told() -> None:
    assert invocation(application("editor %f"), ["/a", "/b"]).left == ("/b",)
