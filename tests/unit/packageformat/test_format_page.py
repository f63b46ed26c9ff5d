"""FORMAT.md is read by a machine here: its tables are the code's."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path

import pytest

import packageformat
from packageformat import (
    columns,
    delta,
    deltaframe,
    header,
    launchpack,
    launchprofile,
    layout,
    limits,
    names,
    packdirectory,
    policy,
)
from packageformat.application import Application
from packageformat.compression import decompress
from packageformat.encoding import Value, decode
from packageformat.hashing import BLOCK_DOMAIN, FILE_DOMAIN, digest
from packageformat.header import COMPRESSED, PLAIN_MAX, Section
from packageformat.manifest import PACKAGE_KINDS, Manifest
from packageformat.pointer import Pointer, encode_pointer
from packageformat.policy import HOME_ACCESS, Policy
from packageformat.publishing import Published, Publishing, encode_publishing
from packageformat.signature import DOMAINS, PREFIX
from packageformat.stack import BUBBLE_DOMAIN
from packageformat.tree import Kind
from tests.vectors.sample import (
    NEW,
    OLD,
    SAMPLE,
    make_delta,
    make_pack,
    make_pointer,
    make_profiles,
    make_publishing,
)

PAGE = (Path(packageformat.__file__).parent / "FORMAT.md").read_text("utf-8")


def tables(heading: str) -> list[list[list[str]]]:
    """Return the tables of a section as rows of cells, their head first."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    found: list[list[list[str]]] = []
    inside = False
    for line in section.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not set(line) <= set("|-"):
            found[-1].append(cells)
    return found


def column(heading: str, table: int, cell: int) -> list[str]:
    return [row[cell].strip("`") for row in tables(heading)[table][1:]]


def fields(value: Value) -> tuple[Value, ...]:
    assert isinstance(value, tuple)
    return value


def test_the_limits_are_those_of_the_code_and_none_is_left_out() -> None:
    told = {row[0].strip("`"): int(row[1]) for row in tables("Limits")[0][1:]}
    in_code = {
        name: value for name, value in vars(limits).items() if name.isupper() and isinstance(value, int)
    }
    private = {"FORMAT_VERSION", "FEATURE_LEVEL", "PAGES_A_BLOCK", "SEED_SIZE"}
    assert told == {name: value for name, value in in_code.items() if name not in private}


def test_the_names_are_checked_by_the_patterns_that_are_told() -> None:
    told = dict(zip(column("Names", 0, 0), column("Names", 0, 1), strict=True))
    patterns = {
        "label": names._LABEL,
        "version": names._VERSION,
        "application id": names._APPLICATION_ID,
        "bus name": policy._BUS_NAME,
        "variable": policy._VARIABLE,
    }
    for name, pattern in patterns.items():
        assert told[name].split("`")[0] == pattern.pattern


def test_the_domains_of_digests_are_those_of_the_code() -> None:
    told = dict(zip(column("Digests", 0, 0), (row[1] for row in tables("Digests")[0][1:]), strict=True))
    for name, domain in (
        ("block id", BLOCK_DOMAIN),
        ("file content id", FILE_DOMAIN),
        ("bubble id", BUBBLE_DOMAIN),
    ):
        assert told[name].split("`")[1].encode() == domain.replace(b"\0", b"\\0")


@pytest.mark.parametrize(
    ("heading", "size"),
    [
        ("Header", 512),
        ("Tree", 32),
        ("Layout", 16),
        ("Launch pack", 64),
        ("Launch profile", 64),
        ("Delta", 64),
    ],
)
def test_offsets_follow_one_another_to_the_end_of_the_structure(heading: str, size: int) -> None:
    position = 0
    for offset, length, _ in tables(heading)[0][1:]:
        assert int(offset) == position
        position += int(length)
    assert position == size


def test_the_structures_have_the_sizes_and_magics_that_are_told() -> None:
    assert columns.PREAMBLE.size == 32
    assert layout.PREAMBLE.size == 16
    assert launchpack.PREAMBLE.size == launchprofile.PREAMBLE.size == 64
    assert delta.PREAMBLE.size == 64
    assert header.HEADER_SIZE == 512
    for heading, magic in (
        ("Header", header.MAGIC),
        ("Tree", columns.MAGIC),
        ("Layout", layout.MAGIC),
        ("Launch pack", launchpack.MAGIC),
        ("Delta", delta.MAGIC),
        ("Launch profile", launchprofile.MAGIC),
    ):
        assert bytes.fromhex(tables(heading)[0][1][2].split("`")[1]) == magic


