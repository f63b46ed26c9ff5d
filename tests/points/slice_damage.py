"""Point 6: one byte flipped, wherever bytes are kept: named, never served, and healed where it can be."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from packageformat.entry import Kind
from packageformat.errors import FormatError
from packageformat.launchpack import PackExtent, PackLayer, PackReader
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.package import Section
from packageformat.packbuild import PackSource, build_pack
from tests.packagefiles import PackageFile, open_package
from tests.points.outcome import Outcome
from tests.stage import Stage, stage

WHOLE = "sha256sum /{path}\n"
BEGINNING = "head -c 4096 /{path} | sha256sum\n"
PACK_FLIPS = 500


@dataclass(frozen=True, slots=True)
class Target:
    """A large file of the runtime package that the shell does not need, and its true content."""

    path: str
    entry: int
    content: bytes
    packed: PackageFile

    @property
    def sum(self) -> str:
        """SHA-256 of the whole."""
        return hashlib.sha256(self.content).hexdigest()


def flipped_bytes(outcome: Outcome, artefacts: Path) -> None:
    """Cache (whole, half filled), stored package, pack, index, signature; the client's own index too."""
    with stage("millstream-show") as on:
        base = on.publish("probe-one")[0]
        on.sign_in()
        target = large_file(open_package(base))
        outcome.figures["file"] = f"{target.path} ({len(target.content)} bytes)"
        whole, beginning = on.user.home / "whole.sh", on.user.home / "beginning.sh"
        whole.write_text(WHOLE.format(path=target.path))
        beginning.write_text(BEGINNING.format(path=target.path))
        for script in (whole, beginning):
            on.user.give(script)
        _whole_cached_block(on, outcome, target, whole)
        _half_filled(on, outcome, target, whole, beginning)
        _kept_index(on, outcome, target, whole)
        _stored_package(on, outcome, target, whole)
        _imported(on, outcome, base)
        log = on.user.home / ".local/state/millstream/agent.log"
        if log.exists():
            shutil.copyfile(log, artefacts / "agent.log")
        _pack(outcome, target)


def large_file(packed: PackageFile) -> Target:
    """Return the largest file of several blocks that no shell maps."""
    tree = packed.package.tree
    needed = ("libc.so", "ld-linux", "/dash", "/sh", "sha256sum", "libcrypto", "libtinfo", "/bash", "/head")
    sizes = [
        (tree.file_size(index), index)
        for index in range(len(tree))
        if tree.kinds[index] == Kind.FILE and not any(word in tree.path(index).decode() for word in needed)
    ]
    size, entry = max(sizes)
    blocks: dict[bytes, bytes] = {}
    wanted = packed.package.block_ids_of(entry)
    names = [wanted[at : at + 32] for at in range(0, len(wanted), 32)]
    for frame in packed.frames():
        for block, plain in frame:
            if packed.package.block_id(block) in names:
                blocks[packed.package.block_id(block)] = plain
    content = b"".join(blocks[name] for name in names)
    assert len(content) == size
    return Target(tree.path(entry).decode(), entry, content, packed)


