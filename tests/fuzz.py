#!/usr/bin/env python3
"""Fuzz every parser that reads what strangers write: any bytes may end in FormatError, nothing else.

Examples:
    tests/fuzz.py                               200,000 inputs, a table
    tests/fuzz.py --inputs 1000000 --seed 7     others
    tests/fuzz.py --only tree,package-tree      some parsers
    tests/fuzz.py --json                        the same as JSON
    tests/fuzz.py --keep tests/vectors/bad      keep what is found, as a vector

Besides damaged bytes it makes well-formed wrong ones: it changes what is inside a compressed, hashed and
signed layer, then compresses, hashes and signs again, so that parsers behind the first check are reached too.
Every 50th input is parsed under tracemalloc, and its peak compared with the limits of packageformat.limits.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bubble.cachefile import CacheFolder
from bubble.composition import write_view
from bubble.layerimage import load_layer
from bubble.supplymessage import Message, Word, decode_message, encode_message
from bubble.viewimage import decode_view
from packageformat.compression import compress, decompress
from packageformat.delta import PREAMBLE as DELTA_PREAMBLE
from packageformat.delta import (
    DeltaFrame,
    PageNumbers,
    decode_delta,
    delta_head_size,
    read_region,
    unpack_delta_frame,
)
from packageformat.encoding import decode, encode
from packageformat.errors import FormatError
from packageformat.hashing import digest
from packageformat.header import CHECKSUM_OFFSET, HEADER_SIZE, Section
from packageformat.launchpack import PREAMBLE as PACK_PREAMBLE
from packageformat.launchpack import directory_end
from packageformat.launchprofile import PREAMBLE as PROFILE_PREAMBLE
from packageformat.limits import BLOCK_SIZE, MEMORY_FACTOR, MEMORY_FIXED, PACK_DIRECTORY_BYTES_MAX
from packageformat.manifest import encode_manifest
from packageformat.pointer import decode_pointer
from packageformat.signed import open_sealed, seal
from tests.vectors import make
from tests.vectors.parsers import PARSERS
from tests.vectors.sample import OLD, SAMPLE, SERVER, SERVER_SEED, package_file

MEMORY_SAMPLE = 50
"""One input of so many is measured: tracemalloc costs several times the parsing."""

INTERESTING = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    4095,
    4096,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
)

Parse = Callable[[bytes], object]
Wrap = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One way into a parser: valid inner bytes, what is put around them once damaged, and who reads it."""

    name: str
    weight: int
    seeds: tuple[bytes, ...]
    parse: Parse
    wrap: Wrap = bytes  # of damaged inner bytes
    structured: bool = False  # the inner bytes are an encoded document, whose fields may be changed
    vector: str = ""  # the parser's name in tests/vectors, if a find can become a vector


@dataclass(slots=True)
class Count:
    """What happened in one target."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    other_errors: int = 0
    not_canonical: int = 0
    over_memory: int = 0
    memory_peak: int = 0  # bytes above the baseline
    slowest_ms: float = 0.0
    finds: list[str] = field(default_factory=list)


def damaged(data: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """Return `data` with one to four random changes."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 3, 4))):
        size = len(changed)
        place = source.randrange(size + 1)
        match source.randrange(10):
            case 0 | 1 if size:
                changed[place % size] ^= 1 << source.randrange(8)
            case 2 if size:
                changed[place % size] = source.randrange(256)
            case 3:
                number = source.choice(INTERESTING) + source.choice((-1, 0, 0, 1))
                width = source.choice((1, 2, 4, 8))
                part = (number % (1 << 8 * width)).to_bytes(width, source.choice(("little", "big")))
                changed[place : place + width] = part
            case 4:
                del changed[place:]
            case 5:
                del changed[place : place + source.randrange(1, 40)]
            case 6:
                changed[place:place] = source.randbytes(source.randrange(1, 40))
            case 7:
                other = source.choice(others)
                start = source.randrange(len(other) + 1)
                changed[place:place] = other[start : start + source.randrange(1, 200)]
            case 8:
                changed[place:place] = changed[place : place + source.randrange(1, 200)]
            case _:
                width = source.randrange(1, 17)
                changed[place : place + width] = source.randbytes(width)
    return bytes(changed)


