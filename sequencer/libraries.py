"""Shared libraries that captured programs need and nobody brings. The one door to pyelftools."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

DEFAULT_FOLDERS = (
    "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu",
    "lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib", "usr/local/lib/x86_64-linux-gnu",
)  # fmt: skip
ELF_MAGIC = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Needs:
    """What one program or library asks the dynamic linker for."""

    libraries: tuple[str, ...]
    folders: tuple[str, ...]  # RPATH and RUNPATH, $ORIGIN left in
    name: str = ""  # SONAME


def needs_of(file: BinaryIO) -> Needs | None:
    """Return what the ELF file needs, or None if it is not one that is linked dynamically."""
    try:
        elf = ELFFile(file)
        libraries: list[str] = []
        folders: list[str] = []
        name = ""
        for segment in elf.iter_segments("PT_DYNAMIC"):
            for tag in cast("Any", segment).iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    libraries.append(str(tag.needed))
                elif tag.entry.d_tag == "DT_SONAME":
                    name = str(tag.soname)
                elif tag.entry.d_tag == "DT_RPATH":
                    folders.extend(str(tag.rpath).split(":"))
                elif tag.entry.d_tag == "DT_RUNPATH":
                    folders.extend(str(tag.runpath).split(":"))
            return Needs(tuple(libraries), tuple(folders), name)
    except (ELFError, ValueError, KeyError, IndexError, AttributeError, OSError, UnicodeDecodeError):
        return None  # a broken or foreign file is data to us
    return None


def configured_folders(texts: Iterable[str]) -> list[str]:
    """Return the folders that files of /etc/ld.so.conf.d name, without a leading `/`."""
    found: list[str] = []
    for text in texts:
        for line in text.splitlines():
            folder = line.partition("#")[0].strip()
            if folder.startswith("/"):
                found.append(folder.strip("/"))
    return found


def missing_libraries(
    needs: Mapping[str, Needs], exists: Callable[[str], bool], configured: Iterable[str]
) -> dict[str, list[str]]:
    """Return the libraries that are nowhere, each with the files that need it.

    Args:
        needs: by path, without a leading `/`.
        exists: whether a path is there, links followed, in package and base together.
        configured: folders of ld.so.conf.d.
    """
    folders = [*configured, *DEFAULT_FOLDERS]
    # A library inside the package counts wherever it lies: programs load their own by paths of their own.
    inside = {posixpath.basename(path) for path in needs} | {one.name for one in needs.values()}
    known: dict[str, bool] = {}
    missing: dict[str, list[str]] = {}
    for path, need in needs.items():
        own = [
            folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", "/" + posixpath.dirname(path))
            for folder in need.folders
        ]
        for library in need.libraries:
            if library not in known:
                known[library] = (
                    library in inside
                    or ("/" in library and exists(library.lstrip("/")))
                    or any(exists(f"{folder}/{library}") for folder in folders)
                )
            if not known[library] and not any(
                exists(posixpath.normpath(f"{folder}/{library}").lstrip("/")) for folder in own
            ):
                missing.setdefault(library, []).append(path)
    return missing
