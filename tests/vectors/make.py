#!/usr/bin/env python3
"""Write the test vectors that can be made: good/ byte for byte, and bad/ ones that must fail cleanly.

The good ones guard the format for ever: when this program changes one, the format has changed, and that
needs a new format version. What fuzzing found stays in bad/ under a name with `found`; this program
leaves it alone.

    .venv/bin/python tests/vectors/make.py
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packageformat.columns import PREAMBLE as TREE_PREAMBLE
from packageformat.columns import encode_columns
from packageformat.compression import compress, decompress
from packageformat.delta import PREAMBLE as DELTA_PREAMBLE
from packageformat.encoding import decode, encode
from packageformat.hashing import digest
from packageformat.header import CHECKSUM_OFFSET, HEADER_SIZE, Section
from packageformat.launchprofile import PREAMBLE as PROFILE_PREAMBLE
from packageformat.launchprofile import encode_profiles
from packageformat.layout import PREAMBLE as LAYOUT_PREAMBLE
from packageformat.layout import encode_layout
from packageformat.limits import BLOCK_SIZE, FILE_SIZE_MAX, TREE_BYTES_MAX
from packageformat.manifest import encode_manifest
from packageformat.pointer import encode_pointer
from packageformat.publishing import encode_publishing
from packageformat.signature import sign
from packageformat.signed import seal
from packageformat.tree import Kind, Node, Tree, build_tree, encode_tree
from tests.vectors.parsers import FRAME
from tests.vectors.sample import (
    SAMPLE,
    SEED,
    SERVER_SEED,
    make_delta,
    make_pack,
    make_pointer,
    make_profiles,
    make_publishing,
    package_file,
)
from tests.vectors.tablepack import make_table_pack, with_first_page

FOLDER = Path(__file__).resolve().parent
TREE = SAMPLE.package.tree


def good() -> dict[str, bytes]:
    """Return the good vectors by file name."""
    return {
        "delta.bin": make_delta(),
        "encoding.bin": encode((None, True, -1, 2**63, "text", b"bytes", ((), (1,)))),
        "envelope.bin": seal("pointer", encode_pointer(make_pointer()), SERVER_SEED),
        "frame.bin": SAMPLE.frames[FRAME],
        "layout.bin": encode_layout(SAMPLE.package.layout),
        "manifest.bin": SAMPLE.package.manifest_bytes,
        "pack.bin": make_pack(),
        "package.ovp": SAMPLE.file,
        "pointer.bin": encode_pointer(make_pointer()),
        "profile.bin": encode_profiles(make_profiles()),
        "publishing.bin": encode_publishing(make_publishing()),
        "tablepack.bin": make_table_pack(),
        "tree.bin": encode_tree(TREE),
    }


def _changed(tree: Tree = TREE, **columns: Any) -> bytes:
    """Return a tree's encoding with whole columns replaced, unchecked."""
    return encode_columns(replace(tree.columns, **columns))


def _with(column: str, index: int, value: Any) -> bytes:
    """Return the sample tree's encoding with one item of one column replaced, unchecked."""
    items = list(getattr(TREE.columns, column))
    items[index] = value
    return _changed(TREE, **{column: bytes(items) if column in ("kinds", "depths", "opaques") else items})


def _place(path: bytes) -> int:
    index = TREE.find(path)
    assert index is not None
    return index