def test_the_header_is_where_it_is_told() -> None:
    places = {row[2]: (int(row[0]), int(row[1])) for row in tables("Header")[0][1:]}
    extents = next(place for field, place in places.items() if field.startswith("six extents"))
    assert extents == (header.PREAMBLE.size, header.EXTENT.size * len(Section))
    assert places["SHA-256 of the stored bytes between header and blocks"][0] == header.HEAD_DIGEST_OFFSET
    assert places["SHA-256 of the bytes 0 to 479"][0] == header.CHECKSUM_OFFSET
    head = SAMPLE.file[header.HEADER_SIZE : SAMPLE.package.header.head_size]
    assert SAMPLE.file[448:480] == digest(head)
    assert SAMPLE.file[480:512] == digest(SAMPLE.file[:480])


def test_the_sections_are_those_of_the_code() -> None:
    told = [(int(row[0]), row[1], row[2], int(row[3])) for row in tables("Sections")[0][1:]]
    assert told == [
        (section.value, section.name, "zstd" if section in COMPRESSED else "plain", PLAIN_MAX[section])
        for section in Section
    ]


def test_the_kinds_of_entries_are_those_of_the_code() -> None:
    assert [(int(row[0]), row[1]) for row in tables("Tree")[2][1:]] == [
        (kind.value, kind.name) for kind in Kind
    ]


def read_columns(
    data: bytes, heading: str, table: int, counts: dict[str, int], sizes: dict[str, int]
) -> dict[str, object]:
    """Read columns by nothing but the page's table."""
    codes = {"u8": "B", "u16": "H", "u32": "I", "i64": "q", "u64": "Q"}
    position = 0
    found: dict[str, object] = {}
    for name, items, item, _ in tables(heading)[table][1:]:
        if item in codes:
            form = f"<{counts[items]}{codes[item]}"
            found[name] = struct.unpack_from(form, data, position)
            position += struct.calcsize(form)
        else:
            found[name] = data[position : position + sizes[name]]
            position += sizes[name]
    assert position == len(data)
    return found


def test_a_tree_can_be_read_from_the_page_alone() -> None:
    tree = SAMPLE.package.tree
    data = columns.encode_columns(tree.columns)
    count, name_bytes, hard, symbolic, text_bytes, xattr_bytes = struct.unpack_from("<6I", data, 8)
    found = read_columns(
        data[32:],
        "Tree",
        1,
        {"n": count, "h": hard, "s": symbolic},
        {"names": name_bytes, "texts": text_bytes, "xattrs": xattr_bytes},
    )
    assert found["kind"] == tuple(
        kind | opaque << 7 for kind, opaque in zip(tree.kinds, tree.opaques, strict=True)
    )
    assert found["depth"] == tuple(tree.depths)
    assert found["name size"] == tuple(map(len, tree.names))
    assert found["names"] == b"".join(tree.names)
    assert (found["mode"], found["uid"], found["gid"], found["size"]) == tuple(
        map(tuple, (tree.modes, tree.uids, tree.gids, tree.sizes))
    )
    seconds, rest = found["seconds"], found["nanoseconds"]
    assert isinstance(seconds, tuple)
    assert isinstance(rest, tuple)
    assert [s * 10**9 + r for s, r in zip(seconds, rest, strict=True)] == list(tree.mtimes_ns)
    assert found["link"] == tuple(link for link in tree.links if link >= 0)
    assert found["texts"] == b"".join(tree.targets[index] for index in sorted(tree.targets))
    xattrs = found["xattrs"]
    assert isinstance(xattrs, bytes)
    assert decode(xattrs, max_bytes=1000) == tuple(sorted(tree.xattrs.items()))


def test_a_layout_can_be_read_from_the_page_alone() -> None:
    package = SAMPLE.package
    data = layout.encode_layout(package.layout)
    frames, blocks = struct.unpack_from("<2I", data, 8)
    found = read_columns(data[16:], "Layout", 1, {"f": frames, "b": blocks}, {})
    assert found["stored size"] == package.layout.stored_sizes
    assert found["block count"] == tuple(map(len, package.layout.frames))
    assert found["block"] == tuple(block for frame in package.layout.frames for block in frame)


