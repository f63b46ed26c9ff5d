"""Files for other languages: found beside those that were touched, once, none that the pack has anyway."""

from __future__ import annotations

import time

import pytest

from packageformat.entry import Kind, Node
from packageformat.launchpack import language_of
from packageformat.limits import BLOCK_SIZE, PAGE_SIZE
from packageformat.packdirectory import PackExtent
from packageformat.tree import Tree, build_tree
from streamserver.packlanguages import MESSAGES_MAX, language_extents


def file(size: int) -> Node:
    return Node(Kind.FILE, 0o644, size=size)


BASE = build_tree(
    {
        b"usr/share/locale/de/LC_MESSAGES/gtk.mo": file(5000),
        b"usr/share/locale/fr/LC_MESSAGES/gtk.mo": file(BLOCK_SIZE + 1),
        b"usr/share/locale/it/LC_MESSAGES/gtk.mo": file(MESSAGES_MAX + 1),
        b"usr/share/locale/ja/LC_MESSAGES/other.mo": file(10),
        b"usr/lib/locale/aa_DJ/LC_COLLATE": file(100),
        b"usr/lib/locale/de_DE/LC_COLLATE": Node(Kind.HARDLINK, target=b"usr/lib/locale/aa_DJ/LC_COLLATE"),
        b"usr/lib/locale/fr_FR/LC_COLLATE": file(200),
        b"usr/lib/locale/fr_BE/LC_COLLATE": Node(Kind.HARDLINK, target=b"usr/lib/locale/fr_FR/LC_COLLATE"),
        b"usr/lib/locale/fr_CA": Node(Kind.FOLDER, 0o755),
        b"usr/lib/locale/fr_CA/LC_NAME": Node(Kind.SYMLINK, 0o777, target=b"../br_FR/LC_NAME"),
        b"usr/lib/locale/br_FR": Node(Kind.FOLDER, 0o755),
        b"usr/lib/locale/br_FR/LC_NAME": file(30),
        b"usr/lib/locale/de_DE/LC_NAME": file(31),
        b"usr/bin/tool": file(10),
    }
    | {
        path: Node(Kind.FOLDER, 0o755)
        for path in (
            b"usr", b"usr/bin", b"usr/share", b"usr/share/locale", b"usr/lib", b"usr/lib/locale",
            *(b"usr/share/locale/" + name for name in (b"de", b"fr", b"it", b"ja")),
            *(b"usr/share/locale/" + name + b"/LC_MESSAGES" for name in (b"de", b"fr", b"it", b"ja")),
            *(b"usr/lib/locale/" + name for name in (b"aa_DJ", b"de_DE", b"fr_FR", b"fr_BE")),
        )
    }
)  # fmt: skip


def block(tree: Tree, path: bytes) -> int:
    entry = tree.find(path)
    assert entry is not None
    return tree.first_block(entry)


def test_counterparts_come_whole_by_language() -> None:
    gtk = block(BASE, b"usr/share/locale/de/LC_MESSAGES/gtk.mo")
    found = language_extents([PackExtent(0, gtk, 0, 1)], [BASE])
    first = block(BASE, b"usr/share/locale/fr/LC_MESSAGES/gtk.mo")
    assert found == {"fr": [PackExtent(0, first, 0, 16), PackExtent(0, first + 1, 0, 1)]}


def test_other_files_of_a_language_come_with_its_messages_and_shared_ones_once() -> None:
    shared = block(BASE, b"usr/lib/locale/de_DE/LC_COLLATE")
    assert language_extents([PackExtent(0, shared, 0, 1)], [BASE]) == {}, "no messages: not spoken here"
    gtk = block(BASE, b"usr/share/locale/de/LC_MESSAGES/gtk.mo")
    found = language_extents([PackExtent(0, shared, 0, 1), PackExtent(0, gtk, 0, 2)], [BASE])
    french = block(BASE, b"usr/lib/locale/fr_BE/LC_COLLATE")
    assert list(found) == ["fr"]
    assert PackExtent(0, french, 0, 1) in found["fr"]
    assert len(found["fr"]) == 3


def test_links_between_languages_are_followed() -> None:
    name = block(BASE, b"usr/lib/locale/de_DE/LC_NAME")
    gtk = block(BASE, b"usr/share/locale/de/LC_MESSAGES/gtk.mo")
    found = language_extents([PackExtent(0, name, 0, 1), PackExtent(0, gtk, 0, 2)], [BASE])
    assert PackExtent(0, block(BASE, b"usr/lib/locale/br_FR/LC_NAME"), 0, 1) in found["fr"]


def test_the_topmost_layer_that_has_a_path_counts() -> None:
    top = build_tree(
        {
            path: Node(Kind.FOLDER, 0o755)
            for path in (
                b"usr", b"usr/share", b"usr/share/locale", b"usr/share/locale/fr",
                b"usr/share/locale/fr/LC_MESSAGES",
            )
        }
        | {b"usr/share/locale/fr/LC_MESSAGES/gtk.mo": file(PAGE_SIZE)}
    )  # fmt: skip
    gtk = block(BASE, b"usr/share/locale/de/LC_MESSAGES/gtk.mo")
    assert language_extents([PackExtent(0, gtk, 0, 1)], [BASE, top])["fr"] == [PackExtent(1, 0, 0, 1)]


