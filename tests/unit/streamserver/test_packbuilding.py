"""Packs as the builder makes them of a profile: twins are proved, late pages come with their block."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from packageformat.application import Application
from packageformat.launchpack import PackExtent, PackLayer, PackReader
from packageformat.launchprofile import PackageProfiles, decode_profiles, encode_profiles
from packageformat.limits import PAGE_SIZE
from packageformat.packdirectory import PackDirectory
from packageformat.tree import Tree
from streamserver.database import catalogue, packs
from streamserver.importing import import_package
from streamserver.packbuilding import bring_up_to_date
from streamserver.packclasses import RULES
from streamserver.profileimport import import_profile
from streamserver.store import Store, create_store, open_store
from tests.fonts import build_catalog, build_font
from tests.launches import write_profile
from tests.packages import PUBLISHER, BuiltPackage, build_package, open_package

PLAIN = random.Random(7).randbytes(40 * PAGE_SIZE)
FONT = build_font({"a": 3000, "b": 3000, "e": 3000, "eacute": 800}, {"a": "a", "b": "b", "é": "eacute"})
FRENCH = build_catalog("é")
FILES = {
    "usr/bin/editor": PLAIN[: 20 * PAGE_SIZE],
    "usr/share/keys/default.xml": PLAIN[:500],
    "usr/share/keys/editor.xml": PLAIN[:500],
    "usr/share/locale/de/LC_MESSAGES/editor.mo": b"Hallo",
    "usr/share/locale/fr/LC_MESSAGES/editor.mo": FRENCH,
    "usr/share/locale/fr_CA/LC_MESSAGES/old.mo": FRENCH,
    "usr/share/welcome.de.svg": b"Willkommen",
    "usr/share/welcome.fr.svg": b"Bienvenue",
}


@pytest.fixture
def packages(tmp_path: Path) -> tuple[BuiltPackage, BuiltPackage]:
    below = {"lib/library": PLAIN, "etc/keys": PLAIN[:500], "share/fonts/letters.ttf": FONT}
    base = build_package(tmp_path, "base", below, kind="runtime")
    editor = build_package(
        tmp_path, "editor", FILES, requires=[base], applications=[Application("editor", "Editor", "editor")]
    )
    path = write_profile(
        editor,
        "editor",
        [
            (base, "lib/library", 0, 4),
            (editor, "usr/share/keys/editor.xml", 0, 1),
            (editor, "usr/share/locale/de/LC_MESSAGES/editor.mo", 0, 1),
            (editor, "usr/share/welcome.de.svg", 0, 1),
            (base, "share/fonts/letters.ttf", 0, 1),
            (editor, "usr/bin/editor", 0, 1),
            (editor, "usr/bin/editor", 16, 2),  # from here on after the window
            (base, "lib/library", 9, 3),
        ],
    )
    whole = decode_profiles(path.read_bytes())
    (profile,) = whole.profiles
    path.write_bytes(
        encode_profiles(PackageProfiles(whole.version_id, (replace(profile, window_touches=6),)))
    )
    return base, editor


def directory_of(store: Store, digest: bytes, stack: tuple[BuiltPackage, BuiltPackage]) -> PackDirectory:
    manifests = [(one.version_id, one.manifest) for one in stack]
    reader = PackReader([PackLayer(name, one.blocks_root, one.block_count) for name, one in manifests])
    reader.feed(store.folder.object_path(digest).read_bytes())
    assert reader.complete
    assert reader.directory is not None
    return reader.directory


def proved(directory: PackDirectory, trees: list[Tree]) -> set[str]:
    return {
        tree.path(tree.block_place(block)[0]).decode()
        for tree, layer in zip(trees, directory.layers, strict=True)
        for block in layer.ids
    }


def test_what_a_profile_becomes(tmp_path: Path, packages: tuple[BuiltPackage, BuiltPackage]) -> None:
    create_store(tmp_path / "server", "Test server")
    with open_store(tmp_path / "server") as store:
        store.writer.run(lambda db: catalogue.add_publisher(db, PUBLISHER, "tests", now=0))
        for package in packages:
            import_package(store, package.path)
        import_profile(store, packages[1].path.with_suffix(".profile"))
        (built,) = bring_up_to_date(store)
        assert built.error is None
        (pack,) = store.reader.ask(packs.list_packs)
        (french,) = store.reader.ask(packs.list_language_packs)
        directory = directory_of(store, pack.object_digest, packages)
        beside = directory_of(store, french.object_digest, packages)
    trees = [open_package(one.path).package.tree for one in packages]
    assert (pack.pages, pack.rules, french.language) == (14, RULES, "fr")
    assert proved(directory, trees) == {
        "lib/library",
        "etc/keys",  # a twin, in another layer
        "share/fonts/letters.ttf",
        "usr/bin/editor",
        "usr/share/keys/default.xml",  # a twin
        "usr/share/keys/editor.xml",
        "usr/share/locale/de/LC_MESSAGES/editor.mo",
        "usr/share/welcome.de.svg",
    }
    assert proved(beside, trees) == {
        "usr/share/locale/fr/LC_MESSAGES/editor.mo",
        "usr/share/locale/fr_CA/LC_MESSAGES/old.mo",  # a twin
        "usr/share/welcome.fr.svg",
        "share/fonts/letters.ttf",  # the pages with é
    }
    font = trees[0].first_block(trees[0].find(b"share/fonts/letters.ttf") or 0)
    letters = [one for frame in beside.frames for one in frame.extents if one.layer == 0]
    assert {one.block for one in letters} == {font}
    assert sum(one.pages for one in letters) in (1, 2), "é and no other letter"
    assert all(one.first_page for one in letters), "the first page is in the launch's own pack"
    window, late = directory.frames
    library = trees[0].first_block(trees[0].find(b"lib/library") or 0)
    program = trees[1].first_block(trees[1].find(b"usr/bin/editor") or 0)
    assert {PackExtent(0, library, 0, 4), PackExtent(0, library, 9, 3)} <= set(window.extents)
    assert late.extents == (PackExtent(1, program + 1, 0, 2),)
