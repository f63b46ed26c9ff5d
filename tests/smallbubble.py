"""Small real packages made of this machine's own programs, a real supplier for them, and bubbles of both.

Everything in the bubble runs as the ordinary user of tests/accounts.py. Run as a program, this module is
the supplier:   python -m tests.smallbubble SOURCE.json SOCKET BUBBLE CACHE IMAGE
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bubble.cachefile import CacheFolder
from bubble.composition import write_view
from bubble.spec import BubbleSpec, encode_spec
from bubble.supply import serve_views
from bubble.view import ALL_PAGES
from bubble.viewimage import ROOT, Content, ViewImage, load
from packageformat.entry import Kind, Node
from packageformat.hashing import block_id, digest
from packageformat.policy import Policy
from packageformat.stack import bubble_id
from packageformat.tree import Tree, build_tree
from tests.accounts import Account
from tests.ending import end_process

PROGRAMS = (
    "dash",
    "cat",
    "ls",
    "mv",
    "rm",
    "mkdir",
    "rmdir",
    "stat",
    "sleep",
    "id",
    "env",
    "touch",
    "ln",
    "head",
    "cp",
    "tr",
    "readlink",
    "sha256sum",
    "find",
    "kill",
    "true",
    "test",
    "chmod",
    "echo",
    "tail",
    "python3.11",
)
PYTHON_OMITTED = (
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "__pycache__",
    "dist-packages",
    "config-3.11-x86_64-linux-gnu",
)


@dataclass
class Layer:
    """A package in the making: what lies where, and the bytes of its files."""

    nodes: dict[bytes, Node] = field(default_factory=dict)
    data: dict[bytes, Path | bytes] = field(default_factory=dict)

    def folder(self, path: str, mode: int = 0o755, **more: Any) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            self.nodes.setdefault("/".join(parts[:depth]).encode(), Node(Kind.FOLDER, 0o755))
        self.nodes[path.encode()] = Node(Kind.FOLDER, mode, **more)

    def file(self, path: str, data: bytes | Path, mode: int = 0o644, **more: Any) -> None:
        self._parents(path)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        self.nodes[path.encode()] = Node(Kind.FILE, mode, size=size, **more)
        self.data[path.encode()] = data

    def link(self, path: str, target: str, kind: Kind = Kind.SYMLINK) -> None:
        self._parents(path)
        mode = 0o777 if kind is Kind.SYMLINK else 0
        self.nodes[path.encode()] = Node(kind, mode, target=target.encode())

    def whiteout(self, path: str) -> None:
        self._parents(path)
        self.nodes[path.encode()] = Node(Kind.WHITEOUT)

    def _parents(self, path: str) -> None:
        if "/" in path and path.rpartition("/")[0].encode() not in self.nodes:
            self.folder(path.rpartition("/")[0])

    def build(self) -> Built:
        tree = build_tree(self.nodes)
        sources: list[tuple[str, int]] = []
        ids: list[bytes] = []
        for block in range(tree.block_count):
            entry, offset = tree.block_place(block)
            data = self.data[tree.path(entry)]
            plain = _piece(data, offset, tree.block_size(block))
            ids.append(block_id(plain))
            sources.append((str(data) if isinstance(data, Path) else data.hex(), offset))
        block_ids = b"".join(ids)
        return Built(
            digest(b"version" + block_ids + repr(sorted(self.nodes.items())).encode()),
            tree,
            block_ids,
            self.data,
        )


@dataclass(frozen=True)
class Built:
    version_id: bytes
    tree: Tree
    block_ids: bytes
    data: Mapping[bytes, Path | bytes]


def _piece(data: Path | bytes, offset: int, size: int) -> bytes:
    if isinstance(data, bytes):
        return data[offset : offset + size]
    with data.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def small_system() -> Layer:
    """Return a runtime of this machine's own shell, core programs and Python, with their libraries."""
    layer = Layer()
    for name in ("bin", "sbin", "lib", "lib64"):
        layer.folder(f"usr/{name}")
        layer.link(name, f"usr/{name}")
    wanted = [Path(shutil.which(name, path="/usr/bin:/bin") or name).resolve() for name in PROGRAMS]
    python = Path("/usr/lib/python3.11")
    for found in sorted(python.rglob("*")):
        if found.is_file() and not set(found.relative_to(python).parts) & set(PYTHON_OMITTED):
            layer.file(str(found)[1:], found, 0o644)
            if found.suffix == ".so":
                wanted.append(found)
    libraries = subprocess.run(["ldd", *map(str, wanted)], capture_output=True, text=True).stdout
    for line in libraries.splitlines():
        for word in line.split():
            if word.startswith("/") and not word.endswith(":"):
                place = Path(word)
                real = place.resolve()
                destination = str(place.parent.resolve() / place.name)[1:]
                if destination.encode() not in layer.nodes:
                    layer.file(destination, real, 0o755)
    for program in wanted[: len(PROGRAMS)]:
        layer.file(f"usr/bin/{program.name}", program, 0o755)
    for alias, name in (("sh", "dash"), ("python3", "python3.11")):
        layer.link(f"usr/bin/{alias}", name)
    layer.folder("etc")
    layer.file("etc/issue", b"a small system\n")
    layer.folder("tmp", 0o1777)
    return layer


