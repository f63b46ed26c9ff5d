"""Package files on this machine: opened, looked for, stacked."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from packageformat.errors import FormatError
from packageformat.package import Package, PackageParser
from sequencer.errors import RecipeError, StorageError

SUFFIX = ".ovp"


class PackageFile:
    """An open package file: its verified head, and its frames as they are stored (untrusted)."""

    def __init__(self, path: Path, descriptor: int, package: Package) -> None:
        self.path = path
        self.package = package
        self._descriptor = descriptor

    def frame(self, frame: int) -> bytes:
        """Return the stored bytes of a frame, not verified.

        Raises:
            StorageError: the file cannot be read.
        """
        offset, size = self.package.frame_extent(frame)
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def open_package_file(path: Path, trusted: Collection[bytes] | None = None) -> PackageFile:
    """Open the package at `path`, verified up to its publisher's signature.

    Args:
        path: a file.
        trusted: public keys of publishers, or None for any.

    Raises:
        FormatError: (or one of its kinds) it is damaged, or not a package.
        StorageError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", hint="name a package file (.ovp)"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            os.close(descriptor)
            raise StorageError(f"{path} is {kind}, not a file", hint="name a package file (.ovp)")
        parser = PackageParser(status.st_size, trusted=trusted)
        while wanted := parser.needs():
            for offset, size in wanted:
                data = os.pread(descriptor, size, offset)
                if not data:
                    raise FormatError("it is cut short")  # noqa: TRY301 - becomes ours below
                parser.feed(offset, data)
        package = parser.package
        assert package is not None
    except OSError as error:
        os.close(descriptor)
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except FormatError as error:
        os.close(descriptor)
        raise type(error)(f"{path}: {error}", hint=error.hint) from error
    return PackageFile(path, descriptor, package)


def open_package(path: Path, trusted: Collection[bytes] | None = None) -> Package:
    """Return the verified head of the package at `path` (see `open_package_file`)."""
    file = open_package_file(path, trusted)
    file.close()
    return file.package


def newest(folder: Path, name: str) -> Path:
    """Return the package `name` in `folder` that was built last.

    Raises:
        RecipeError: there is none.
    """
    found: list[tuple[int, Path]] = []
    for path in folder.glob(f"{name}_*{SUFFIX}"):
        found.append((path.stat().st_mtime_ns, path))
    if not found:
        raise RecipeError(
            f"no package {name} in {folder}",
            hint="build the base first, or say where it lies: --packages DIR or --base FILE",
        )
    return max(found)[1]


def open_stack(top: PackageFile, folders: Collection[Path]) -> list[PackageFile]:
    """Return the packages that `top` requires, bottom first, and itself last, from files in `folders`.

    Raises:
        RecipeError: one is not there.
    """
    wanted = top.package.manifest.requires
    found: dict[bytes, PackageFile] = {}
    for folder in folders:
        if len(found) == len(wanted):
            break
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if len(found) == len(wanted):
                break
            try:
                file = open_package_file(path)
            except (FormatError, StorageError):
                continue  # a damaged neighbour is not ours to judge
            if file.package.version_id in wanted and file.package.version_id not in found:
                found[file.package.version_id] = file
            else:
                file.close()
    for version in wanted:
        if version not in found:
            for file in found.values():
                file.close()
            raise RecipeError(
                f"{top.path.name} requires the package {version.hex()[:16]}…, which is not in "
                f"{', '.join(str(folder) for folder in folders)}",
                hint="say where it lies: --packages DIR",
            )
    return [*(found[version] for version in wanted), top]
