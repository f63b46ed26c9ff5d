"""Applications as captured desktop files tell them (Desktop Entry Specification), with their icons.

Pure: works on a tree and on the text of its desktop files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from packageformat.application import Application, Icon
from packageformat.errors import FormatError
from packageformat.limits import APPLICATIONS_MAX, ICONS_MAX
from packageformat.tree import Kind, Tree

FOLDERS = (b"usr/share/applications", b"usr/local/share/applications")
DESKTOP_FILE_MAX = 1 << 20
THEME_FOLDERS = (b"usr/share/icons/hicolor/", b"usr/local/share/icons/hicolor/")
PIXMAP_FOLDERS = (b"usr/share/pixmaps/", b"usr/local/share/pixmaps/", b"usr/share/app-install/icons/")
LINKS_MAX = 40
ICON_SUFFIXES = (b".png", b".svg", b".xpm", b".svgz")
SCHEME = "x-scheme-handler/"
_SIZE = re.compile(rb"/(\d{1,4})x\1(?:@(\d))?/")


def desktop_files(tree: Tree) -> list[int]:
    """Return the entries of a tree that are desktop files of applications, in order."""
    found: list[int] = []
    for folder in FOLDERS:
        index = tree.find(folder)
        if index is not None:
            found.extend(
                child
                for child in tree.children(index)
                if tree.kinds[child] in (Kind.FILE, Kind.HARDLINK)
                and tree.names[child].endswith(b".desktop")
                and tree.file_size(child) <= DESKTOP_FILE_MAX
            )
    return found


def parse_desktop_file(text: str) -> dict[str, str]:
    """Return the keys of the group [Desktop Entry], without the translated ones."""
    keys: dict[str, str] = {}
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == "[Desktop Entry]"
        elif inside and line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if equals and "[" not in key:
                keys.setdefault(key.strip(), value.strip())
    return keys


def icons_of(tree: Tree) -> dict[str, list[Icon]]:
    """Return the icon files in a tree, by the name that a desktop file would use.

    Links are followed: an icon's path is that of its file, its size what the first name promises.
    """
    found: dict[str, list[Icon]] = {}
    for index, path in enumerate(tree.paths()):
        themed = path.startswith(THEME_FOLDERS) and b"/apps/" in path
        if not path.endswith(ICON_SUFFIXES) or not (themed or path.startswith(PIXMAP_FOLDERS)):
            continue
        real = follow(tree, path)
        if real is not None:
            stem = tree.names[index].rpartition(b".")[0].decode("utf-8", "replace")
            found.setdefault(stem, []).append(Icon(real, icon_size(path)))
    return found


def follow(tree: Tree, path: bytes) -> bytes | None:
    """Return the path of the file that `path` is or leads to inside the tree, or None."""
    parts = path.split(b"/")
    done: list[bytes] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            del done[-1:]
            continue
        index = tree.find(b"/".join((*done, part)))
        if index is None:
            return None
        if tree.kinds[index] == Kind.SYMLINK:
            links += 1
            target = tree.target(index)
            if links > LINKS_MAX:
                return None
            if target.startswith(b"/"):
                done = []
            parts = target.split(b"/") + parts
        else:
            done.append(part)
    real = b"/".join(done)
    index = tree.find(real)
    return real if index is not None and tree.kinds[index] in (Kind.FILE, Kind.HARDLINK) else None


def icon_size(path: bytes) -> int:
    """Return the pixels of a side that an icon's path promises; 0 for a scalable one or an unknown size."""
    if path.endswith((b".svg", b".svgz")):
        return 0
    match = _SIZE.search(path)
    if match is None:
        return 48 if path.startswith(b"usr/share/pixmaps/") else 0  # the size that pixmaps have by custom
    return min(4096, int(match.group(1)) * int(match.group(2) or 1))


def applications_of(tree: Tree, texts: Mapping[int, str]) -> tuple[tuple[Application, ...], list[str]]:
    """Return the applications of a tree, and a line about each desktop file that is none.

    Args:
        tree: the captured layer.
        texts: the text of each of its desktop files, by entry.
    """
    icons = icons_of(tree)
    found: dict[str, Application] = {}
    notes: list[str] = []
    for index, text in texts.items():
        path = tree.path(index)
        name = path.decode("utf-8", "replace")
        keys = parse_desktop_file(text)
        if keys.get("Type", "Application") != "Application":
            notes.append(f"{name}: not an application but {keys['Type']!r}")
            continue
        if "true" in (keys.get("NoDisplay", "").lower(), keys.get("Hidden", "").lower()):
            notes.append(f"{name}: not shown in menus")
            continue
        try:
            application = _application(tree, path, keys, icons)
        except FormatError as error:
            notes.append(f"{name}: {error}")
            continue
        if application.id in found or len(found) == APPLICATIONS_MAX:
            notes.append(f"{name}: a second one of this id, or one too many")
        else:
            found[application.id] = application
    return tuple(found.values()), notes


def _application(
    tree: Tree, path: bytes, keys: Mapping[str, str], icons: Mapping[str, list[Icon]]
) -> Application:
    icon = keys.get("Icon", "")
    if icon.startswith("/"):
        real = follow(tree, icon.encode("utf-8", "surrogateescape"))
        files = [Icon(real, icon_size(real))] if real is not None else []
    else:
        plain = re.sub(r"\.(png|svg|xpm)$", "", icon)
        files = list(dict.fromkeys(icons.get(icon, []) + (icons.get(plain, []) if plain != icon else [])))
    files.sort(key=lambda one: (one.size, one.path))
    types = _list(keys.get("MimeType", ""))
    return Application(
        id=path.rpartition(b"/")[2].removesuffix(b".desktop").decode("utf-8", "replace"),
        name=_unescape(keys.get("Name", "")),
        command=keys.get("Exec", ""),
        comment=_unescape(keys.get("Comment", "")),
        icon=icon,
        icons=tuple(files[:ICONS_MAX]),
        categories=_list(keys.get("Categories", "")),
        mime_types=tuple(one for one in types if not one.startswith(SCHEME)),
        url_schemes=tuple(one.removeprefix(SCHEME) for one in types if one.startswith(SCHEME)),
        terminal=keys.get("Terminal", "").lower() == "true",
        startup_wm_class=keys.get("StartupWMClass", ""),
        desktop_file=path,
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _unescape(text: str) -> str:
    return text.replace("\\s", " ").replace("\\n", " ").replace("\\t", " ").replace("\\\\", "\\")