def bad_trees() -> dict[str, bytes]:
    """Return trees that are none."""
    whole = encode_tree(TREE)
    hard, file = _place(b"usr/bin/other-name"), _place(b"usr/bin/calculator")
    symlink = _place(b"usr/bin/calc")
    deep = build_tree({b"/".join([b"d"] * depth): Node(Kind.FOLDER) for depth in range(1, 129)})
    long = build_tree({b"/".join([b"n" * 255] * depth): Node(Kind.FOLDER) for depth in range(1, 17)})
    fields = list(TREE_PREAMBLE.unpack_from(whole))
    return {
        "tree-empty.bin": b"",
        "tree-cut-short.bin": whole[:-1],
        "tree-goes-on.bin": whole + b"\0",
        "tree-wrong-magic.bin": b"OVPTREE2" + whole[8:],
        "tree-no-entries.bin": TREE_PREAMBLE.pack(fields[0], 0, 0, 0, 0, 0, 0) + b"\0",
        "tree-count-of-billions.bin": TREE_PREAMBLE.pack(fields[0], 0xFFFFFFFF, *fields[2:])
        + whole[TREE_PREAMBLE.size :],
        "tree-name-dot-dot.bin": _with("names", file, b".."),
        "tree-name-dot.bin": _with("names", file, b"."),
        "tree-name-with-slash.bin": _with("names", file, b"calculator/x"),
        "tree-name-absolute.bin": _with("names", 1, b"/usr"),
        "tree-name-with-nul.bin": _with("names", file, b"calculator\0"),
        "tree-name-empty.bin": _with("names", file, b""),
        "tree-names-unsorted.bin": _with("names", file, b"a"),
        "tree-name-twice.bin": _with("names", file, b"calc"),
        "tree-root-with-name.bin": _with("names", 0, b"x"),
        "tree-root-is-a-file.bin": _with("kinds", 0, 1),
        "tree-two-roots.bin": _with("depths", 1, 0),
        "tree-depth-skipped.bin": _with("depths", file, 5),
        "tree-symlink-in-the-way.bin": _with("depths", file, TREE.depths[symlink] + 1),
        "tree-whiteout-in-the-way.bin": _with("kinds", _place(b"usr/bin"), 4),
        "tree-too-deep.bin": _grown(deep, b"d"),
        "tree-path-too-long.bin": _grown(long, b"n" * 255),
        "tree-kind-of-device.bin": _with("kinds", file, 5),
        "tree-kind-with-unused-bit.bin": _with("kinds", file, 0x41),
        "tree-opaque-file.bin": _with("opaques", file, 1),
        "tree-mode-too-large.bin": _with("modes", file, 0o10000),
        "tree-owner-is-nobody-at-all.bin": _with("uids", file, 0xFFFFFFFF),
        "tree-size-of-a-folder.bin": _with("sizes", 1, 5),
        "tree-size-too-large.bin": _with("sizes", file, FILE_SIZE_MAX + 1),
        "tree-too-many-blocks.bin": _with("sizes", file, FILE_SIZE_MAX),
        "tree-time-beyond-time.bin": _with("mtimes_ns", file, (1 << 62) * 10**9),
        "tree-nanoseconds-of-a-second.bin": _nanoseconds(whole),
        "tree-hard-link-forward.bin": _with("links", hard, hard + 1),
        "tree-hard-link-to-itself.bin": _with("links", hard, hard),
        "tree-hard-link-to-symlink.bin": _with("links", hard, symlink),
        "tree-hard-link-to-root.bin": _with("links", hard, 0),
        "tree-hard-link-with-mode.bin": _with("modes", hard, 0o644),
        "tree-whiteout-with-owner.bin": _with("uids", _place(b"usr/share/doc"), 7),
        "tree-symlink-to-nowhere.bin": _changed(targets={symlink: b""}),
        "tree-symlink-with-nul.bin": _changed(targets={symlink: b"a\0b"}),
        "tree-symlink-too-long.bin": _changed(targets={symlink: b"x" * 4096}),
        "tree-xattr-of-overlay.bin": _changed(xattrs={1: ((b"user.overlay.opaque", b"y"),)}),
        "tree-xattr-twice.bin": _changed(xattrs={1: ((b"user.a", b"1"), (b"user.a", b"2"))}),
        "tree-xattr-of-nothing.bin": _changed(xattrs={1: ()}),
        "tree-xattr-beyond-the-end.bin": _changed(xattrs={len(TREE): ((b"user.a", b""),)}),
        "tree-xattr-of-hard-link.bin": _changed(xattrs={hard: ((b"user.a", b""),)}),
        "tree-xattr-too-large.bin": _changed(xattrs={1: ((b"user.a", b"x" * 65537),)}),
    }


