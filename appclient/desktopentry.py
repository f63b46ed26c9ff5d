"""The desktop entry that a published application gets. Pure: values in, text out.

https://specifications.freedesktop.org/desktop-entry-spec/latest/
"""

from __future__ import annotations

from collections.abc import Sequence

from packageformat.application import Application

PREFIX = "millstream-"
"""In front of the names of all desktop entries and icons that the client makes."""

MARK = "X-Millstream-Package"
"""The key that tells our entries from others of the same name."""


def file_name(application: Application) -> str:
    """Return the name of the application's desktop file."""
    return f"{PREFIX}{application.id}.desktop"


def icon_name(application: Application) -> str:
    """Return the name of the application's icons, in any size, without a suffix."""
    return f"{PREFIX}{application.id}"


def entry_text(application: Application, package: str, program: Sequence[str], *, has_icons: bool) -> str:
    """Return the desktop entry's text.

    Args:
        application: the published application; its texts hold no control characters.
        package: the name of its package.
        program: the command line of appclient, absolute.
        has_icons: whether icons under `icon_name` are installed; else a themed name is kept.
    """
    schemes = tuple(f"x-scheme-handler/{scheme}" for scheme in application.url_schemes)
    themed = (
        application.icon if application.icon and "/" not in application.icon else "application-x-executable"
    )
    lines = [
        "[Desktop Entry]",
        "Type=Application",
        "Version=1.5",
        f"Name={_text(application.name)}",
        f"Comment={_text(application.comment)}" if application.comment else "",
        f"Exec={_command((*program, 'run', application.id))} {files_code(application)}".rstrip(),
        f"TryExec={_text(program[0])}",
        f"Icon={icon_name(application) if has_icons else _text(themed)}",
        f"Categories={_list(application.categories)}" if application.categories else "",
        f"MimeType={_list((*application.mime_types, *schemes))}" if application.mime_types or schemes else "",
        f"Terminal={'true' if application.terminal else 'false'}",
        f"StartupWMClass={_text(application.startup_wm_class)}" if application.startup_wm_class else "",
        "StartupNotify=true",
        f"{MARK}={_text(package)}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def files_code(application: Application) -> str:
    """Return the field code for what the application takes: the one of its own command, or %U."""
    for code in ("%U", "%F", "%u", "%f"):
        if code in application.command.replace("%%", ""):
            return code
    return "%U" if application.mime_types or application.url_schemes else ""


def _command(words: Sequence[str]) -> str:
    return " ".join(_text(_quoted(word)) for word in words)


def _quoted(word: str) -> str:
    word = word.replace("%", "%%")
    if not any(letter in " \t\"'\\><~|&;$*?#()`" for letter in word):
        return word
    for letter in '\\"`$':
        word = word.replace(letter, "\\" + letter)
    return f'"{word}"'


def _text(text: str) -> str:
    text = text.replace("\\", "\\\\")
    return "\\s" + text[1:] if text.startswith(" ") else text


def _list(items: Sequence[str]) -> str:
    return "".join(_text(item).replace(";", "\\;") + ";" for item in items)
