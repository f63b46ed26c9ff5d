"""The stack of one sample in the forms in which the peers serve it; made once and kept.

Every form holds the same files: what the packages show together, owned by the benchmark's user. Each is
packed small, which takes minutes at the lowest priority; so they are kept beside the
packages, by the packages' version ids.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samples.lock import locked
from tests.packagefiles import open_package, unpack

UID = 31001
"""The benchmark's user; its files are in images that cannot change their owner when they are mounted."""

ARCHIVE, LINKS, SQUASHFS, EROFS = "tree.tar.zst", "links.tar.zst", "tree.squashfs", "tree.erofs"
INDEX, STORE = "tree.caidx", "tree.castr"
TREE = "tree"


@dataclass(frozen=True, slots=True)
class Images:
    """The folder that holds every form asked for."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The files themselves: the native baseline."""
        return self.folder / TREE

    def form(self, name: str) -> Path:
        """Return the file or folder of one form, made if it is not there.

        Raises:
            RuntimeError: its tool failed; the message holds its last lines.
        """
        made = self.folder / name
        with locked(self.folder / f".{name}.lock"):
            if not made.exists():
                with tempfile.TemporaryDirectory(prefix=".form-", dir=self.folder) as work:
                    for built in _MAKERS[name](self.tree, Path(work)):
                        built.rename(self.folder / built.name)
        return made


def images(packages: Sequence[Path], cache: Path, say: Callable[[str], None] = print) -> Images:
    """Return the forms of the stack `packages` (bottom first), kept in `cache`; the plain tree is there."""
    opened = [open_package(path) for path in packages]
    key = hashlib.sha256(b"".join(one.package.version_id for one in opened) + str(UID).encode()).hexdigest()[
        :16
    ]
    name = packages[-1].name.split("_")[0]
    folder = cache / "forms" / f"{name}-{key}"
    for old in folder.parent.glob(f"{name}-{'[0-9a-f]' * len(key)}"):
        if old != folder:  # of packages that have been made anew since
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not (folder / TREE).exists():
            say(f"unpacking {packages[-1].name}")
            with tempfile.TemporaryDirectory(prefix=".form-", dir=folder) as work:
                tree = Path(work) / TREE
                tree.mkdir(mode=0o755)
                unpack(opened, tree)
                _tool("chown", "-hR", f"{UID}:{UID}", tree)
                tree.rename(folder / TREE)
    return Images(folder)


def _archive(tree: Path, work: Path) -> list[Path]:
    made = work / ARCHIVE
    _shell('tar -C "$1" --sort=name -cf - . | zstd -q -12 --long=27 -T0 -o "$2"', tree, made)
    return [made]


def _links(tree: Path, work: Path) -> list[Path]:
    """Symbolic links alone: what an HTTP mount of plain files cannot carry."""
    made = work / LINKS
    _shell(
        'cd "$1"; find . -type l -print0 | tar --null --no-recursion -T - -cf - | zstd -q -19 -o "$2"',
        tree,
        made,
    )
    return [made]


def _squashfs(tree: Path, work: Path) -> list[Path]:
    made = work / SQUASHFS
    _tool(
        *("mksquashfs", tree, made, "-quiet", "-no-progress", "-no-xattrs", "-noappend"),
        *("-comp", "zstd", "-Xcompression-level", "15", "-b", "128K"),
    )
    return [made]


def _erofs(tree: Path, work: Path) -> list[Path]:
    made = work / EROFS
    # Extended inodes keep each file's time, which font and icon caches are checked against.
    _tool(
        *("mkfs.erofs", "--quiet", "-x-1", "-zlz4hc,9", "-C65536"),
        *("-Eforce-inode-extended,ztailpacking", made, tree),
    )
    return [made]


def _casync(tree: Path, work: Path) -> list[Path]:
    made = [work / STORE, work / INDEX]
    _tool("casync", "make", "--with=unix", f"--store={made[0]}", made[1], tree)
    return made


_MAKERS: dict[str, Callable[[Path, Path], list[Path]]] = {
    ARCHIVE: _archive,
    LINKS: _links,
    SQUASHFS: _squashfs,
    EROFS: _erofs,
    INDEX: _casync,
}


def _shell(script: str, *words: Path) -> None:
    _tool("bash", "-o", "pipefail", "-ec", script, "bash", *words)


def _tool(*words: str | Path) -> None:
    done = subprocess.run(
        ["nice", "-n", "5", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-10:])
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{said}")