def _grown(tree: Tree, name: bytes) -> bytes:
    """Return the encoding of a tree with one more folder in its last folder, unchecked."""
    numbers = {
        column: [*getattr(tree, column), 0] for column in ("modes", "uids", "gids", "mtimes_ns", "sizes")
    }
    return _changed(
        tree,
        kinds=tree.kinds + b"\0",
        opaques=tree.opaques + b"\0",
        depths=tree.depths + bytes([tree.depths[-1] + 1]),
        names=[*tree.names, name],
        links=[*tree.links, -1],
        **numbers,
    )


def _nanoseconds(whole: bytes) -> bytes:
    count = len(TREE)
    place = TREE_PREAMBLE.size + count * (1 + 1 + 1 + 2 + 4 + 4 + 8)
    return whole[:place] + struct.pack("<I", 1_000_000_000) + whole[place + 4 :]


def bad_encodings() -> dict[str, bytes]:
    """Return documents that are none, or not canonical."""
    return {
        "encoding-empty.bin": b"",
        "encoding-cut-short.bin": b"\x93\x01\x02",
        "encoding-goes-on.bin": b"\x01\x01",
        "encoding-map.bin": b"\x81\x01\x02",
        "encoding-float.bin": b"\xcb" + bytes(8),
        "encoding-extension.bin": b"\xd4\x05\x00",
        "encoding-timestamp.bin": b"\xd6\xff" + bytes(4),
        "encoding-never-used.bin": b"\xc1",
        "encoding-long-number.bin": b"\xcd\x00\x01",
        "encoding-long-text.bin": b"\xd9\x01a",
        "encoding-long-array.bin": b"\xdc\x00\x01\x01",
        "encoding-not-utf8.bin": b"\xa2\xff\xfe",
        "encoding-surrogate.bin": b"\xa3\xed\xa0\x80",
        "encoding-array-of-billions.bin": b"\xdd\xff\xff\xff\xff\x01",
        "encoding-bytes-of-billions.bin": b"\xc6\xff\xff\xff\xff\x01",
        "encoding-nests-deep.bin": b"\x91" * 13 + b"\x01",
        "encoding-nests-very-deep.bin": b"\x91" * 100_000 + b"\x01",
        "encoding-bomb-of-arrays.bin": (b"\xdd" + struct.pack(">I", 5000)) * 12 + bytes(5000),
    }


