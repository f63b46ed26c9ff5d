"""A small package that has one of everything, and the documents that go with it; always the same bytes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from packageformat.application import Application, Icon
from packageformat.compression import compress
from packageformat.deltabuild import DeltaSide, build_delta
from packageformat.hashing import block_id, digest
from packageformat.hashtree import root, split
from packageformat.header import Section, encode_header, header_of_sizes
from packageformat.launchpack import PackExtent, PackLayer
from packageformat.launchprofile import LaunchProfile, PackageProfiles, ProfileContent, ProfileRun, Touch
from packageformat.layout import Layout, encode_frame, encode_layout, plan_frames
from packageformat.limits import BLOCK_SIZE
from packageformat.manifest import Manifest, encode_manifest, version_id
from packageformat.package import Package, PackageParser, assemble_head
from packageformat.packbuild import PackSource, build_pack
from packageformat.pointer import PackReference, Pointer
from packageformat.policy import Policy
from packageformat.publishing import Published, Publishing
from packageformat.signature import public_key, sign
from packageformat.stack import bubble_id
from packageformat.tree import Kind, Node, Tree, build_tree, encode_tree

SEED = bytes(range(32))
SERVER_SEED = bytes(range(32, 64))
PUBLISHER = public_key(SEED)
SERVER = public_key(SERVER_SEED)
NOW = 1_800_000_000

_random = random.Random(2)
CONTENTS: dict[bytes, bytes] = {
    b"usr/bin/calculator": _random.randbytes(1500) * 100,
    b"usr/share/applications/calculator.desktop": b"[Desktop Entry]\nName=Calculator\nExec=calculator %f\n",
    b"usr/share/calculator/digits": b"0123456789" * 1000,
    b"usr/share/calculator/digits.copy": b"0123456789" * 1000,
    b"usr/share/calculator/empty": b"",
    b"usr/share/calculator/page": b"p" * 4096,
    b"usr/share/icons/calculator.svg": b"<svg/>",
}

NODES: dict[bytes, Node] = {
    b"": Node(Kind.FOLDER, 0o755, mtime_ns=NOW * 10**9),
    b"usr": Node(Kind.FOLDER, 0o755),
    b"usr/bin": Node(Kind.FOLDER, 0o755, mtime_ns=-1),
    b"usr/bin/calc": Node(Kind.SYMLINK, 0o777, target=b"calculator"),
    b"usr/bin/other-name": Node(Kind.HARDLINK, target=b"usr/bin/calculator"),
    b"usr/share": Node(Kind.FOLDER, 0o2755, uid=0, gid=50),
    b"usr/share/applications": Node(Kind.FOLDER, 0o755),
    b"usr/share/calculator": Node(Kind.FOLDER, 0o755, opaque=True),
    b"usr/share/doc": Node(Kind.WHITEOUT),
    b"usr/share/icons": Node(
        Kind.FOLDER,
        0o700,
        1000,
        1000,
        xattrs=((b"system.posix_acl_access", b"\2\0\0\0"), (b"user.note", b"")),
    ),
}
NODES |= {
    path: Node(Kind.FILE, 0o4755 if b"/bin/" in path else 0o644, mtime_ns=NOW * 10**9 + 5, size=len(plain))
    for path, plain in CONTENTS.items()
}


def plain_blocks(tree: Tree, contents: dict[bytes, bytes]) -> list[bytes]:
    """Return the plain bytes of every block."""
    blocks: list[bytes] = []
    for block in range(tree.block_count):
        entry, offset = tree.block_place(block)
        blocks.append(contents[tree.path(entry)][offset : offset + BLOCK_SIZE])
    return blocks


@dataclass(frozen=True)
class Sample:
    """A package and its parts."""

    file: bytes
    package: Package
    blocks: list[bytes]
    frames: list[bytes]


def manifest_of(tree: Tree, block_ids: bytes) -> Manifest:
    """Return the manifest of the sample."""
    tree_bytes = encode_tree(tree)
    return Manifest(
        name="calculator",
        version="1.2.3-4+b1",
        kind="application",
        architecture="amd64",
        feature_level=1,
        requires=(digest(b"a runtime"),),
        tree_digest=digest(tree_bytes),
        tree_size=len(tree_bytes),
        blocks_root=root(split(block_ids)),
        block_count=tree.block_count,
        plain_bytes=tree.plain_bytes,
        applications=(
            Application(
                id="org.example.Calculator",
                name="Calculator \N{ABACUS}",
                command="calculator %f",
                comment="Adds",
                icon="calculator",
                icons=(Icon(b"usr/share/icons/calculator.svg", 0),),
                categories=("Utility", "Calculator"),
                mime_types=("text/x-sum",),
                url_schemes=("sum",),
                startup_wm_class="calculator",
                desktop_file=b"usr/share/applications/calculator.desktop",
            ),
        ),
        policy=Policy(
            x11=True, dbus_session=True, dbus_talk=("org.example.Bus.*",), environment=(("LANG", "C.UTF-8"),)
        ),
        publisher=PUBLISHER,
        title="Calculator",
        description="Adds numbers.\nAnd more.",
        contents=("calculator=1.2.3-4+b1", "libsum=7"),
    )


def make_sample() -> Sample:
    """Return the sample package."""
    tree = build_tree(NODES)
    blocks = plain_blocks(tree, CONTENTS)
    ids = b"".join(map(block_id, blocks))
    plan = plan_frames(tree, ids)
    frames = [encode_frame([blocks[block] for block in frame]) for frame in plan]
    layout = Layout([len(frame) for frame in frames], plan, tree, ids)
    manifest = encode_manifest(manifest_of(tree, ids))
    head = assemble_head(manifest, sign("manifest", manifest, SEED), tree, ids, layout, sum(map(len, frames)))
    file = head + b"".join(frames)
    return Sample(file, parse_package(file), blocks, frames)


def parse_package(file: bytes) -> Package:
    """Return the package in `file`, read as a client reads it."""
    parser = PackageParser(len(file), trusted={PUBLISHER})
    while needs := parser.needs():
        for offset, size in needs:
            parser.feed(offset, file[offset : offset + size])
            if len(file) < offset + size:
                raise AssertionError("a parser that asks for bytes beyond the end of the file")
    assert parser.package is not None
    return parser.package


SAMPLE = make_sample()
STACK = (
    PackLayer(
        SAMPLE.package.version_id, SAMPLE.package.manifest.blocks_root, SAMPLE.package.tree.block_count
    ),
)
EXTENTS = (
    PackExtent(0, 0, 3, 2),
    PackExtent(0, 2, 0, 1),
    PackExtent(0, 4, 0, 3),
    PackExtent(0, 0, 0, 2),
    PackExtent(0, 1, 0, 16),
    PackExtent(0, 0, 10, 6),
)


def make_pack() -> bytes:
    """Return a launch pack of the sample."""
    source = PackSource(SAMPLE.package.version_id, SAMPLE.package.tree, SAMPLE.package.block_ids)
    return build_pack("org.example.Calculator", [source], EXTENTS, lambda _layer, block: SAMPLE.blocks[block])


def make_profiles() -> PackageProfiles:
    """Return launch profiles of the sample, of its application and of one that was never started."""
    tree = SAMPLE.package.tree
    contents: list[ProfileContent] = []
    for path in (
        b"usr/bin/calculator",
        b"usr/share/applications/calculator.desktop",
        b"usr/share/calculator/digits",
    ):
        entry = tree.find(path)
        assert entry is not None
        contents.append(ProfileContent(SAMPLE.package.content_id(entry), tree.sizes[entry], path))
    profile = LaunchProfile(
        application="org.example.Calculator",
        bubble_id=bubble_id([SAMPLE.package.version_id]),
        runs=(ProfileRun("first launch", 812), ProfileRun("opening text/x-sum \N{ABACUS}", 640)),
        contents=tuple(contents),
        touches=(
            Touch(0, 3, 2, 0, 0),
            Touch(1, 0, 1, 15, 0),
            Touch(2, 0, 3, 400, 1),
            Touch(0, 15, 20, 1200, 0),
            Touch(0, 0, 2, 1201, 1),
        ),
        window_touches=3,
    )
    never = LaunchProfile("never", profile.bubble_id, profile.runs[:1], (), (), 0)
    return PackageProfiles(SAMPLE.package.version_id, (profile, never))


def old_contents() -> dict[bytes, bytes]:
    """Return what the version before the sample had: addresses that moved, a piece more, a file less."""
    contents = dict(CONTENTS)
    program = bytearray(contents[b"usr/bin/calculator"])
    for place in range(0, len(program) - 1, 997):
        program[place] = (program[place] + 16) % 256
    contents[b"usr/bin/calculator"] = bytes(program[:70_000]) + b"gone" * 50 + bytes(program[70_000:])
    contents[b"usr/share/applications/calculator.desktop"] += b"Icon=calculator\n"
    del contents[b"usr/share/icons/calculator.svg"]
    contents[b"usr/share/calculator/empty"] = b"no longer"
    return contents


def delta_side(version: bytes, contents: dict[bytes, bytes]) -> DeltaSide:
    """Return a version with these files as a delta's side."""
    nodes = {path: replace(NODES[path], size=len(plain)) for path, plain in contents.items()}
    folders = {path: node for path, node in NODES.items() if node.kind == Kind.FOLDER}
    links = {path: node for path, node in NODES.items() if node.kind == Kind.HARDLINK}
    tree = build_tree(folders | nodes | links)
    blocks = plain_blocks(tree, contents)
    return DeltaSide(version, tree, b"".join(map(block_id, blocks)), blocks.__getitem__)


