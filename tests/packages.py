"""Small real packages for tests: the real format, a real signature, little content.

    package = build_package(tmp_path, "editor", {"usr/bin/editor": b"#!/bin/sh\\necho hello\\n"})

Import as `from tests.packages import ...` (the clone's root is on sys.path).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from packageformat.application import Application
from packageformat.hashing import block_id
from packageformat.hashtree import root, split
from packageformat.layout import Layout, encode_frame, plan_frames
from packageformat.limits import BLOCK_SIZE, DIGEST_SIZE
from packageformat.manifest import Manifest, PackageKind, encode_manifest, version_id
from packageformat.package import assemble_head
from packageformat.policy import Policy
from packageformat.signature import public_key, sign
from packageformat.tree import Kind, Node, build_tree, encode_tree
from tests.packagefiles import PackageFile, open_package, unpack

__all__ = [
    "PUBLISHER",
    "PUBLISHER_SEED",
    "STRANGER_SEED",
    "BuiltPackage",
    "Kind",
    "Node",
    "PackageFile",
    "build_package",
    "nodes_of",
    "open_package",
    "unpack",
]

PUBLISHER_SEED = sha256(b"the publisher of the tests").digest()
PUBLISHER = public_key(PUBLISHER_SEED)
STRANGER_SEED = sha256(b"a publisher whom nobody trusts").digest()

SECOND = 1_000_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class BuiltPackage:
    """A package file and what its manifest says."""

    path: Path
    manifest: Manifest
    version_id: bytes

    @property
    def stack(self) -> tuple[bytes, ...]:
        """The version ids of its bubble, bottom first."""
        return (*self.manifest.requires, self.version_id)


def nodes_of(files: Mapping[str, bytes | Node]) -> dict[bytes, Node]:
    """Return the nodes of a tree: bytes are files of mode 0755; missing parent folders are added.

    A `Node` is taken as it is (a symlink: `Node(Kind.SYMLINK, mode=0o777, target=b"...")`).
    """
    folder = Node(Kind.FOLDER, mode=0o755, mtime_ns=SECOND)
    nodes: dict[bytes, Node] = {b"": folder}
    for name, content in files.items():
        path = name.encode()
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            nodes.setdefault(b"/".join(parts[:depth]), folder)
        if isinstance(content, Node):
            nodes[path] = content
        else:
            nodes[path] = Node(Kind.FILE, mode=0o755, mtime_ns=2 * SECOND, size=len(content))
    return nodes


def build_package(
    folder: Path,
    name: str,
    files: Mapping[str, bytes | Node],
    *,
    version: str = "1",
    kind: PackageKind = "application",
    requires: Sequence[BuiltPackage] = (),
    requires_ids: Sequence[bytes] | None = None,
    applications: Sequence[Application] = (),
    policy: Policy | None = None,
    title: str = "",
    description: str = "",
    architecture: str = "all",
    feature_level: int = 1,
    seed: bytes = PUBLISHER_SEED,
    level: int = 3,
) -> BuiltPackage:
    """Write `folder`/NAME_VERSION.ovp, signed by `seed`.

    Args:
        folder: where to write; it exists.
        name: of the package, a label.
        files: path (no leading slash) to content, or to a `Node` for what is not a plain file.
        version: of the package.
        kind: "application" or "runtime".
        requires: the complete stack under this package, bottom first.
        requires_ids: instead of `requires`: any version ids, such as ones that do not exist.
        applications: what it offers.
        policy: what it may reach; nothing by default.
        title: for people; the name by default.
        description: for people; another one makes another version id.
        architecture: "all" runs anywhere.
        feature_level: that a client must have.
        seed: the publisher's private key.
        level: zstd's; another one makes another layout of the same version.
    """
    tree = build_tree(nodes_of(files))
    contents = {path.encode(): content for path, content in files.items() if isinstance(content, bytes)}
    blocks: list[bytes] = []
    for block in range(tree.block_count):
        entry, offset = tree.block_place(block)
        blocks.append(contents[tree.path(entry)][offset : offset + BLOCK_SIZE])
    block_ids = b"".join(block_id(plain) for plain in blocks)
    frames = plan_frames(tree, block_ids)
    stored = [encode_frame([blocks[block] for block in frame], level) for frame in frames]
    encoded_tree = encode_tree(tree)
    manifest = Manifest(
        name=name,
        version=version,
        kind=kind,
        architecture=architecture,
        feature_level=feature_level,
        requires=tuple(requires_ids)
        if requires_ids is not None
        else tuple(one.version_id for one in requires),
        tree_digest=sha256(encoded_tree).digest(),
        tree_size=len(encoded_tree),
        blocks_root=root(split(block_ids)),
        block_count=tree.block_count,
        plain_bytes=tree.plain_bytes,
        applications=tuple(applications),
        policy=policy or Policy(),
        publisher=public_key(seed),
        title=title or name.capitalize(),
        description=description,
    )
    assert len(block_ids) == manifest.block_count * DIGEST_SIZE
    manifest_bytes = encode_manifest(manifest)
    layout = Layout([len(frame) for frame in stored], frames, tree, block_ids)
    head = assemble_head(
        manifest_bytes,
        sign("manifest", manifest_bytes, seed),
        tree,
        block_ids,
        layout,
        sum(len(frame) for frame in stored),
    )
    path = folder / f"{name}_{version}.ovp"
    path.write_bytes(head + b"".join(stored))
    return BuiltPackage(path, manifest, version_id(manifest_bytes))