def bad_documents() -> dict[str, bytes]:
    """Return manifests, pointers, publishing documents and envelopes that are none."""
    from packageformat.encoding import decode

    def fields(data: bytes) -> list[Any]:
        value = decode(data, max_bytes=1 << 20)
        assert isinstance(value, tuple)
        return list(value)

    def changed(data: bytes, index: int, value: Any) -> bytes:
        items = fields(data)
        items[index] = value
        return encode(tuple(items))

    manifest, pointer = SAMPLE.package.manifest_bytes, encode_pointer(make_pointer())
    publishing = encode_publishing(make_publishing())
    envelope = seal("pointer", pointer, SERVER_SEED)
    application, policy = fields(manifest)[12][0], fields(manifest)[13]
    return {
        "manifest-newer-format.bin": changed(manifest, 0, 2),
        "manifest-name-climbs.bin": changed(manifest, 1, "../etc"),
        "manifest-name-empty.bin": changed(manifest, 1, ""),
        "manifest-name-of-65.bin": changed(manifest, 1, "a" * 65),
        "manifest-name-with-newline.bin": changed(manifest, 1, "name\n"),
        "manifest-version-with-slash.bin": changed(manifest, 2, "1/2"),
        "manifest-unknown-kind.bin": changed(manifest, 3, "driver"),
        "manifest-flag-for-number.bin": changed(manifest, 5, True),
        "manifest-requires-twice.bin": changed(manifest, 6, (bytes(32), bytes(32))),
        "manifest-digest-short.bin": changed(manifest, 7, bytes(31)),
        "manifest-tree-too-large.bin": changed(manifest, 8, TREE_BYTES_MAX + 1),
        "manifest-blocks-cannot-hold-bytes.bin": changed(manifest, 11, 8 * BLOCK_SIZE + 1),
        "manifest-application-twice.bin": changed(manifest, 12, (application, application)),
        "manifest-application-id-climbs.bin": changed(manifest, 12, (("../x", *application[1:]),)),
        "manifest-application-command-with-newline.bin": changed(
            manifest, 12, ((*application[:2], "a\nb", *application[3:]),)
        ),
        "manifest-application-icon-climbs.bin": changed(
            manifest, 12, ((*application[:5], ((b"../../icon.png", 16),), *application[6:]),)
        ),
        "manifest-policy-unknown-home.bin": changed(manifest, 13, (*policy[:10], "everything", *policy[11:])),
        "manifest-policy-variable-with-equals.bin": changed(manifest, 13, (*policy[:12], (("A=B", "c"),))),
        "manifest-key-short.bin": changed(manifest, 14, bytes(31)),
        "manifest-field-missing.bin": encode(tuple(fields(manifest)[:-1])),
        "manifest-field-too-many.bin": encode((*fields(manifest), 1)),
        "manifest-is-a-number.bin": encode(1),
        "pointer-size-not-of-header.bin": changed(pointer, 3, 1),
        "pointer-header-impossible.bin": changed(pointer, 4, (*[(1 << 62, 1 << 62)] * 6, bytes(32))),
        "pointer-expires-before-issued.bin": changed(pointer, 8, 5),
        "pointer-generation-negative.bin": changed(pointer, 6, -1),
        "publishing-for-nobody.bin": changed(publishing, 2, ""),
        "publishing-version-twice.bin": changed(publishing, 6, fields(publishing)[6] * 2),
        "publishing-stack-without-itself.bin": changed(
            publishing, 6, ((*fields(publishing)[6][0][:4], (bytes(32),), *fields(publishing)[6][0][5:]),)
        ),
        "envelope-of-a-stranger.bin": seal("pointer", pointer, SEED),
        "envelope-for-publishing.bin": seal("publishing", pointer, SERVER_SEED),
        "envelope-relabelled.bin": changed(seal("publishing", pointer, SERVER_SEED), 1, "pointer"),
        "envelope-payload-flipped.bin": changed(envelope, 4, pointer[:-1] + bytes([pointer[-1] ^ 1])),
        "envelope-signature-flipped.bin": changed(envelope, 3, bytes(64)),
        "envelope-signature-short.bin": changed(envelope, 3, bytes(63)),
    }


