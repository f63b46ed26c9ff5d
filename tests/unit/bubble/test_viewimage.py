from __future__ import annotations

import atexit
import errno
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bubble import fuse
from bubble.blockids import write_ids
from bubble.composition import write_view
from bubble.fuse import Opcode
from bubble.layerimage import load_layer
from bubble.mountpoints import MOUNT_FILES, MOUNT_FOLDERS
from bubble.viewfiles import ViewFiles
from bubble.viewimage import ROOT, ViewImage, load
from packageformat.entry import Kind, Node
from packageformat.errors import FormatError
from packageformat.hashing import block_id, file_content_id
from packageformat.limits import BLOCK_SIZE
from packageformat.merge import merge
from packageformat.tree import Tree, build_tree

FOLDER = Node(Kind.FOLDER, 0o755)


def package(nodes: dict[bytes, Node], label: bytes = b"a") -> tuple[bytes, Tree, bytes]:
    """Return a package whose block ids are made up of the file's label and place."""
    tree = build_tree(nodes)
    ids = b"".join(sha256(label + str(block).encode()).digest() for block in range(tree.block_count))
    return sha256(label).digest(), tree, ids


def a_package() -> tuple[bytes, Tree, bytes]:
    return package(
        {
            b"usr": FOLDER,
            b"usr/bin": FOLDER,
            b"usr/bin/tool": Node(
                Kind.FILE, 0o4755, mtime_ns=1_500_000_000_123_456_789, size=3 * BLOCK_SIZE - 1
            ),
            b"usr/bin/other": Node(Kind.HARDLINK, target=b"usr/bin/tool"),
            b"usr/bin/link": Node(Kind.SYMLINK, 0o777, target=b"tool"),
            b"usr/bin/empty": Node(Kind.FILE, 0o600),
            b"usr/old": Node(Kind.FILE, 0o644, mtime_ns=-5_000_000_001, size=7),
            b"tmp": Node(Kind.SYMLINK, 0o777, target=b"/etc"),
            b"etc": Node(Kind.FOLDER, 0o750, mtime_ns=42),
            b"etc/localtime": Node(Kind.SYMLINK, 0o777, target=b"/usr/share/zoneinfo/UTC"),
        }
    )


def image_of(*packages: tuple[bytes, Tree, bytes]) -> ViewImage:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "image"
        write_view(place, packages)
        return load(place.read_bytes())


def walk(image: ViewImage, folder: int = ROOT) -> Iterator[tuple[bytes, int]]:
    """Yield path and node of everything that a view shows."""
    for name, node in image.children(folder):
        path = (image.path(folder) + b"/" if folder else b"") + name
        yield path, node
        if stat.S_ISDIR(image.mode(node)):
            yield from walk(image, node)


def test_everything_of_the_tree_is_in_the_image():
    version, tree, ids = a_package()
    image = image_of((version, tree, ids))
    tool = image.find(b"usr/bin/tool")
    other = image.find(b"/usr/bin/other")
    link = image.find(b"usr/bin/link")
    assert tool is not None and other is not None and link is not None
    mode, size, mtime_ns, links = image.attributes(tool)
    assert mode == stat.S_IFREG | 0o755, "set-id bits are masked"
    assert (size, mtime_ns) == (3 * BLOCK_SIZE - 1, 1_500_000_000_123_456_789)
    assert other == tool
    assert links == 2
    assert image.target(link) == b"tool"
    content = image.content(tool)
    first = tree.first_block(tree.find(b"usr/bin/tool") or 0)
    assert (content.size, content.layer, content.layer_first_block) == (3 * BLOCK_SIZE - 1, version, first)
    assert image.content_id(content) == file_content_id(content.size, ids[first * 32 : (first + 3) * 32])
    assert image.block_ids(content) == ids[first * 32 : (first + 3) * 32]
    with pytest.raises(IndexError):
        image.content(image.find(b"usr/bin/empty") or 0)
    assert image.path(tool) == b"usr/bin/other", "the first name in order"
    assert image.parent(image.find(b"usr/bin") or 0) == image.find(b"usr")
    assert image.parent(image.find(b"usr") or 0) == ROOT
    assert image.find(b"usr/bin/nothing") is None
    assert image.find(b"usr/bin/tool/under") is None


def test_every_place_that_a_bubble_mounts_on_is_plain():
    image = image_of(a_package())
    for path in MOUNT_FOLDERS:
        assert stat.S_ISDIR(image.mode(image.find(path) or 0)), path
    for path in MOUNT_FILES:
        assert stat.S_ISREG(image.mode(image.find(path) or 0)), path
    etc = image.find(b"etc") or 0
    assert (image.mode(etc), image.attributes(etc)[2]) == (stat.S_IFDIR | 0o750, 42), (
        "a package's folder keeps its own"
    )