def test_the_documents_have_the_fields_that_are_told() -> None:
    manifest = fields(decode(SAMPLE.package.manifest_bytes, max_bytes=1 << 20))
    pointer = fields(decode(encode_pointer(make_pointer()), max_bytes=1 << 20))
    publishing = fields(decode(encode_publishing(make_publishing()), max_bytes=1 << 20))
    published = fields(fields(publishing[6])[0])
    for heading, table, value, made, skipped in (
        ("Manifest", 0, manifest, SAMPLE.package.manifest, 1),
        ("Application", 0, fields(fields(manifest[12])[0]), SAMPLE.package.manifest.applications[0], 0),
        ("Policy", 0, fields(manifest[13]), SAMPLE.package.manifest.policy, 0),
        ("Pointer", 0, pointer, make_pointer(), 1),
        ("Publishing document", 0, publishing, make_publishing(), 1),
        ("Publishing document", 1, published, make_publishing().items[0], 0),
    ):
        told = column(heading, table, 1)
        assert column(heading, table, 0) == [str(number) for number in range(len(value))]
        names_in_code = [field.name for field in dataclasses.fields(made)]
        assert told[skipped:] == names_in_code
        for name, item in zip(told[skipped:], value[skipped:], strict=True):
            in_code = getattr(made, name)
            if isinstance(in_code, (str, int, bytes)):
                assert item == in_code


def test_the_classes_are_those_that_the_page_is_compared_with() -> None:
    for kind, heading in (
        (Manifest, "Manifest"),
        (Application, "Application"),
        (Policy, "Policy"),
        (Pointer, "Pointer"),
        (Publishing, "Publishing document"),
        (Published, "Publishing document"),
    ):
        assert dataclasses.is_dataclass(kind)
        assert tables(heading)


def test_the_choices_are_those_of_the_code() -> None:
    kinds = tables("Manifest")[0][4][2]
    assert tuple(re.findall("`([a-z]+)`", kinds)) == PACKAGE_KINDS
    homes = tables("Policy")[0][11][2]
    assert tuple(re.findall("`([a-z]+)`", homes)) == HOME_ACCESS


def test_the_domains_of_signatures_are_those_of_the_code() -> None:
    assert tuple(column("Signatures", 0, 0)) == DOMAINS
    assert f"`{PREFIX.decode()}`" in PAGE


def test_the_header_in_a_pointer_is_as_told() -> None:
    told = fields(fields(decode(encode_pointer(make_pointer()), max_bytes=1 << 20))[4])
    assert told[-1] == SAMPLE.file[448:480]
    assert told[:-1] == tuple(
        struct.unpack_from("<2Q", SAMPLE.file, 16 + 24 * section + 8) for section in range(6)
    )


def test_a_launch_pack_is_as_told() -> None:
    pack = make_pack()
    stored, plain = struct.unpack_from("<2I", pack, 12)
    directory = fields(decode(decompress(pack[64 : 64 + stored], plain), max_bytes=1 << 20))
    assert len(directory) == len(tables("Launch pack")[1]) - 1
    assert len(fields(fields(directory[3])[0])) == len(tables("Launch pack")[2]) - 1
    assert packdirectory.EXTENT.size == sum(int(row[1]) for row in tables("Launch pack")[3][1:]) == 7
    extents = directory[7]
    assert isinstance(extents, bytes)
    assert struct.unpack_from("<BIBB", extents) == (0, 0, 0, 2)
    sizes, digests = directory[4], directory[5]
    assert isinstance(sizes, bytes)
    assert isinstance(digests, bytes)
    size = struct.unpack_from("<I", sizes)[0]
    siblings = 12 + 8 + 4 + 0  # of blocks 0, 1, 2 and 4, which have 16, 16, 5 and 3 pages
    first = pack[64 + stored : 64 + stored + siblings * 32 + size]
    assert digest(first)[:8] == digests[:8]