def bad_storage() -> dict[str, bytes]:
    """Return layouts, frames, packs and packages that are none."""
    layout, pack, frame = encode_layout(SAMPLE.package.layout), make_pack(), SAMPLE.frames[FRAME]
    manifest = SAMPLE.package.manifest
    flipped = bytearray(SAMPLE.file)
    flipped[-1] ^= 1
    numbers = layout[: -4 * 7] + struct.pack("<7I", 0, 1, 2, 3, 3, 6, 7)
    missing = LAYOUT_PREAMBLE.pack(b"OVPLAYT1", 1, 1) + struct.pack("<IHI", 5, 1, 0)
    holder = layout[: -4 * 7] + struct.pack("<7I", 0, 1, 2, 3, 5, 6, 7)
    bomb = compress(bytes(32 << 20))
    header = bytearray(SAMPLE.file[:HEADER_SIZE])
    header[16:24] = struct.pack("<Q", 511)
    header[CHECKSUM_OFFSET:] = digest(bytes(header[:CHECKSUM_OFFSET]))
    ids = bytearray(SAMPLE.package.block_ids)
    ids[0] ^= 1
    other = encode_manifest(replace(manifest, tree_digest=bytes(32)))
    return {
        "layout-empty.bin": b"",
        "layout-cut-short.bin": layout[:-1],
        "layout-goes-on.bin": layout + b"\0",
        "layout-block-twice.bin": numbers,
        "layout-block-missing.bin": missing,
        "layout-block-that-is-a-copy.bin": holder,
        "layout-counts-of-billions.bin": LAYOUT_PREAMBLE.pack(b"OVPLAYT1", 2**32 - 1, 2**32 - 1)
        + layout[16:],
        "layout-frame-of-no-bytes.bin": layout[:16] + bytes(4) + layout[20:],
        "frame-empty.bin": b"",
        "frame-cut-short.bin": frame[:-1],
        "frame-goes-on.bin": frame + b"\0",
        "frame-of-other-bytes.bin": compress(bytes(sum(map(SAMPLE.package.tree.block_size, (3, 4, 6, 7))))),
        "frame-bomb.bin": bomb,
        "frame-without-its-size.bin": _without_content_size(),
        "pack-cut-short.bin": pack[:-1],
        "pack-goes-on.bin": pack + b"\0",
        "pack-wrong-magic.bin": b"OVPPACK2" + pack[8:],
        "pack-directory-of-billions.bin": pack[:12] + struct.pack("<II", 2**32 - 1, 2**32 - 1) + pack[20:],
        "pack-directory-damaged.bin": pack[:70] + bytes([pack[70] ^ 1]) + pack[71:],
        "pack-page-damaged.bin": pack[:-1] + bytes([pack[-1] ^ 1]),
        "tablepack-columns-not-told.bin": with_first_page(2, 14),
        "tablepack-columns-of-code.bin": with_first_page(0, 0x80 | 12),
        "tablepack-unknown-bit.bin": with_first_page(2, 0x40 | 0x80 | 14),
        "package-empty.ovp": b"",
        "package-header-only.ovp": SAMPLE.file[:HEADER_SIZE],
        "package-cut-short.ovp": SAMPLE.file[:-1],
        "package-goes-on.ovp": SAMPLE.file + b"\0",
        "package-sections-overlap.ovp": bytes(header) + SAMPLE.file[HEADER_SIZE:],
        "package-header-flipped.ovp": SAMPLE.file[:400] + b"\1" + SAMPLE.file[401:],
        "package-last-byte-flipped.ovp": bytes(flipped),
        "package-wrong-signature.ovp": package_file(signature=bytes(64)),
        "package-signed-by-another.ovp": package_file(
            signature=sign("manifest", SAMPLE.package.manifest_bytes, SERVER_SEED)
        ),
        "package-signed-as-pointer.ovp": package_file(
            signature=sign("pointer", SAMPLE.package.manifest_bytes, SEED)
        ),
        "package-of-a-stranger.ovp": _of_a_stranger(),
        "package-tree-not-of-manifest.ovp": package_file(manifest=other),
        "package-tree-bomb.ovp": package_file(stored={Section.TREE: (bomb, manifest.tree_size)}),
        "package-tree-bomb-declared.ovp": package_file(stored={Section.TREE: (bomb, 32 << 20)}),
        "package-manifest-bomb.ovp": package_file(stored={Section.MANIFEST: (bomb, 1 << 20)}),
        "package-block-ids-flipped.ovp": package_file(block_ids=bytes(ids)),
        "package-block-ids-missing.ovp": package_file(block_ids=bytes(ids[:-32])),
        "package-layout-block-twice.ovp": package_file(layout=numbers),
        "package-frames-missing.ovp": package_file(blocks=b"".join(SAMPLE.frames[:-1])),
        "package-desktop-file-missing.ovp": _without_desktop_file(),
    }