names = st.sampled_from([b"a", b"b", b"c", b"usr", b"x.so.1", b"\xff\xfe"])


@st.composite
def packages(draw: st.DrawFn) -> tuple[bytes, Tree, bytes]:
    nodes: dict[bytes, Node] = {}
    folders = [b""]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(folders))
        path = (parent + b"/" if parent else b"") + draw(names)
        if path in nodes:
            continue
        kind = draw(st.sampled_from([Kind.FOLDER, Kind.FILE, Kind.SYMLINK, Kind.WHITEOUT]))
        if kind is Kind.FOLDER:
            nodes[path] = Node(kind, draw(st.integers(0, 0o7777)), opaque=draw(st.booleans()))
            folders.append(path)
        elif kind is Kind.FILE:
            nodes[path] = Node(
                kind, draw(st.integers(0, 0o7777)), size=draw(st.integers(0, 2 * BLOCK_SIZE + 5))
            )
        elif kind is Kind.SYMLINK:
            nodes[path] = Node(
                kind, 0o777, target=draw(st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b))
            )
        else:
            nodes[path] = Node(kind)
    return package(nodes, draw(st.binary(min_size=4, max_size=4)))


@settings(deadline=None)
@given(st.lists(packages(), min_size=1, max_size=3, unique_by=lambda made: made[0]))
def test_the_image_shows_what_the_merge_shows(layers):
    image = image_of(*layers)
    merged = merge([tree for _, tree, _ in layers])
    mounted = {
        b"/".join(path.split(b"/")[: n + 1]) for path in (*MOUNT_FILES, *MOUNT_FOLDERS) for n in range(4)
    }
    shown = dict(walk(image))
    assert shown.keys() == {merged.tree.path(index) for index in range(1, len(merged.tree))} | (
        shown.keys() & mounted
    )
    for index in range(1, len(merged.tree)):
        path = merged.tree.path(index)
        if path in mounted:
            continue
        node = image.find(path)
        assert node is not None and node == shown[path]
        kind = merged.tree.kinds[index]
        mode, size, _, _ = image.attributes(node)
        assert stat.S_ISDIR(mode) == (kind == Kind.FOLDER)
        assert mode & 0o6000 == 0
        if kind == Kind.SYMLINK:
            assert image.target(node) == merged.tree.target(index)
        if kind == Kind.FILE and merged.tree.sizes[index]:
            layer, source = merged.sources[index]
            assert size == merged.tree.sizes[index]
            content = image.content(node)
            assert content.layer == layers[layer][0]
            assert content.layer_first_block == layers[layer][1].first_block(source)
    again = image_of(*layers)  # a view that has been asked for nothing yet answers for the same nodes
    for path, node in shown.items():
        assert again.mode(node) == image.mode(node), path
        if stat.S_ISDIR(image.mode(node)):
            assert again.children(node) == image.children(node), path