def test_a_launch_profile_can_be_read_from_the_page_alone() -> None:
    profiles = make_profiles()
    data = launchprofile.encode_profiles(profiles)
    stored, plain = struct.unpack_from("<2I", data, 12)
    assert digest(data[64:]) == data[32:64]
    assert len(data) == 64 + stored
    document = fields(decode(decompress(data[64:], plain), max_bytes=1 << 20))
    assert column("Launch profile", 1, 0) == [str(number) for number in range(len(document))]
    assert document[:2] == (1, profiles.version_id)
    told = column("Launch profile", 2, 1)
    assert column("Launch profile", 2, 0) == [str(number) for number in range(launchprofile.PROFILE_FIELDS)]
    assert len(told) == launchprofile.PROFILE_FIELDS
    for value, profile in zip(fields(document[2]), profiles.profiles, strict=True):
        item = dict(zip(told, fields(value), strict=True))
        assert (item["application"], item["bubble_id"]) == (profile.application, profile.bubble_id)
        assert item["runs"] == tuple((run.name, run.window_ms) for run in profile.runs)
        assert item["window_touches"] == profile.window_touches
        for name, code, expected in (
            ("content sizes", "Q", [content.size for content in profile.contents]),
            ("path sizes", "H", [len(content.path) for content in profile.contents]),
            ("touched contents", "I", [touch.content for touch in profile.touches]),
            ("first pages", "I", [touch.first_page for touch in profile.touches]),
            ("page counts", "I", [touch.pages for touch in profile.touches]),
            ("times", "I", [touch.after_ms for touch in profile.touches]),
            ("touched in", "B", [touch.run for touch in profile.touches]),
        ):
            packed = item[name]
            assert isinstance(packed, bytes)
            assert packed == struct.pack(f"<{len(expected)}{code}", *expected)
        assert item["paths"] == b"".join(content.path for content in profile.contents)
        assert item["content ids"] == b"".join(content.content_id for content in profile.contents)


def test_a_delta_can_be_read_from_the_page_alone() -> None:
    made = make_delta()
    stored, plain = struct.unpack_from("<2I", made, 12)
    directory = fields(decode(decompress(made[64 : 64 + stored], plain), max_bytes=1 << 20))
    assert column("Delta", 1, 0) == [str(number) for number in range(len(directory))]
    assert deltaframe.SEGMENT.size == sum(int(row[1]) for row in tables("Delta")[2][1:])
    assert directory[:3] == (1, OLD.version_id, NEW.version_id)
    codes = {"u32": "I", "u16": "H", "i32": "i"}
    columns_told: list[tuple[int, ...]] = []
    for packed, row in zip(directory[3:], tables("Delta")[1][4:], strict=True):
        code = next(code for name, code in codes.items() if f"`{name}`" in row[2])
        assert isinstance(packed, bytes)
        columns_told.append(struct.unpack(f"<{len(packed) // struct.calcsize(code)}{code}", packed))
    sizes, segments, block_counts, extent_counts, block_steps, page_steps, page_counts = columns_told
    old_pages = [
        OLD.read_block(block)[start : start + 4096]
        for block in range(OLD.tree.block_count)
        for start in range(0, OLD.tree.block_size(block), 4096)
    ]
    place, block, page = 64 + stored, -1, 0
    blocks, extents = iter(block_steps), iter(zip(page_steps, page_counts, strict=True))
    for frame, size in enumerate(sizes):
        region = b""
        for _ in range(extent_counts[frame]):
            step, pages = next(extents)
            region += b"".join(old_pages[page + step : page + step + pages])
            page += step + pages
        numbers = []
        for _ in range(block_counts[frame]):
            block += next(blocks)
            numbers.append(block)
        lengths = [NEW.tree.block_size(number) for number in numbers]
        control = 2 * len(numbers) + 8 * segments[frame]
        payload = decompress(made[place : place + size], control + sum(lengths), region)
        place += size
        found = read_differences(payload, control, lengths, region)
        assert found == [SAMPLE.blocks[number] for number in numbers]
    assert place == len(made)


def read_differences(payload: bytes, control: int, lengths: list[int], region: bytes) -> list[bytes]:
    """Read a delta's frame, decompressed, by nothing but the page."""
    counts = struct.unpack_from(f"<{len(lengths)}H", payload)
    told = struct.iter_unpack("<HHi", payload[2 * len(lengths) : control])
    found: list[bytes] = []
    expected, start = 0, control
    for length, count in zip(lengths, counts, strict=True):
        base, reached = bytearray(length), 0
        for _ in range(count):
            before, less_one, step = next(told)
            begin = expected + before + step
            expected = begin + less_one + 1
            reached += before + less_one + 1
            base[reached - less_one - 1 : reached] = region[begin:expected]
        expected += length - reached
        differences = payload[start : start + length]
        found.append(bytes((x + y) % 256 for x, y in zip(base, differences, strict=True)))
        start += length
    return found