def test_what_is_for_no_language_has_no_counterparts() -> None:
    tool = block(BASE, b"usr/bin/tool")
    assert language_extents([PackExtent(0, tool, 0, 1)], [BASE]) == {}


def tree_of(files: dict[str, int]) -> Tree:
    """Return a tree of files of these sizes, with German and French messages beside them."""
    sizes = {f"usr/share/locale/{language}/LC_MESSAGES/app.mo": 100 for language in ("de", "fr", "pt_BR")}
    nodes = {path.encode(): file(size) for path, size in (sizes | files).items()}
    for path in list(nodes):
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            nodes.setdefault(path, Node(Kind.FOLDER, 0o755))
    return build_tree(nodes)


def named(files: dict[str, int], *touched: str) -> dict[str, set[str]]:
    """Return which of these files are found beside the touched ones, by language, catalogs left out."""
    tree = tree_of(files)
    paths = ["usr/share/locale/de/LC_MESSAGES/app.mo", *touched]
    found = language_extents([PackExtent(0, block(tree, path.encode()), 0, 1) for path in paths], [tree])
    assert found.keys() == {"fr", "pt"}
    return {
        language: {tree.path(tree.block_place(one.block)[0]).decode() for one in extents} & files.keys()
        for language, extents in found.items()
    }


@pytest.mark.parametrize(
    ("touched", "french", "portuguese"),
    [
        (
            "doc/start-welcome-text.de.svg",
            "doc/start-welcome-text.fr.svg",
            "doc/start-welcome-text.pt_BR.svg",
        ),
        ("doc/text_de.svg", "doc/text_fr.svg", "doc/text_pt-BR.svg"),
        ("doc/text-de.svg", "doc/text-fr_BE.svg", "doc/text-pt.svg"),
        ("doc/text.de_DE.tar.gz", "doc/text.fr.tar.gz", "doc/text.pt_BR.tar.gz"),
        ("doc/de.html", "doc/fr.html", "doc/pt-BR.html"),
        ("doc/menu_de_small.png", "doc/menu_fr@euro_small.png", "doc/menu_pt_small.png"),
        ("doc/text.en.svg", "doc/text.fr.svg", "doc/text.pt.svg"),
        ("doc/text.svg", "doc/text.fr.svg", "doc/text.pt_BR.svg"),
        ("text.de.svg", "text.fr.svg", "text.pt.svg"),
    ],
)
def test_a_file_with_a_language_in_its_name_has_counterparts(
    touched: str, french: str, portuguese: str
) -> None:
    files = {touched: 10, french: 1 << 16, portuguese: 20, "doc/other.fr.svg": 30, "doc/text.it.svg": 40}
    assert named(files, touched) == {"fr": {french}, "pt": {portuguese}}


@pytest.mark.parametrize(
    ("touched", "other"),
    [
        ("doc/text.de.svg", "doc/text.fr.png"),
        ("doc/text.de.svg", "other/text.fr.svg"),
        ("doc/text.de.svg", "doc/text.fr"),
        ("doc/text.it.svg", "doc/text.fr.svg"),  # no messages in Italian: "it" is no language here
        ("doc/text.de", "doc/text.fr"),
        ("bin/de", "bin/fr"),
        ("doc/node.svg", "doc/nofr.svg"),
        ("doc/text.svg", "doc/text-fr.svg"),
    ],
)
def test_other_names_are_no_counterparts(touched: str, other: str) -> None:
    assert named({touched: 10, other: 10}, touched) == {"fr": set(), "pt": set()}


def test_a_counterpart_by_name_is_small_and_not_in_the_launch_pack() -> None:
    files = {"a.svg": 10, "a.fr.svg": (64 << 10) + 1, "b.svg": 10, "b.fr.svg": 20}
    assert named(files, "a.svg", "b.svg", "b.fr.svg") == {"fr": set(), "pt": set()}
    assert named(files, "a.svg", "b.svg") == {"fr": {"b.fr.svg"}, "pt": set()}


def test_counterparts_of_600_files_in_100_languages_are_found_at_once() -> None:
    codes = [first + second for first in "abcdefghij" for second in "abcdefghij"]
    tree = build_tree(
        {path: Node(Kind.FOLDER, 0o755) for path in (b"doc", b"locale")}
        | {f"locale/{code}".encode(): Node(Kind.FOLDER, 0o755) for code in codes}
        | {f"locale/{code}/app.mo".encode(): file(10) for code in codes}
        | {f"doc/{number}.{code}.svg".encode(): file(10) for number in range(100) for code in codes}
        | {f"doc/{number}.svg".encode(): file(10) for number in range(600)}
    )
    wanted = [b"locale/aa/app.mo", *(b"doc/%d.svg" % number for number in range(600))]
    touched = [PackExtent(0, block(tree, path), 0, 1) for path in wanted]
    started = time.process_time()
    found = language_extents(touched, [tree])
    assert time.process_time() - started < 1
    assert {language: len(extents) for language, extents in found.items()} == {
        code: 101 for code in codes[1:]
    }


@pytest.mark.parametrize(
    ("locale", "language"),
    [("fr_BE.UTF-8", "fr"), ("de", "de"), ("ast_ES@euro", "ast"), ("C.UTF-8", ""), ("", ""), ("POSIX", ""),
     ("../etc", ""), ("english", "")],
)  # fmt: skip
def test_a_locale_names_its_language(locale: str, language: str) -> None:
    assert language_of(locale) == language