def changed_value(value: Any, source: random.Random) -> Any:
    """Return a decoded document with one of its values, somewhere, changed."""
    if isinstance(value, tuple) and value and source.random() < 0.9:
        items = list(value)
        index = source.randrange(len(items))
        match source.randrange(12):
            case 0:
                del items[index]
            case 1:
                items.insert(index, items[index])
            case 2:
                other = source.randrange(len(items))
                items[index], items[other] = items[other], items[index]
            case _:
                items[index] = changed_value(items[index], source)
        return tuple(items)
    if isinstance(value, bytes) and source.random() < 0.7:
        return damaged(value, source, (b"..", bytes(32)))
    if isinstance(value, str) and source.random() < 0.7:
        place = source.randrange(len(value) + 1)
        return (
            value[:place]
            + source.choice(("/", "..", "\0", "\n", "\u202e", "A", " ", "x" * 300))
            + value[place:]
        )
    if type(value) is int and source.random() < 0.7:
        return max(-(2**63), min(2**64 - 1, value + source.choice((-1, 1, 2**16, -(2**40), 2**62))))
    choices = (
        None,
        True,
        0,
        -1,
        2**64 - 1,
        "",
        "..",
        b"",
        bytes(32),
        (),
        ((),),
        "x" * 70,
        value,
        (value, value),
    )
    return source.choice(choices)


def targets(folder: Path) -> list[Target]:
    """Return all targets; `folder` is for those that read files."""
    good = make.good()
    manifest = SAMPLE.package.manifest
    profile_plain = PROFILE_PREAMBLE.unpack_from(good["profile.bin"])[4]
    frame = b"".join(SAMPLE.blocks[block] for block in SAMPLE.package.layout.blocks(3))
    write_view(folder / "view", [(SAMPLE.package.version_id, SAMPLE.package.tree, SAMPLE.package.block_ids)])
    image = (folder / "view").read_bytes()
    layer = (folder / "view.0.layer").read_bytes()
    messages = tuple(encode_message(Message(word)) for word in Word)

    def with_header_checksum(header: bytes) -> bytes:
        front = header.ljust(CHECKSUM_OFFSET, b"\0")[:CHECKSUM_OFFSET]
        return front + digest(front) + SAMPLE.file[HEADER_SIZE:]

    def with_tree(tree: bytes) -> bytes:
        changed = replace(manifest, tree_digest=digest(tree), tree_size=max(1, len(tree)))
        return package_file(manifest=encode_manifest(changed), tree=tree)

    def pack_directory(name: str, weight: int) -> Target:
        pack = good[f"{name}.bin"]
        preamble, end = PACK_PREAMBLE.unpack_from(pack), directory_end(pack)

        def wrap(data: bytes) -> bytes:
            packed = compress(data[:PACK_DIRECTORY_BYTES_MAX], 1)
            sizes = (len(packed), len(data), digest(packed))
            return PACK_PREAMBLE.pack(*preamble[:3], *sizes) + packed + pack[end:]

        plain = decompress(pack[PACK_PREAMBLE.size : end], preamble[4])
        return Target(
            f"{name}-directory", weight, (plain,), PARSERS[name], wrap, structured=True, vector=name
        )

    def with_profile_preamble(document: bytes) -> bytes:
        stored = compress(document, 19)  # as our writer, so that what is accepted must come back the same
        sizes = (len(stored), len(document), digest(stored))
        return PROFILE_PREAMBLE.pack(*PROFILE_PREAMBLE.unpack_from(good["profile.bin"])[:3], *sizes) + stored

    delta = good["delta.bin"]
    delta_end = DELTA_PREAMBLE.size + DELTA_PREAMBLE.unpack_from(delta)[3]
    plain_delta = decompress(delta[DELTA_PREAMBLE.size : delta_end], DELTA_PREAMBLE.unpack_from(delta)[4])
    delta_frame, region, delta_payload = sample_delta_frame(delta)

    def with_delta_directory(data: bytes) -> bytes:
        packed = compress(data, 1)
        sizes = (len(packed), len(data), digest(packed))
        return (
            DELTA_PREAMBLE.pack(*DELTA_PREAMBLE.unpack_from(delta)[:3], *sizes) + packed + delta[delta_end:]
        )

    def read_delta_frame(stored: bytes) -> object:
        package = SAMPLE.package
        return unpack_delta_frame(delta_frame, package.tree, package.block_id, stored, region)

    def read_sealed(envelope: bytes) -> object:
        return decode_pointer(open_sealed("pointer", envelope, {SERVER})[0])

    found = [
        Target(name, weight, (good[file],), PARSERS[name], structured=structured, vector=name)
        for name, file, weight, structured in (
            ("delta", "delta.bin", 4, False),
            ("encoding", "encoding.bin", 12, True),
            ("envelope", "envelope.bin", 6, True),
            ("frame", "frame.bin", 6, False),
            ("layout", "layout.bin", 10, False),
            ("manifest", "manifest.bin", 12, True),
            ("pack", "pack.bin", 4, False),
            ("package", "package.ovp", 4, False),
            ("pointer", "pointer.bin", 8, True),
            ("profile", "profile.bin", 4, False),
            ("publishing", "publishing.bin", 8, True),
            ("tablepack", "tablepack.bin", 4, False),
            ("tree", "tree.bin", 16, False),
        )
    ]
    found += [
        Target(
            "package-header",
            4,
            (SAMPLE.file[:CHECKSUM_OFFSET],),
            PARSERS["package"],
            with_header_checksum,
            vector="package",
        ),
        Target(
            "package-manifest",
            3,
            (SAMPLE.package.manifest_bytes,),
            PARSERS["package"],
            lambda data: package_file(manifest=data),
            structured=True,
            vector="package",
        ),
        Target("package-tree", 3, (good["tree.bin"],), PARSERS["package"], with_tree, vector="package"),
        Target(
            "package-layout",
            3,
            (good["layout.bin"],),
            PARSERS["package"],
            lambda data: package_file(layout=data),
            vector="package",
        ),
        Target(
            "package-zstd",
            3,
            (compress(good["tree.bin"]),),
            PARSERS["package"],
            lambda data: package_file(stored={Section.TREE: (data, manifest.tree_size)}),
            vector="package",
        ),
        pack_directory("pack", 6),
        pack_directory("tablepack", 4),
        Target(
            "profile-document",
            8,
            (decompress(good["profile.bin"][PROFILE_PREAMBLE.size :], profile_plain),),
            PARSERS["profile"],
            with_profile_preamble,
            structured=True,
            vector="profile",
        ),
        Target(
            "delta-directory",
            6,
            (plain_delta,),
            PARSERS["delta"],
            with_delta_directory,
            structured=True,
            vector="delta",
        ),
        Target("delta-frame", 4, (delta_payload,), read_delta_frame, lambda data: compress(data, 1, region)),
        Target("frame-plain", 3, (frame,), PARSERS["frame"], lambda data: compress(data, 1), vector="frame"),
        Target(
            "envelope-pointer",
            4,
            (good["pointer.bin"],),
            read_sealed,
            lambda data: seal("pointer", data, SERVER_SEED),
            structured=True,
        ),
        Target("bubble-view-image", 2, (image,), decode_view),
        Target("bubble-view-image-inside", 3, (image[:-32],), decode_view, lambda data: data + digest(data)),
        Target("bubble-layer-image", 2, (layer,), load_layer),
        Target("bubble-layer-image-columns", 4, (layer[:-32],), load_layer, lambda data: data + digest(data)),
        Target("bubble-supply-message", 5, messages, decode_message),
        cache_map_target(folder),
    ]
    return found


