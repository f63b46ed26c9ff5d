"""An application of a package, as its desktop entry tells it."""

from __future__ import annotations

from dataclasses import dataclass

from packageformat.encoding import Value
from packageformat.errors import FormatError
from packageformat.limits import ICONS_MAX, LABEL_MAX, PATH_MAX, TEXT_MAX, TYPES_MAX
from packageformat.names import check_application_id, check_path, check_text
from packageformat.record import Record

ICON_SIZE_MAX = 4096


@dataclass(frozen=True, slots=True)
class Icon:
    """An icon file of a package."""

    path: bytes  # in the package
    size: int  # pixels of a side; 0 is scalable

    def __post_init__(self) -> None:
        if not check_path(self.path):
            raise FormatError("an icon without a path")
        if not 0 <= self.size <= ICON_SIZE_MAX:
            raise FormatError(f"an icon of {self.size} pixels, allowed up to {ICON_SIZE_MAX}")


@dataclass(frozen=True, slots=True)
class Application:
    """What a start menu shows, and what it starts.

    `command` is the Exec line of the desktop entry as it stands there, with its field codes (%f, %U). It
    runs inside the bubble only, split by the rules of the Desktop Entry Specification, never by a shell.
    """

    id: str  # the name of its desktop file without .desktop
    name: str
    command: str
    comment: str = ""
    icon: str = ""  # a name in an icon theme, or a path
    icons: tuple[Icon, ...] = ()
    categories: tuple[str, ...] = ()
    mime_types: tuple[str, ...] = ()
    url_schemes: tuple[str, ...] = ()
    terminal: bool = False
    startup_wm_class: str = ""
    desktop_file: bytes = b""  # path in the package; empty if there is none

    def __post_init__(self) -> None:
        check_application_id(self.id)
        for text in (self.name, self.command, self.comment, self.icon, self.startup_wm_class):
            check_text(text)
        if not self.name or not self.command:
            raise FormatError(f"application {self.id} has no name or no command")
        if len(self.icons) > ICONS_MAX:
            raise FormatError(f"application {self.id} has {len(self.icons)} icons, allowed {ICONS_MAX}")
        for texts in (self.categories, self.mime_types, self.url_schemes):
            if len(texts) > TYPES_MAX:
                raise FormatError(f"application {self.id} lists {len(texts)} types, allowed {TYPES_MAX}")
            for text in texts:
                check_text(text, 4 * LABEL_MAX)
        check_path(self.desktop_file)


def application_value(application: Application) -> Value:
    """Return `application` as fields in their order (FORMAT.md, *Application*)."""
    return (
        application.id,
        application.name,
        application.command,
        application.comment,
        application.icon,
        tuple((icon.path, icon.size) for icon in application.icons),
        application.categories,
        application.mime_types,
        application.url_schemes,
        application.terminal,
        application.startup_wm_class,
        application.desktop_file,
    )


def application_of(value: Value) -> Application:
    """Return the application of a decoded, untrusted value.

    Raises:
        FormatError: it is not one.
    """
    record = Record(value, "application", 12)
    return Application(
        id=record.text(2 * LABEL_MAX),
        name=record.text(),
        command=record.text(),
        comment=record.text(),
        icon=record.text(),
        icons=tuple(_icon_of(icon) for icon in record.items(ICONS_MAX)),
        categories=record.texts(TYPES_MAX),
        mime_types=record.texts(TYPES_MAX),
        url_schemes=record.texts(TYPES_MAX),
        terminal=record.flag(),
        startup_wm_class=record.text(TEXT_MAX),
        desktop_file=record.octets(PATH_MAX),
    )


def _icon_of(value: Value) -> Icon:
    record = Record(value, "icon", 2)
    return Icon(record.octets(PATH_MAX), record.number(ICON_SIZE_MAX))
