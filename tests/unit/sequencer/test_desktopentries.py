"""Applications out of desktop files, and their icons."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packageformat.application import Icon
from packageformat.tree import Kind, Node, Tree, build_tree
from sequencer.desktopentries import applications_of, desktop_files, follow, icon_size, parse_desktop_file

EDITOR = """\
# a comment
[Desktop Entry]
Type=Application
Name=Editor
Name[de]=Bearbeiter
Comment=Edit\\sfiles
Exec=editor --new %U
Icon=editor
Categories=Utility;TextEditor;
MimeType=text/plain;x-scheme-handler/edit;text/html;
Terminal=false
StartupWMClass=Editor
[Desktop Action new]
Name=New
Exec=editor --other
"""


def tree_of(*paths: str, links: dict[str, str] | None = None) -> Tree:
    nodes: dict[bytes, Node] = {}
    for path in (*paths, *(links or {})):
        parts = path.encode().split(b"/")
        for depth in range(1, len(parts)):
            nodes[b"/".join(parts[:depth])] = Node(Kind.FOLDER, 0o755)
        target = (links or {}).get(path)
        nodes[path.encode()] = (
            Node(Kind.FILE, 0o644, size=10) if target is None else Node(Kind.SYMLINK, target=target.encode())
        )
    return build_tree(nodes)


def test_a_desktop_file_becomes_an_application_with_its_icons() -> None:
    tree = tree_of(
        "usr/share/applications/editor.desktop",
        "usr/share/icons/hicolor/48x48/apps/editor.png",
        "usr/share/icons/hicolor/scalable/apps/editor.svg",
        "usr/share/icons/hicolor/48x48/actions/editor.png",
        "usr/share/icons/Adwaita/48x48/apps/editor.png",
        "usr/share/pixmaps/editor.xpm",
        "usr/share/pixmaps/other.xpm",
    )
    (index,) = desktop_files(tree)
    (editor,), notes = applications_of(tree, {index: EDITOR})
    assert notes == []
    assert (editor.id, editor.name, editor.command) == ("editor", "Editor", "editor --new %U")
    assert editor.comment == "Edit files"
    assert editor.mime_types == ("text/plain", "text/html")
    assert editor.url_schemes == ("edit",)
    assert editor.categories == ("Utility", "TextEditor")
    assert editor.startup_wm_class == "Editor"
    assert editor.icons == (
        Icon(b"usr/share/icons/hicolor/scalable/apps/editor.svg", 0),
        Icon(b"usr/share/icons/hicolor/48x48/apps/editor.png", 48),
        Icon(b"usr/share/pixmaps/editor.xpm", 48),
    )


def test_an_icon_that_is_a_link_is_followed_inside_the_package() -> None:
    tree = tree_of(
        "usr/share/applications/fox.desktop",
        "usr/lib/fox/icons/default128.png",
        links={
            "usr/share/icons/hicolor/128x128/apps/fox.png": "../../../../../lib/fox/icons/default128.png",
            "usr/share/icons/hicolor/64x64/apps/fox.png": "/usr/lib/elsewhere.png",
            "usr/share/icons/hicolor/32x32/apps/fox.png": "fox.png",
        },
    )
    (fox,), _ = applications_of(tree, {desktop_files(tree)[0]: EDITOR.replace("Icon=editor", "Icon=fox")})
    assert fox.icons == (Icon(b"usr/lib/fox/icons/default128.png", 128),)


def test_a_link_cannot_lead_out_of_the_tree() -> None:
    tree = tree_of("a/file", links={"a/out": "../../../../a/file", "a/loop": "loop"})
    assert follow(tree, b"a/out") == b"a/file"
    assert follow(tree, b"a/loop") is None
    assert follow(tree, b"../../etc/passwd") is None


def test_what_menus_do_not_show_is_no_application() -> None:
    tree = tree_of(
        "usr/share/applications/a.desktop",
        "usr/share/applications/b.desktop",
        "usr/share/applications/c.desktop",
        "usr/share/applications/d.desktop",
    )
    texts = dict(
        zip(
            desktop_files(tree),
            (
                EDITOR.replace("Type=Application", "Type=Application\nNoDisplay=true"),
                EDITOR.replace("Type=Application", "Type=Link"),
                EDITOR.replace("Exec=editor --new %U\n", ""),
                "",
            ),
            strict=True,
        )
    )
    found, notes = applications_of(tree, texts)
    assert found == ()
    assert len(notes) == 4


def test_the_size_of_an_icon_is_told_by_its_folder() -> None:
    assert icon_size(b"usr/share/icons/hicolor/256x256/apps/a.png") == 256
    assert icon_size(b"usr/share/icons/hicolor/32x32@2/apps/a.png") == 64
    assert icon_size(b"usr/share/icons/hicolor/scalable/apps/a.svg") == 0
    assert icon_size(b"usr/share/pixmaps/a.png") == 48


@given(st.text(max_size=400))
def test_any_text_gives_an_application_or_a_note(text: str) -> None:
    tree = tree_of("usr/share/applications/x.desktop")
    found, notes = applications_of(tree, {desktop_files(tree)[0]: "[Desktop Entry]\n" + text})
    assert len(found) + len(notes) == 1
    parse_desktop_file(text)