@dataclass
class Stand:
    """A place for one user's bubbles: cache, state, sockets."""

    account: Account
    folder: Path

    def bubble(self, layers: Sequence[Built], **changes: Any) -> Bubble:
        """Compose a bubble of these packages; nothing runs yet."""
        identity = bubble_id([layer.version_id for layer in layers])
        place = self.folder / identity.hex()[:12]
        place.mkdir(exist_ok=True)
        image = write_view(
            place / "image", [(layer.version_id, layer.tree, layer.block_ids) for layer in layers]
        )
        source = {
            layer.version_id.hex(): [
                [_place(layer.data[layer.tree.path(entry)]), offset, layer.tree.block_size(block)]
                for block in range(layer.tree.block_count)
                for entry, offset in [layer.tree.block_place(block)]
            ]
            for layer in layers
        }
        (place / "source.json").write_text(json.dumps(source))
        home = self.folder / "homes" / changes.pop("package", "app")
        spec = BubbleSpec(
            bubble_id=identity,
            view_image=place / "image",
            cache=self.folder / "cache",
            supplier=place / "supplier",
            supplier_restart=(),
            state=self.folder / "state" / identity.hex()[:12],
            home=home,
            runtime=self.account.runtime / "m",
            policy=Policy(),
            hidden=(self.folder,),
        )
        spec = replace(spec, **changes)
        for path in (place, *image, place / "source.json"):
            os.chown(path, self.account.uid, self.account.gid)
        return Bubble(self, spec, place)


def _place(data: Path | bytes) -> str:
    return str(data) if isinstance(data, Path) else "hex:" + data.hex()