OLD = delta_side(digest(b"the version before"), old_contents())
NEW = DeltaSide(
    SAMPLE.package.version_id, SAMPLE.package.tree, SAMPLE.package.block_ids, SAMPLE.blocks.__getitem__
)


def make_delta() -> bytes:
    """Return the delta from the version before to the sample."""
    return build_delta(
        OLD, NEW, lambda block: SAMPLE.package.layout.place(SAMPLE.package.layout.frame_of(block))[1]
    )


def make_pointer() -> Pointer:
    """Return the pointer to the sample."""
    return Pointer(
        version_id=SAMPLE.package.version_id,
        object_digest=digest(SAMPLE.file),
        object_size=len(SAMPLE.file),
        header=SAMPLE.package.header,
        packs=(
            PackReference(
                "org.example.Calculator", bubble_id([SAMPLE.package.version_id]), digest(b"pack"), 4711
            ),
        ),
        generation=3,
        issued=NOW,
        expires=NOW + 600,
    )


def make_publishing() -> Publishing:
    """Return a publishing document with the sample."""
    manifest = SAMPLE.package.manifest
    return Publishing(
        server="Example Ltd.",
        user="ada",
        generation=7,
        issued=NOW,
        expires=NOW + 86400,
        items=(
            Published(
                manifest.name,
                manifest.version,
                manifest.title,
                SAMPLE.package.version_id,
                (*manifest.requires, SAMPLE.package.version_id),
                manifest.applications,
                manifest.policy,
                manifest.plain_bytes,
            ),
        ),
    )