def sample_delta_frame(made: bytes) -> tuple[DeltaFrame, bytes, bytes]:
    """Return a frame of the sample's delta with segments, its region, and what is in it once decompressed."""
    package, pages = SAMPLE.package, PageNumbers(OLD.tree)
    head = made[: delta_head_size(made)]
    delta = decode_delta(head, package.tree, package.version_id, pages, OLD.version_id)
    number = next(index for index, frame in enumerate(delta.directory.frames) if frame.segments)
    frame = delta.directory.frames[number]
    region = read_region(frame, pages, lambda block, start, end: OLD.read_block(block)[start:end])
    assert region is not None
    offset, size = delta.place(number)
    plain = 2 * len(frame.blocks) + 8 * frame.segments + sum(map(package.tree.block_size, frame.blocks))
    return frame, region, decompress(made[offset : offset + size], plain, region)


def cache_map_target(folder: Path) -> Target:
    """Return the target that damages the map of a half-filled cached file, and asks all that can be asked."""
    size = 3 * BLOCK_SIZE + 10
    content_id = digest(b"a cached file")
    cache = CacheFolder(folder)
    cache.create(content_id, size).write_block(1, bytes(BLOCK_SIZE))
    place = cache.place(content_id)
    map_file = place.with_name(place.name + ".map")
    whole = map_file.read_bytes()

    def parse(data: bytes) -> object:
        map_file.write_bytes(data)
        cached = cache.open(content_id, size)
        if cached is None:
            raise FormatError("not there")
        present = [block for block in range(cached.blocks) if cached.has_block(block)]
        missing = cached.missing_blocks()
        if {*missing, *present} != set(range(cached.blocks)):
            raise AssertionError("a block that is neither there nor missing, or that there cannot be")
        for block in present:
            cached.read_block(block)
        return present

    return Target("bubble-cache-map", 4, (whole,), parse)


