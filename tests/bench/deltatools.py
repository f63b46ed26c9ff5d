"""Other tools that make an update small: how many bytes each would move for one pair of files."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

TIME_MAX_S = 900
MEMORY_MAX = 12 << 30


class OutOfLimitsError(Exception):
    """A tool took more time or memory than it may, or failed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, and how it is asked for the bytes of one pair of files."""

    name: str
    program: str
    bytes_of: Callable[[Path, Path, Path], int]  # old, new, folder to work in

    @property
    def installed(self) -> bool:
        """Whether this machine has it."""
        return shutil.which(self.program) is not None


def _bsdiff(old: Path, new: Path, work: Path) -> int:
    _run("bsdiff", old, new, work / "patch")
    return (work / "patch").stat().st_size


def _zstd(old: Path, new: Path, work: Path) -> int:
    # The window must hold old and new file, or the best matches are out of sight.
    size = max(old.stat().st_size + new.stat().st_size, 1 << 20)
    _run("zstd", "-q", "-f", "-19", "--single-thread", f"--long={min(31, size.bit_length())}",
         f"--patch-from={old}", new, "-o", work / "patch")  # fmt: skip
    return (work / "patch").stat().st_size


def _xdelta3(old: Path, new: Path, work: Path) -> int:
    window = max(1 << 19, old.stat().st_size + 4096)
    sizes = []
    for secondary in ("lzma", "djw"):
        _run("xdelta3", "-f", "-9", "-S", secondary, "-B", str(window), "-e", "-s", old, new, work / "patch")
        sizes.append((work / "patch").stat().st_size)
    return min(sizes)


def _casync(old: Path, new: Path, work: Path) -> int:
    stores = []
    for name, file in (("old", old), ("new", new)):
        _run("casync", "make", f"--store={work / name}.castr", work / f"{name}.caibx", file)
        stores.append({path.name: path.stat().st_size for path in (work / f"{name}.castr").glob("*/*")})
    before, after = stores
    fetched = sum(size for name, size in after.items() if name not in before)
    return fetched + (work / "new.caibx").stat().st_size


def _zsync(old: Path, new: Path, work: Path) -> int:
    """What zsync itself counts as missing, uncompressed as it fetches it, and its control file."""
    control = work / "new.zsync"
    _run("zsyncmake", "-u", "http://127.0.0.1:9/new", "-o", control, new)
    told = subprocess.run(
        ["zsync", "-i", old, "-o", work / "made", control], cwd=work, capture_output=True, text=True,
        timeout=TIME_MAX_S, check=False,
    )  # fmt: skip
    found = re.findall(r"Target (\d+(?:\.\d+)?)% complete", told.stdout + told.stderr)
    if not found:
        raise OutOfLimitsError("zsync told nothing")
    return control.stat().st_size + int(new.stat().st_size * (100 - float(found[-1])) / 100)


def _run(*command: str | Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_MAX_S, preexec_fn=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OutOfLimitsError(f"more than {TIME_MAX_S} s") from error
    if done.returncode:
        raise OutOfLimitsError(done.stderr.strip().splitlines()[-1][:80] if done.stderr.strip() else "failed")


BEST = (
    Tool("bsdiff", "bsdiff", _bsdiff),
    Tool("zstd -19 patch-from", "zstd", _zstd),
    Tool("xdelta3 -9", "xdelta3", _xdelta3),
)
"""Those that an update is compared with: of each pair the smallest counts."""

OTHERS = (Tool("casync", "casync", _casync), Tool("zsync", "zsync", _zsync))


class Remembered:
    """What the tools gave, by tool and content: the same bytes give the same patch, and bsdiff is slow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def bytes_of(self, tool: Tool, old: Path | None, new: Path) -> int:
        """Return the bytes that a tool would move for one file.

        Raises:
            OutOfLimitsError: it could not.
        """
        contents = [b"" if file is None else file.read_bytes() for file in (old, new)]
        name = sha256(b"".join(sha256(content).digest() for content in contents)).hexdigest()[:32]
        kept = self._folder / f"{tool.program}-{name}"
        if not kept.exists():
            with tempfile.TemporaryDirectory(prefix="millstream-update-") as folder:
                work = Path(folder)
                copies = [work / "from", work / "to"]  # a tool that stores names stores the same for all
                for copy, content in zip(copies, contents, strict=True):
                    copy.write_bytes(content)
                try:
                    result = str(tool.bytes_of(*copies, work))
                except OutOfLimitsError as error:
                    result = str(error)
            kept.write_text(result)
        result = kept.read_text()
        if not result.isdigit():
            raise OutOfLimitsError(result)
        return int(result)