def package_file(
    *,
    manifest: bytes | None = None,
    signature: bytes | None = None,
    tree: bytes | None = None,
    block_ids: bytes | None = None,
    layout: bytes | None = None,
    blocks: bytes | None = None,
    stored: dict[Section, tuple[bytes, int]] | None = None,
) -> bytes:
    """Return the sample's file with parts replaced, and all that is not signed made to fit again."""
    package = SAMPLE.package
    manifest = package.manifest_bytes if manifest is None else manifest
    plains = {
        Section.MANIFEST: manifest,
        Section.SIGNATURE: sign("manifest", manifest, SEED) if signature is None else signature,
        Section.TREE: encode_tree(package.tree) if tree is None else tree,
        Section.BLOCK_IDS: package.block_ids if block_ids is None else block_ids,
        Section.LAYOUT: encode_layout(package.layout) if layout is None else layout,
    }
    packed = {
        section: (compress(plain), len(plain))
        if section in (Section.MANIFEST, Section.TREE, Section.LAYOUT)
        else (plain, len(plain))
        for section, plain in plains.items()
    }
    packed |= stored or {}
    body = b"".join(SAMPLE.frames) if blocks is None else blocks
    head = b"".join(part for part, _ in packed.values())
    sizes = {section: (len(part), plain) for section, (part, plain) in packed.items()}
    header = header_of_sizes({**sizes, Section.BLOCKS: (len(body), len(body))}, digest(head))
    return encode_header(header) + head + body


def version_of(file: bytes) -> bytes:
    """Return the version id of a package file."""
    return version_id(parse_package(file).manifest_bytes)