class Fuzzer:
    """Runs inputs through targets and counts."""

    def __init__(self, chosen: Sequence[Target], source: random.Random, keep: Path | None) -> None:
        self._targets = chosen
        self._weights = [target.weight for target in chosen]
        self._source = source
        self._keep = keep
        self.counts = {target.name: Count() for target in chosen}
        self._values = {
            target.name: [decode(seed, max_bytes=1 << 23) for seed in target.seeds]
            for target in chosen
            if target.structured
        }
        self._others = [seed for target in chosen for seed in target.seeds]

    def run(self, inputs: int) -> None:
        """Feed so many inputs, the targets mixed by their weights."""
        for number, target in enumerate(self._source.choices(self._targets, self._weights, k=inputs)):
            try:
                data = self._input(target)
            except FormatError:
                data = self._source.randbytes(self._source.randrange(200))  # what has no encoding is no input
            self._feed(target, data, measured=number % MEMORY_SAMPLE == 0)

    def _input(self, target: Target) -> bytes:
        source = self._source
        dice = source.random()
        if dice < 0.02:
            return source.randbytes(source.randrange(600))
        if target.structured and dice < 0.6:
            value = source.choice(self._values[target.name])
            for _ in range(source.choice((1, 1, 2, 3))):
                value = changed_value(value, source)
            return target.wrap(encode(value))
        return target.wrap(damaged(source.choice(target.seeds), source, self._others))

    def _feed(self, target: Target, data: bytes, *, measured: bool) -> None:
        count = self.counts[target.name]
        count.inputs += 1
        if measured:
            tracemalloc.start()
        started = time.perf_counter()
        try:
            result = target.parse(data)
        except FormatError:
            count.refused += 1
        except Exception as error:  # noqa: BLE001 - that is what we are looking for
            count.other_errors += 1
            self._find(target, data, f"{type(error).__name__}: {error}")
        else:
            count.accepted += 1
            if isinstance(result, bytes) and result != data:
                count.not_canonical += 1
                self._find(target, data, "read, and written back as other bytes")
        count.slowest_ms = max(count.slowest_ms, (time.perf_counter() - started) * 1000)
        if measured:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            count.memory_peak = max(count.memory_peak, peak)
            if peak > MEMORY_FIXED + MEMORY_FACTOR * len(data):
                count.over_memory += 1
                self._find(target, data, f"{peak} bytes of memory for {len(data)}")

    def _find(self, target: Target, data: bytes, what: str) -> None:
        name = f"{target.vector or target.name}-found-{digest(data).hex()[:12]}.bin"
        count = self.counts[target.name]
        if len(count.finds) < 20:
            count.finds.append(f"{name}: {what}")
            if self._keep is not None:
                (self._keep / name).write_bytes(data)


def report(counts: Mapping[str, Count], seconds: float, seed: int, memory: int) -> dict[str, Any]:
    """Return the figures as JSON shows them."""
    totals = {
        key: sum(getattr(count, key) for count in counts.values())
        for key in ("inputs", "accepted", "refused", "other_errors", "not_canonical", "over_memory")
    }
    return {
        **totals,
        "seed": seed,
        "seconds": round(seconds, 1),
        "memory_limit": f"{MEMORY_FIXED} + {MEMORY_FACTOR} x input bytes",
        "memory_peak": max(count.memory_peak for count in counts.values()),
        "process_growth": memory,
        "holds": not (totals["other_errors"] or totals["not_canonical"] or totals["over_memory"]),
        "parsers": {
            name: {
                "inputs": count.inputs,
                "accepted": count.accepted,
                "refused": count.refused,
                "other_errors": count.other_errors,
                "not_canonical": count.not_canonical,
                "over_memory": count.over_memory,
                "memory_peak": count.memory_peak,
                "slowest_ms": round(count.slowest_ms, 1),
                "finds": count.finds,
            }
            for name, count in sorted(counts.items())
        },
    }


def print_table(figures: Mapping[str, Any]) -> None:
    """Print the figures for people."""
    columns = f"{'inputs':>9}{'accepted':>10}{'refused':>9}{'other':>7}{'peak KiB':>10}{'slowest ms':>12}"
    print(f"{'parser':28}{columns}")
    for name, count in figures["parsers"].items():
        print(
            f"{name:28}{count['inputs']:9}{count['accepted']:10}{count['refused']:9}"
            f"{count['other_errors'] + count['not_canonical'] + count['over_memory']:7}"
            f"{count['memory_peak'] // 1024:10}{count['slowest_ms']:12}"
        )
        for find in count["finds"]:
            print("   ", find)
    print(f"{figures['inputs']} inputs in {figures['seconds']} s, seed {figures['seed']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fuzzer; 0 if nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--inputs", type=int, default=200_000, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="of the randomness (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="NAMES", help="parsers, with commas between")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write each find there as a vector")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        chosen = targets(Path(folder))
        if arguments.only:
            wanted = set(arguments.only.split(","))
            if unknown := wanted - {target.name for target in chosen}:
                parser.error(f"no such parser: {', '.join(sorted(unknown))}")
            chosen = [target for target in chosen if target.name in wanted]
        fuzzer = Fuzzer(chosen, random.Random(arguments.seed), arguments.keep)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        fuzzer.run(arguments.inputs)
        seconds = time.perf_counter() - started
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    figures = report(fuzzer.counts, seconds, arguments.seed, growth)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_table(figures)
    return 0 if figures["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
