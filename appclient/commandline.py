"""The Exec line of an application: split and filled in as the Desktop Entry Specification says. Pure.

https://specifications.freedesktop.org/desktop-entry-spec/latest/exec-variables.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appclient.errors import TooManyFilesError
from packageformat.application import Application
from packageformat.errors import FormatError

_ESCAPED_IN_QUOTES = '"`$\\'
_DEPRECATED = "dDnNvm"

AT_ONCE_MAX = 16
"""Files that are opened with one command if the application takes one at a time: each is a process."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One program to start: its arguments, and the files of the user among them."""

    argv: tuple[str, ...]
    left: tuple[str, ...]  # arguments for which the command takes one at a time; start it again for each


def split(command: str) -> list[str]:
    """Return the words of an Exec line, quotes and escapes undone, field codes still in them.

    Raises:
        FormatError: a quote is not closed.
    """
    words: list[str] = []
    word: list[str] = []
    begun = quoted = False
    letters = iter(command)
    for letter in letters:
        if quoted and letter == "\\":
            following = next(letters, "")
            word.append(following if following in _ESCAPED_IN_QUOTES else letter + following)
        elif letter == '"':
            quoted = not quoted
            begun = True
        elif quoted or letter not in " \t\n":
            word.append(next(letters, "") if letter == "\\" else letter)
            begun = True
        elif begun:
            words.append("".join(word))
            word, begun = [], False
    if quoted:
        raise FormatError(f"a command with a quote that is not closed: {command!r}")
    if begun:
        words.append("".join(word))
    return words


def invocation(application: Application, arguments: Sequence[str]) -> Invocation:
    """Return how to start `application` on `arguments` (absolute paths, or URLs).

    `%f` and `%u` take one argument, `%F` and `%U` all; a command without any of them gets them at its end,
    as desktops do not but users expect.

    Raises:
        FormatError: the command is empty or cannot be split.
        TooManyFilesError: each argument needs a process of its own, and there are more than AT_ONCE_MAX.
    """
    words = split(application.command)
    if not words:
        raise FormatError(f"application {application.id} has an empty command")
    argv: list[str] = []
    left: tuple[str, ...] = ()
    taken = False
    for word in words:
        if word in ("%F", "%U"):
            argv.extend(arguments)  # local paths stay paths: every program takes them for %U too
            taken = True
        elif word == "%i":
            argv.extend(("--icon", application.icon) if application.icon else ())
        else:
            filled, used = _fill(word, application, arguments)
            if used:
                taken, left = True, tuple(arguments[1:])
            if filled or not _is_code(word):
                argv.append(filled)
    if not taken:
        argv.extend(arguments)
    if len(left) >= AT_ONCE_MAX:
        raise TooManyFilesError(
            f"{application.name} opens one file at a time, and {len(left) + 1} were named",
            hint=f"name at most {AT_ONCE_MAX}",
        )
    return Invocation(tuple(argv), left)


def _fill(word: str, application: Application, arguments: Sequence[str]) -> tuple[str, bool]:
    parts: list[str] = []
    used = False
    letters = iter(word)
    for letter in letters:
        if letter != "%":
            parts.append(letter)
            continue
        code = next(letters, "")
        if code == "%":
            parts.append("%")
        elif code in ("f", "u"):
            used = True
            if arguments:
                parts.append(arguments[0])
        elif code == "c":
            parts.append(application.name)
        elif code == "k":
            if application.desktop_file:
                parts.append("/" + application.desktop_file.decode("utf-8", "replace"))
        elif code in _DEPRECATED:
            continue
    return "".join(parts), used


def _is_code(word: str) -> bool:
    return len(word) == 2 and word[0] == "%"