def flip(path: Path, offset: int) -> None:
    """Flip one bit of one byte in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def _read(on: Stage, script: Path) -> tuple[int, str, str]:
    done = on.visit.appclient("run", "probe-one", script, timeout_s=200, check=False)
    return done.returncode, done.stdout.split()[0] if done.stdout.split() else "", done.stderr.strip()


def _logged(on: Stage, since: int) -> str:
    log = on.user.home / ".local/state/millstream/agent.log"
    return log.read_text(errors="replace")[since:] if log.exists() else ""


def _log_size(on: Stage) -> int:
    return len(_logged(on, 0))


def _cached(on: Stage, target: Target) -> Path:
    name = target.packed.package.content_id(target.entry).hex()
    return on.user.home / ".cache/millstream/files" / name[:2] / name[2:]


def _whole_cached_block(on: Stage, outcome: Outcome, target: Target, whole: Path) -> None:
    on.forget()
    outcome.require("undamaged, it reads right", _read(on, whole)[1] == target.sum)
    on.visit.leave()
    place = _cached(on, target)
    outcome.require("it is wholly in the cache", place.exists() and not Path(f"{place}.map").exists(), place)
    flip(place, len(target.content) // 2)
    since = _log_size(on)
    status, seen, said = _read(on, whole)
    outcome.require("a whole cached block: never served", seen == target.sum, (status, seen, said))
    outcome.require("a whole cached block: named", "damaged" in _logged(on, since), _logged(on, since))
    on.visit.leave()
    outcome.require("a whole cached block: healed by itself", place.read_bytes() == target.content)
    flip(place, len(target.content) // 2)
    checked = on.visit.appclient("cache", "verify", timeout_s=300, check=False)
    told = checked.stdout + checked.stderr
    outcome.require("'cache verify' names it", place.name[:12] in told or target.path in told, told)
    outcome.require("and after it the file reads right", _read(on, whole)[1] == target.sum)


def _half_filled(on: Stage, outcome: Outcome, target: Target, whole: Path, beginning: Path) -> None:
    on.forget()
    _read(on, beginning)
    on.visit.leave()
    place = _cached(on, target)
    if not outcome.require("it is half in the cache", Path(f"{place}.map").exists(), place):
        return
    flip(place, 100)
    since = _log_size(on)
    true_beginning = hashlib.sha256(target.content[:4096]).hexdigest()
    status, seen, said = _read(on, beginning)
    outcome.require("a half-filled file: never served", seen == true_beginning, (status, seen, said))
    outcome.require("a half-filled file: named", "damaged" in _logged(on, since), _logged(on, since))
    outcome.require("a half-filled file: the whole reads right", _read(on, whole)[1] == target.sum)


def _kept_index(on: Stage, outcome: Outcome, target: Target, whole: Path) -> None:
    """The head of a package that the client keeps."""
    on.visit.leave()
    version = target.packed.package.version_id.hex()
    heads = list((on.user.home / ".cache/millstream/versions" / version).glob("*.head"))
    if not outcome.require("the client keeps the index", len(heads) == 1, heads):
        return
    flip(heads[0], heads[0].stat().st_size // 2)
    since = _log_size(on)
    shutil.rmtree(on.user.home / ".cache/millstream/views", ignore_errors=True)
    status, seen, said = _read(on, whole)
    outcome.require("the client's index: healed", seen == target.sum, (status, seen, said))
    outcome.require("the client's index: named", "damaged" in _logged(on, since), _logged(on, since))


def _stored_package(on: Stage, outcome: Outcome, target: Target, whole: Path) -> None:
    """On the server: a frame, the index, the signature, and every other section."""
    package = target.packed.package
    digest = hashlib.sha256(target.packed.path.read_bytes()).hexdigest()
    stored = next(path for path in on.service.folder.rglob("*") if path.is_file() and digest in path.name)
    mode = stored.stat().st_mode
    stored.chmod(0o600)
    frame = package.layout.frame_of(package.tree.first_block(target.entry) + 1)
    places = {"a frame of the stored package": sum(package.frame_extent(frame)) - 7}
    for section, name in (
        (Section.TREE, "the index (tree)"),
        (Section.BLOCK_IDS, "the index (block ids)"),
        (Section.LAYOUT, "the index (layout)"),
        (Section.SIGNATURE, "the signature"),
        (Section.MANIFEST, "the manifest"),
    ):
        extent = package.header.sections[section]
        places[name] = extent.offset + extent.stored_size // 2
    for name, offset in places.items():
        on.forget()
        flip(stored, offset)
        since = _log_size(on)
        try:
            status, seen, said = _read(on, whole)
        finally:
            flip(stored, offset)
        outcome.require(f"{name}: never served", seen == "", (status, seen, said))
        outcome.require(f"{name}: the run fails, with one clear line or the program's own", status != 0, said)
        told = f"{said}\n{_logged(on, since)}"
        outcome.require(f"{name}: no traceback", "Traceback" not in told, told)
        named = ("damaged", "signature", "digest", "not what", "does not")
        outcome.require(f"{name}: named", any(word in told for word in named), told)
        outcome.figures.setdefault("said", {})[name] = (
            (said or told).splitlines()[-1][:300] if told.strip() else ""
        )
    on.forget()
    outcome.require("put back, it reads right", _read(on, whole)[1] == target.sum)
    stored.chmod(mode)


def _imported(on: Stage, outcome: Outcome, base: Path) -> None:
    """The server takes no damaged package in."""
    copy = on.folder / "copy.ovp"
    package = open_package(base).package
    randomness = random.Random(6)
    spans = {section.name.lower(): extent for section, extent in package.header.sections.items()}
    for name, extent in spans.items():
        shutil.copyfile(base, copy)
        flip(copy, extent.offset + randomness.randrange(extent.stored_size))
        done = on.service.attempt("import", copy)
        outcome.require(f"import refuses a flip in {name}", done.returncode in range(10, 14), done.stderr)
        outcome.require(f"in one line ({name})", len(done.stderr.strip().splitlines()) == 1, done.stderr)
    copy.unlink()


def _pack(outcome: Outcome, target: Target) -> None:
    """A launch pack of the file's first blocks: any flip is found before a wrong page is given out."""
    package = target.packed.package
    first = package.tree.first_block(target.entry)
    content = target.content[: 24 * BLOCK_SIZE]
    count = -(-len(content) // BLOCK_SIZE)
    source = PackSource(package.version_id, package.tree, package.block_ids)
    layer = PackLayer(package.version_id, package.manifest.blocks_root, package.tree.block_count)

    def read_block(_: int, block: int) -> bytes:
        return target.content[(block - first) * BLOCK_SIZE : (block - first + 1) * BLOCK_SIZE]

    extents = [PackExtent(0, first + number, number % 5, 1 + number % 7) for number in range(count - 1)]
    pack = build_pack("probe-one", [source], extents, read_block)
    intact = _pages(pack, layer, first, target.content)
    outcome.require("an intact pack gives all its pages", intact == sum(extent.pages for extent in extents))
    randomness = random.Random(60)
    unnoticed = []
    for _ in range(PACK_FLIPS):
        offset = randomness.randrange(len(pack))
        damaged = bytearray(pack)
        damaged[offset] ^= 1 << randomness.randrange(8)
        try:
            _pages(bytes(damaged), layer, first, target.content)
        except FormatError:
            continue
        unnoticed.append(offset)
    outcome.figures["pack_flips"] = PACK_FLIPS
    outcome.require("every flip in a pack is found, and no wrong page given out", not unnoticed, unnoticed)


def _pages(pack: bytes, layer: PackLayer, first: int, content: bytes) -> int:
    """Read a pack; return its number of pages, each compared with the truth as it comes."""
    reader = PackReader([layer])
    count = at = 0
    while needed := reader.needs():
        if at >= len(pack):
            raise FormatError("the pack ends too early")
        for page in reader.feed(pack[at : at + needed]):
            start = (page.block - first) * BLOCK_SIZE + page.page * PAGE_SIZE
            if page.plain != content[start : start + len(page.plain)]:
                raise AssertionError(f"a wrong page was given out: {page.block}, {page.page}")
            count += 1
        at += needed
    return count