@given(st.data())
def test_a_damaged_image_is_refused(data):
    image = bytearray(IMAGE)
    position = data.draw(st.integers(0, len(image) - 1))
    image[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        load(bytes(image))
    with pytest.raises(FormatError):
        load(IMAGE[: data.draw(st.integers(0, len(IMAGE) - 1))])


_PLACE = Path(tempfile.mkdtemp(prefix="millstream-test-")) / "image"
atexit.register(shutil.rmtree, _PLACE.parent, ignore_errors=True)
LAYER_FILE, _, _ = write_view(_PLACE, [a_package()])
IMAGE = _PLACE.read_bytes()


@given(st.data())
def test_a_damaged_layer_image_is_refused(data):
    layer = bytearray(LAYER_FILE.read_bytes())
    position = data.draw(st.integers(0, len(layer) - 1))
    layer[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        load_layer(bytes(layer))


def test_block_ids_become_known_while_a_view_runs(tmp_path):
    version, tree, ids = a_package()
    write_view(tmp_path / "image", [(version, tree, ids)])
    table = tmp_path / "image.0.ids"
    table.write_bytes(bytes(len(ids)))
    image = load((tmp_path / "image").read_bytes())
    tool = image.content(image.find(b"usr/bin/tool") or 0)
    old = image.content(image.find(b"usr/old") or 0)
    assert image.block_ids(tool) is None and image.content_id(tool) is None
    first = tool.layer_first_block
    write_ids(table, {first: ids[first * 32 : (first + 2) * 32]})
    assert image.block_ids(tool) is None, "one of three is missing"
    write_ids(table, {first + 2: ids[(first + 2) * 32 : (first + 3) * 32]})
    assert image.block_ids(tool) == ids[first * 32 : (first + 3) * 32]
    assert image.block_ids(old) is None


def test_a_view_without_one_of_its_layers_is_refused(tmp_path):
    write_view(tmp_path / "image", [a_package()])
    (tmp_path / "image.0.layer").unlink()
    with pytest.raises(FormatError, match="without one of its layers"):
        load((tmp_path / "image").read_bytes())


def test_twenty_five_thousand_entries_load_within_150_milliseconds(tmp_path):
    nodes = {b"usr": FOLDER}
    for folder in range(250):
        nodes[b"usr/%d" % folder] = FOLDER
        for file in range(100):
            nodes[b"usr/%d/library-%d.so" % (folder, file)] = Node(Kind.FILE, 0o644, size=70_000)
    write_view(tmp_path / "image", [package(nodes)])
    data = (tmp_path / "image").read_bytes()
    times = []
    for _ in range(5):
        start = time.process_time()
        image = load(data)
        times.append(time.process_time() - start)
    assert len(image.children(image.find(b"usr") or 0)) == 250
    assert min(times) < 0.150


# What the kernel is told


def files() -> tuple[ViewImage, ViewFiles]:
    image = load(IMAGE)
    return image, ViewFiles(image, 1000, 1001)


def ask(view: ViewFiles, opcode: Opcode, node: int, body: bytes = b"") -> tuple[int, bytes]:
    data = view.answer(opcode, 77, node, memoryview(body))
    length, error, unique = fuse.OUT.unpack_from(data)
    assert (length, unique) == (len(data), 77)
    return error, data[16:]


def test_a_name_is_looked_up_once_and_for_ever():
    image, view = files()
    error, body = ask(view, Opcode.LOOKUP, 1, b"usr\0")
    node, _, entry_seconds, attribute_seconds, _, _ = fuse.ENTRY.unpack_from(body)
    assert (error, node - 1, entry_seconds, attribute_seconds) == (
        0,
        image.find(b"usr"),
        fuse.FOREVER,
        fuse.FOREVER,
    )
    error, body = ask(view, Opcode.LOOKUP, 1, b"nothing\0")
    assert error == 0
    assert fuse.ENTRY.unpack_from(body)[:4] == (0, 0, fuse.FOREVER, fuse.FOREVER)


def test_everything_belongs_to_the_user():
    image, view = files()
    for _, node in [(b"", ROOT), *walk(image)]:
        _, body = ask(view, Opcode.GETATTR, node + 1)
        values = fuse.ATTRIBUTES.unpack_from(body, 16)
        assert values[11:13] == (1000, 1001)
        assert values[9] & 0o6000 == 0
    old = image.find(b"usr/old") or 0
    _, body = ask(view, Opcode.GETATTR, old + 1)
    values = fuse.ATTRIBUTES.unpack_from(body, 16)
    assert values[4] == 2**64 - 6 and values[7] == 999_999_999, "a time before 1970"


@given(st.integers(200, 4000), st.booleans())
def test_a_folder_is_listed_once_whatever_the_buffer(size, plus):
    image, view = files()
    seen = names_in(view, image.find(b"usr/bin") or 0, size, plus=plus)
    assert seen == [b".", b"..", b"empty", b"link", b"other", b"tool"]


def names_in(view: ViewFiles, folder: int, size: int, offset: int = 0, *, plus: bool = True) -> list[bytes]:
    """Return what the kernel gets to know by reading a folder from `offset` on."""
    opcode = Opcode.READDIRPLUS if plus else Opcode.READDIR
    seen = []
    while True:
        _, body = ask(view, opcode, folder + 1, fuse.READ_IN.pack(0, offset, size) + bytes(20))
        assert len(body) <= size
        if not body:
            return seen
        place = 0
        while place < len(body):
            place += 128 if plus else 0
            _, offset, length, _ = fuse.DIRECTORY_ENTRY.unpack_from(body, place)
            seen.append(body[place + 24 : place + 24 + length])
            place += 24 + length
            place += -place % 8


def test_opening_is_refused_so_that_the_kernel_stops_asking():
    _, view = files()
    for opcode in (
        Opcode.OPEN,
        Opcode.OPENDIR,
        Opcode.FLUSH,
        Opcode.GETXATTR,
        Opcode.LISTXATTR,
        Opcode.STATX,
    ):
        assert ask(view, opcode, 1)[0] == -errno.ENOSYS


@pytest.mark.parametrize("node", [0, 10**9, 2**63])
def test_a_node_that_does_not_exist_is_stale(node):
    _, view = files()
    with pytest.raises(OSError) as caught:
        ask(view, Opcode.GETATTR, node)
    assert caught.value.errno == errno.ESTALE


def test_block_ids_that_do_not_fit_are_refused(tmp_path):
    version, tree, ids = a_package()
    with pytest.raises(FormatError, match="block ids"):
        write_view(tmp_path / "image", [(version, tree, ids + block_id(b"x"))])
