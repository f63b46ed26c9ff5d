"""The scan of a captured folder: overlayfs's upper, or a whole system, as nodes of a tree.

Runs in the enclosure, where owners come out as the installed system has them. What overlayfs adds of its
own is taken out again: marks in extended attributes, opaque marks on folders that are simply new, files
copied up and then left as they were.
"""

# Raw names, which need not be text:
# ruff: noqa: PTH115, PTH118, PTH123
from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from packageformat.errors import FormatError
from packageformat.limits import DEPTH_MAX, FILE_SIZE_MAX
from packageformat.names import check_component, check_path
from packageformat.tree import Kind, Node
from sequencer.errors import InstallError
from sequencer.exclusions import Exclusions

OVERLAY_MARKS = (b"user.overlay.", b"trusted.overlay.")
KEPT_ATTRIBUTES = (b"user.", b"system.posix_acl_")
COMPARED_AT_ONCE = 1 << 20


@dataclass(slots=True)
class Findings:
    """What a scan saw beside the files it takes. Paths are text, odd bytes escaped."""

    excluded: list[str] = field(default_factory=list)  # topmost paths that were left out
    excluded_bytes: int = 0
    unchanged: int = 0  # files that were copied up and are as in the base
    special: list[str] = field(default_factory=list)  # devices, sockets, pipes: left out
    refused: list[str] = field(default_factory=list)  # names that the format does not allow: left out
    set_id: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)  # file capabilities: dropped
    attributes_dropped: list[str] = field(default_factory=list)
    whiteouts: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    opaque_spurious: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A folder under scan."""

    path: bytes  # from the root; empty is the root
    real: bytes  # where it lies now
    base: bytes  # where the folder of the base below it lies; empty: there is none


class Scan:
    """One scan of `upper` over `base`; `nodes` and `findings` are its results."""

    def __init__(self, upper: bytes, base: bytes, exclusions: Exclusions) -> None:
        self.nodes: dict[bytes, Node] = {}
        self.findings = Findings()
        self._exclusions = exclusions
        self._first_names: dict[int, bytes] = {}  # inode of a file with several names: the first
        self._scan(Place(b"", upper, base))

    def _scan(self, place: Place) -> bool:
        """Take in a folder; tell whether anything was left out of it or of what is below it."""
        status = os.lstat(place.real)
        opaque = bool(place.base) and _is_opaque(place.real)
        inner_base = b"" if opaque else place.base
        left_out = False
        count_before = len(self.nodes)
        self.nodes[place.path] = self._node(place.path, place.real, status, opaque=opaque)
        for entry in sorted(os.scandir(place.real), key=lambda found: found.name):
            path = place.path + b"/" + entry.name if place.path else entry.name
            left_out |= self._take(entry, path, inner_base)
        if opaque:
            self.findings.opaque.append(_text(place.path))
        elif _is_opaque(place.real):
            self.findings.opaque_spurious += 1
        if (
            place.path
            and place.base
            and not opaque
            and len(self.nodes) == count_before + 1
            and self._is_base_folder(place, status, ignore_mtime=left_out)
        ):
            del self.nodes[place.path]
        return left_out

    def _take(self, entry: os.DirEntry[bytes], path: bytes, base: bytes) -> bool:
        """Take in one entry; tell whether it, or something below it, was left out."""
        status = entry.stat(follow_symlinks=False)
        if self._exclusions.excludes(path):
            self.findings.excluded.append(_text(path))
            self.findings.excluded_bytes += _bytes_below(entry.path, status)
            return True
        try:
            check_component(entry.name)
        except FormatError:
            self.findings.refused.append(_text(path))
            return True
        _check_path(path)
        below = os.path.join(base, entry.name) if base else b""
        below_status = _status(below) if below else None
        mode = status.st_mode
        if _is_whiteout(entry.path, status):
            if below_status is not None:
                self.nodes[path] = Node(Kind.WHITEOUT)
                self.findings.whiteouts.append(_text(path))
            return False
        if stat.S_ISDIR(mode):
            under = below if below_status is not None and stat.S_ISDIR(below_status.st_mode) else b""
            return self._scan(Place(path, entry.path, under))
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            self.findings.special.append(_text(path))
            return True
        if below_status is not None and self._is_unchanged(entry.path, status, below, below_status):
            self.findings.unchanged += 1
            return True
        if stat.S_ISREG(mode) and status.st_nlink > 1:
            first = self._first_names.setdefault(status.st_ino, path)
            if first != path:
                self.nodes[path] = Node(Kind.HARDLINK, target=first)
                return False
        self.nodes[path] = self._node(path, entry.path, status)
        return False

    def _node(self, path: bytes, real: bytes, status: os.stat_result, *, opaque: bool = False) -> Node:
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            return Node(
                Kind.SYMLINK, mode, status.st_uid, status.st_gid, status.st_mtime_ns, target=os.readlink(real)
            )
        folder = stat.S_ISDIR(status.st_mode)
        try:
            return self._made(path, real, status, folder=folder, opaque=opaque)
        except FormatError as error:
            raise _unpackable(path, str(error)) from error

    def _made(self, path: bytes, real: bytes, status: os.stat_result, *, folder: bool, opaque: bool) -> Node:
        mode = stat.S_IMODE(status.st_mode)
        if not folder and status.st_size > FILE_SIZE_MAX:
            raise _unpackable(path, f"a file of {status.st_size:,} bytes, at most {FILE_SIZE_MAX:,} may be")
        if not folder and mode & (stat.S_ISUID | stat.S_ISGID):
            self.findings.set_id.append(f"{mode:04o} {_text(path)}")
        return Node(
            Kind.FOLDER if folder else Kind.FILE,
            mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            size=0 if folder else status.st_size,
            xattrs=self._attributes(path, real),
            opaque=opaque,
        )

    def _attributes(self, path: bytes, real: bytes) -> tuple[tuple[bytes, bytes], ...]:
        found: list[tuple[bytes, bytes]] = []
        for text in os.listxattr(real, follow_symlinks=False):
            name = os.fsencode(text)
            if name.startswith(OVERLAY_MARKS):
                continue
            if name == b"security.capability":
                self.findings.capabilities.append(_text(path))
            elif name.startswith(KEPT_ATTRIBUTES):
                found.append((name, os.getxattr(real, name, follow_symlinks=False)))
            else:
                self.findings.attributes_dropped.append(f"{text} of {_text(path)}")
        return tuple(sorted(found))

    def _is_base_folder(self, place: Place, status: os.stat_result, *, ignore_mtime: bool) -> bool:
        below = os.lstat(place.base)
        same_time = ignore_mtime or below.st_mtime_ns == status.st_mtime_ns
        return same_time and _same_owner(below, status) and _marks(place.real) == _marks(place.base)

    def _is_unchanged(
        self, real: bytes, status: os.stat_result, below: bytes, below_status: os.stat_result
    ) -> bool:
        if not _same_owner(status, below_status) or status.st_mtime_ns != below_status.st_mtime_ns:
            return False
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(real) == os.readlink(below)
        return (
            status.st_size == below_status.st_size
            and status.st_nlink == below_status.st_nlink
            and _marks(real) == _marks(below)
            and _same_content(real, below)
        )


def _check_path(path: bytes) -> None:
    try:
        check_path(path)
    except FormatError as error:
        raise _unpackable(path, str(error)) from error
    if path.count(b"/") >= DEPTH_MAX:
        raise _unpackable(path, f"folders nest deeper than {DEPTH_MAX}")


def _unpackable(path: bytes, why: str) -> InstallError:
    """Return the error of an installation that made what no package can hold."""
    text = _text(path)
    shown = text if len(text) <= 200 else f"{text[:100]}…{text[-99:]}"
    return InstallError(f"cannot be packaged: {shown}: {why}", hint="leave it out by [exclude] in the recipe")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_opaque(folder: bytes) -> bool:
    try:
        return os.getxattr(folder, b"user.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _is_whiteout(path: bytes, status: os.stat_result) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        return "user.overlay.whiteout" in os.listxattr(path, follow_symlinks=False)
    return False


def _same_owner(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _marks(path: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not os.fsencode(name).startswith(OVERLAY_MARKS)
    }


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb") as mine, open(other, "rb") as theirs:
        while True:
            part = mine.read(COMPARED_AT_ONCE)
            if part != theirs.read(COMPARED_AT_ONCE):
                return False
            if not part:
                return True


def _bytes_below(path: bytes, status: os.stat_result) -> int:
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            found = _status(os.path.join(folder, name))
            if found is not None and stat.S_ISREG(found.st_mode):
                total += found.st_size
    return total