def bad_profiles() -> dict[str, bytes]:
    """Return launch profiles that are none."""
    from packageformat.compression import decompress
    from packageformat.encoding import decode

    whole = encode_profiles(make_profiles())
    preamble, stored = PROFILE_PREAMBLE.unpack_from(whole), whole[PROFILE_PREAMBLE.size :]
    document = decode(decompress(stored, preamble[4]), max_bytes=1 << 20)
    assert isinstance(document, tuple)
    profile = document[2][0]

    def packed(plain: bytes, plain_size: int | None = None) -> bytes:
        body = compress(plain, 19)
        size = len(plain) if plain_size is None else plain_size
        return PROFILE_PREAMBLE.pack(*preamble[:3], len(body), size, digest(body)) + body

    def changed(field: int, value: Any) -> bytes:
        fields = (*profile[:field], value, *profile[field + 1 :])
        return packed(encode((*document[:2], (fields,))))

    def touches(first_pages: list[int], counts: list[int], contents: list[int]) -> bytes:
        number = len(contents)
        columns = [struct.pack(f"<{number}I", *column) for column in (contents, first_pages, counts)]
        fields = (*profile[:7], *columns, bytes(4 * number), bytes(number), 0)
        return packed(encode((*document[:2], (fields,))))

    return {
        "profile-empty.bin": b"",
        "profile-cut-short.bin": whole[:-1],
        "profile-goes-on.bin": whole + b"\0",
        "profile-wrong-magic.bin": b"OVPPROF2" + whole[8:],
        "profile-newer-format.bin": whole[:8] + b"\2" + whole[9:],
        "profile-zeros-that-are-none.bin": whole[:25] + b"\1" + whole[26:],
        "profile-damaged.bin": whole[:-1] + bytes([whole[-1] ^ 1]),
        "profile-of-billions.bin": PROFILE_PREAMBLE.pack(*preamble[:3], 2**32 - 1, 2**32 - 1, preamble[5])
        + stored,
        "profile-bomb.bin": packed(bytes(64 << 20), 32 << 20),
        "profile-bomb-declared.bin": packed(bytes(64 << 20)),
        "profile-of-nothing.bin": packed(b""),
        "profile-is-a-number.bin": packed(encode(1)),
        "profile-application-twice.bin": packed(encode((*document[:2], (profile, profile)))),
        "profile-application-climbs.bin": changed(0, "../x"),
        "profile-bubble-short.bin": changed(1, bytes(31)),
        "profile-without-runs.bin": changed(2, ()),
        "profile-run-with-newline.bin": changed(2, (("a\nb", 1), ("b", 1))),
        "profile-file-twice.bin": changed(3, profile[3][:32] * 3),
        "profile-file-without-id.bin": changed(3, profile[3][:-32]),
        "profile-file-of-no-bytes.bin": changed(4, bytes(8) + profile[4][8:]),
        "profile-file-too-large.bin": changed(4, struct.pack("<Q", FILE_SIZE_MAX + 1) + profile[4][8:]),
        "profile-path-climbs.bin": changed(6, b"../" + profile[6][3:]),
        "profile-paths-left-over.bin": changed(6, profile[6] + b"x"),
        "profile-column-cut-short.bin": changed(8, profile[8][:-1]),
        "profile-columns-of-different-length.bin": changed(8, profile[8][:-4]),
        "profile-run-that-is-not-there.bin": changed(11, b"\2" + profile[11][1:]),
        "profile-window-beyond-the-end.bin": changed(12, 6),
        "profile-touch-of-no-file.bin": touches([0], [1], [3]),
        "profile-touch-of-no-pages.bin": touches([0], [0], [0]),
        "profile-touch-beyond-the-file.bin": touches([36], [2], [0]),
        "profile-touch-of-billions.bin": touches([2**32 - 1], [2**32 - 1], [0]),
        "profile-page-twice.bin": touches([0, 5, 3], [4, 1, 2], [0, 0, 0]),
    }


def _without_content_size() -> bytes:
    import zstandard

    plain = b"".join(SAMPLE.blocks[block] for block in SAMPLE.package.layout.blocks(FRAME))
    return zstandard.ZstdCompressor(write_content_size=False).compress(plain)


def _of_a_stranger() -> bytes:
    from packageformat.signature import public_key

    manifest = encode_manifest(replace(SAMPLE.package.manifest, publisher=public_key(SERVER_SEED)))
    return package_file(manifest=manifest, signature=sign("manifest", manifest, SERVER_SEED))