@dataclass
class Bubble:
    stand: Stand
    spec: BubbleSpec
    place: Path

    def run(
        self, *argv: str, files: Sequence[Path] = (), timeout: float = 60, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Start a command in the bubble and wait for it."""
        return self.stand.account.run(self._driver(argv, files), timeout=timeout, stdin=stdin, **environment)

    def start(self, *argv: str, files: Sequence[Path] = (), **how: Any) -> Any:
        """Start a command in the bubble; return the Popen of its launching process."""
        how.setdefault("stdin", subprocess.DEVNULL)
        return self.stand.account.start(self._driver(argv, files), **how)

    def _driver(self, argv: Sequence[str], files: Sequence[Path]) -> list[str]:
        code = (
            "import sys, os, json, pathlib\n"
            "from bubble.launch import start, decode_spec\n"
            "from packageformat.errors import MillstreamError\n"
            "files = [pathlib.Path(name) for name in json.loads(sys.argv[3])]\n"
            "argv = json.loads(sys.argv[2])\n"
            "try: code = start(decode_spec(sys.argv[1]), argv, files=files, environment=os.environ, "
            "cwd=pathlib.Path.cwd())\n"
            "except MillstreamError as error: print(error.line(), file=sys.stderr); code = error.exit_code\n"
            "sys.exit(code)\n"
        )
        return [
            self.stand.account.python,
            "-c",
            code,
            encode_spec(self.spec),
            json.dumps(list(argv)),
            json.dumps(list(map(str, files))),
        ]

    def supplier_argv(self, *options: str) -> list[str]:
        return [
            self.stand.account.python,
            "-m",
            "tests.smallbubble",
            str(self.place / "source.json"),
            str(self.spec.supplier),
            self.spec.bubble_id.hex(),
            str(self.spec.cache),
            str(self.spec.view_image),
            *options,
        ]

    @contextmanager
    def supplied(self, *options: str) -> Iterator[Any]:
        """Run a supplier for this bubble; yields its Popen."""
        process = self.start_supplier(*options)
        try:
            yield process
        finally:
            process.kill()
            end_process(process)

    def start_supplier(self, *options: str) -> Any:
        self.spec.supplier.unlink(missing_ok=True)
        process = self.stand.account.start(self.supplier_argv(*options), stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not self.spec.supplier.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the supplier did not start")
            time.sleep(0.01)
        return process

    def log(self) -> str:
        return (self.spec.state / "bubble.log").read_text()

    def content_file(self, path: str) -> Path:
        """Return the cache file of a file of the bubble."""
        image = load(self.spec.view_image.read_bytes())
        node = image.find(path.encode())
        assert node is not None, path
        name = image.content_id(image.content(node))
        assert name is not None
        return CacheFolder(self.spec.cache).place(name)


@contextmanager
def stand(account: Account) -> Iterator[Stand]:
    """Make a place for bubbles below the user's home. Ends all processes of that user: never root's."""
    if account.uid == 0:
        raise ValueError("a stand is for an ordinary user")
    folder = account.home / f"stand-{time.monotonic_ns()}"
    for place in (folder, folder / "homes", folder / "state", folder / "cache"):
        place.mkdir(mode=0o700)
        os.chown(place, account.uid, account.gid)
    try:
        yield Stand(account, folder)
    finally:
        account.end_processes()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(account.runtime / "m", ignore_errors=True)  # what killed views did not remove


def contents_of(image: ViewImage, folder: int = ROOT) -> Iterator[Content]:
    """Yield every content that a view shows, of a file with several names once for each."""
    for _, node in image.children(folder):
        if stat.S_ISDIR(image.mode(node)):
            yield from contents_of(image, node)
        elif stat.S_ISREG(image.mode(node)) and image.size(node):
            yield image.content(node)


class SourceSupplier:
    """Brings blocks from the files that they were made of. Options: delay=SECONDS, refuse=PATH, log=FILE,
    soon=PATH (it is in the cache from the start, and views hear that it came before they ask).
    """

    def __init__(
        self,
        source: Mapping[str, Sequence[tuple[str, int, int]]],
        cache: CacheFolder,
        image: ViewImage,
        options: Mapping[str, str],
    ) -> None:
        self.source = source
        self.cache = cache
        self.places = {}
        for content in contents_of(image):
            name = image.content_id(content)
            assert name is not None
            for block in range(content.block_count):
                self.places[content.layer, content.layer_first_block + block] = (name, content.size, block)
        self.delay = float(options.get("delay", "0"))
        self.refuse = options.get("refuse")
        self.damage = int(options.get("damage", "0"))
        self.record = Path(options["log"]) if "log" in options else None
        self.image = image
        self.soon = options.get("soon")

    async def bring(self, layer: bytes, block: int, pages: int, urgency: int) -> None:
        place, offset, size = self.source[layer.hex()][block]
        name, content_size, number = self.places[layer, block]
        here = self.cache.open(name, content_size)
        if here is not None and here.has_block(number):
            return  # since the view looked: whoever brings blocks knows what there is
        if self.refuse is not None and (self.refuse == "*" or place.endswith(self.refuse)):
            raise OSError(5, "offline")
        if self.delay:
            await asyncio.sleep(self.delay)
        data = bytes.fromhex(place[4:]) if place.startswith("hex:") else Path(place)
        plain = _piece(data, offset, size)
        if self.damage:
            self.damage -= 1
            plain = bytes([plain[0] ^ 1]) + plain[1:]
        self.cache.create(name, content_size).write_block(number, plain)
        if self.record:
            with self.record.open("a") as record:
                print(layer.hex(), block, pages, file=record)

    async def damaged(self, layer: bytes, block: int) -> None:
        name, content_size, number = self.places[layer, block]
        self.cache.create(name, content_size).forget_block(number)

    async def bring_all(self, path: str) -> int:
        """Have all of a file in the cache; return its node."""
        node = self.image.find(path.encode())
        assert node is not None, path
        content = self.image.content(node)
        for block in range(content.block_count):
            await self.bring(content.layer, content.layer_first_block + block, 0, 0)
        return node


async def _supply(socket_path: Path, bubble: bytes, image: ViewImage, supplier: SourceSupplier) -> None:
    soon = [] if supplier.soon is None else [await supplier.bring_all(supplier.soon)]
    async with serve_views(socket_path, lambda _: image, supplier) as views:
        views.expect(bubble, soon)
        for node in soon:
            blocks = range(image.content(node).block_count)
            views.tell(bubble, [(node, block, ALL_PAGES) for block in blocks])
        await asyncio.Event().wait()


def main() -> None:
    source, socket_path, bubble, cache, image_path, *more = sys.argv[1:]
    image = load(Path(image_path).read_bytes())
    blocks = json.loads(Path(source).read_text())
    options = dict(option.split("=", 1) for option in more)
    supplier = SourceSupplier(blocks, CacheFolder(Path(cache)), image, options)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_supply(Path(socket_path), bytes.fromhex(bubble), image, supplier))


if __name__ == "__main__":
    main()
