"""Names that cannot climb out: components, paths, labels, and texts for people."""

from __future__ import annotations

import re

from packageformat.errors import FormatError
from packageformat.limits import DESCRIPTION_MAX, LABEL_MAX, NAME_MAX, PATH_MAX, TEXT_MAX

_LABEL = re.compile(r"[a-z0-9][a-z0-9.+~_-]*", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*", re.ASCII)
_APPLICATION_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*", re.ASCII)
_NEVER_SHOWN = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"  # the last two: bidirectional overrides
_CONTROL = re.compile(rf"[\x00-\x1f{_NEVER_SHOWN}]")
_CONTROL_BUT_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_NEVER_SHOWN}]")


def check_component(name: bytes) -> bytes:
    """Return `name` if it is one component of a path: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.

    Raises:
        FormatError: it is not.
    """
    if not 0 < len(name) <= NAME_MAX:
        raise FormatError(f"a name of {len(name)} bytes, allowed 1 to {NAME_MAX}")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise FormatError(f"a name that would climb out of its folder: {name!r}")
    return name


def check_path(path: bytes) -> tuple[bytes, ...]:
    """Return the components of `path`, relative to the root of a package; the root itself is `b""`.

    Raises:
        FormatError: a component is not one, or the path is too long.
    """
    if not path:
        return ()
    if len(path) > PATH_MAX:
        raise FormatError(f"a path of {len(path)} bytes, allowed up to {PATH_MAX}")
    return tuple(check_component(name) for name in path.split(b"/"))


def _check_pattern(text: str, pattern: re.Pattern[str], what: str, most: int) -> str:
    if len(text) > most or not pattern.fullmatch(text):
        raise FormatError(f"not a {what}: {text[:most]!r}")
    return text


def check_label(text: str) -> str:
    """Return `text` if it is a label: the name of a package, a server's user and the like.

    Raises:
        FormatError: it is not of the shape `[a-z0-9][a-z0-9.+~_-]{0,63}`.
    """
    return _check_pattern(text, _LABEL, "label", LABEL_MAX)


def check_version(text: str) -> str:
    """Return `text` if it is a package's version: a label that may have capital letters.

    Raises:
        FormatError: it is not.
    """
    return _check_pattern(text, _VERSION, "version", LABEL_MAX)


def check_application_id(text: str) -> str:
    """Return `text` if it is an application's id: the name of a desktop file without `.desktop`.

    Raises:
        FormatError: it is not of the shape `[A-Za-z0-9_][A-Za-z0-9._+@-]{0,127}`.
    """
    return _check_pattern(text, _APPLICATION_ID, "application id", 2 * LABEL_MAX)


def check_text(text: str, most: int = TEXT_MAX) -> str:
    """Return `text` if it is one line for people: no control characters, nothing that turns it
    around (U+202A to U+202E, U+2066 to U+2069), at most `most` UTF-8 bytes.

    Raises:
        FormatError: it is not.
    """
    if _CONTROL.search(text) or len(_utf8(text)) > most:
        raise FormatError(f"not a line of text of up to {most} bytes: {text[:80]!r}")
    return text


def check_description(text: str) -> str:
    """Return `text` if it is lines for people: as `check_text`, but with tab and newline.

    Raises:
        FormatError: it is not.
    """
    if _CONTROL_BUT_LINES.search(text) or len(_utf8(text)) > DESCRIPTION_MAX:
        raise FormatError(f"not a description of up to {DESCRIPTION_MAX} bytes: {text[:80]!r}")
    return text


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatError(f"not Unicode text: {text[:80]!r}") from error
