"""Files for other languages: found beside those that were touched, once, none that the pack has anyway."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("locale", "language"),
    [("fr_BE.UTF-8", "fr"), ("de", "de"), ("ast_ES@euro", "ast"), ("C.UTF-8", ""), ("", ""), ("POSIX", ""),
     ("../etc", ""), ("english", "")],
)  # fmt: skip
def test_a_locale_names_its_language(locale: str, language: str) -> None:
    assert language_of(locale) == language