def _without_desktop_file() -> bytes:
    application = replace(SAMPLE.package.manifest.applications[0], desktop_file=b"no/such.desktop")
    return package_file(
        manifest=encode_manifest(replace(SAMPLE.package.manifest, applications=(application,)))
    )


def bad_deltas() -> dict[str, bytes]:
    """Return deltas that are none."""
    delta = make_delta()
    stored, plain = DELTA_PREAMBLE.unpack_from(delta)[3:5]
    end = DELTA_PREAMBLE.size + stored
    frames = delta[end:]
    fields = decode(decompress(delta[DELTA_PREAMBLE.size : end], plain), max_bytes=1 << 20)
    assert isinstance(fields, tuple)

    def with_field(number: int, value: Any) -> bytes:
        directory = encode((*fields[:number], value, *fields[number + 1 :]))
        packed = compress(directory, 19)
        preamble = DELTA_PREAMBLE.pack(b"OVPDELT1", 1, 0, len(packed), len(directory), digest(packed))
        return preamble + packed + frames

    def with_first(number: int, code: str, value: int) -> bytes:
        column = fields[number]
        assert isinstance(column, bytes)
        return with_field(number, struct.pack(code, value) + column[struct.calcsize(code) :])

    return {
        "delta-empty.bin": b"",
        "delta-cut-short.bin": delta[:-1],
        "delta-goes-on.bin": delta + b"\0",
        "delta-wrong-magic.bin": b"OVPDELT2" + delta[8:],
        "delta-newer-format.bin": delta[:8] + b"\2" + delta[9:],
        "delta-directory-of-billions.bin": delta[:12] + struct.pack("<II", 2**32 - 1, 2**32 - 1) + delta[20:],
        "delta-directory-damaged.bin": delta[:70] + bytes([delta[70] ^ 1]) + delta[71:],
        "delta-last-frame-damaged.bin": delta[:-1] + bytes([delta[-1] ^ 1]),
        "delta-of-another-version.bin": with_field(1, bytes(32)),
        "delta-of-itself.bin": with_field(1, fields[2]),
        "delta-column-cut-short.bin": with_field(7, fields[7][:-1]),  # type: ignore[index]
        "delta-block-missing.bin": with_field(7, fields[7][:-4]),  # type: ignore[index]
        "delta-block-twice.bin": with_field(7, fields[7][:4] + bytes(4) + fields[7][8:]),  # type: ignore[index]
        "delta-block-not-there.bin": with_first(7, "<i", 1 << 20),
        "delta-block-before-the-first.bin": with_first(7, "<i", -1),
        "delta-frame-of-no-bytes.bin": with_first(3, "<I", 0),
        "delta-frame-of-billions.bin": with_first(3, "<I", 2**32 - 1),
        "delta-frame-without-blocks.bin": with_first(5, "<H", 0),
        "delta-segments-of-thousands.bin": with_first(4, "<H", 65535),
        "delta-segments-miscounted.bin": with_first(4, "<H", 1),
        "delta-old-pages-not-there.bin": with_first(8, "<i", 1 << 30),
        "delta-old-pages-before-the-first.bin": with_first(8, "<i", -1),
        "delta-old-pages-too-many.bin": with_first(9, "<H", 65535),
        "delta-old-pages-of-none.bin": with_first(9, "<H", 0),
    }


def bad() -> dict[str, bytes]:
    """Return the bad vectors by file name; the name says what is wrong."""
    return bad_trees() | bad_deltas() | bad_encodings() | bad_documents() | bad_storage() | bad_profiles()


def write(folder: Path, vectors: Mapping[str, bytes]) -> None:
    """Write the vectors, and remove those that are no longer made."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in vectors and "found" not in path.name:
            path.unlink()
    for name, data in vectors.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    write(FOLDER / "good", good())
    write(FOLDER / "bad", bad())
