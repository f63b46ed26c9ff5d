"""Which launch packs are here, and the orders that views begin with."""

from __future__ import annotations

from pathlib import Path

from appclient.packshere import PacksHere
from bubble.launchorder import read_order

BUBBLE, OTHER = bytes([1]) * 32, bytes([2]) * 32


def test_a_pack_is_here_with_its_order_until_another_takes_its_place(tmp_path: Path) -> None:
    packs = PacksHere(tmp_path)
    assert packs.digest_of(BUBBLE, "editor") == b""
    packs.note(BUBBLE, "editor", b"a" * 32, [(1, 2, 3)])
    packs.note(BUBBLE, "editor@fr", b"b" * 32, [(4, 5, 6)])
    assert packs.digest_of(BUBBLE, "editor") == b"a" * 32
    assert packs.digest_of(OTHER, "editor") == b""
    orders = packs.orders(BUBBLE, ["editor@fr", "editor", "viewer"])
    assert [read_order(place) for place in orders] == [[(4, 5, 6)], [(1, 2, 3)]]
    packs.note(BUBBLE, "editor", b"c" * 32, [(7, 8, 9)])
    assert [read_order(place) for place in packs.orders(BUBBLE, ["editor"])] == [[(7, 8, 9)]]
    assert len(list(tmp_path.glob("*.order"))) == 2


def test_a_pack_without_its_order_is_brought_again_and_damaged_notes_say_nothing(tmp_path: Path) -> None:
    packs = PacksHere(tmp_path)
    packs.note(BUBBLE, "editor", b"a" * 32, [])
    for place in packs.orders(BUBBLE, ["editor"]):
        place.unlink()
    assert packs.digest_of(BUBBLE, "editor") == b""
    packs.note(BUBBLE, "editor", b"a" * 32, [])
    (notes,) = tmp_path.glob("*.packs")
    for text in ('{"editor": 7}', '{"editor": "zz"}', '{"editor": ""}', "[]", "{"):
        notes.write_text(text)
        assert packs.digest_of(BUBBLE, "editor") == b""
        assert packs.orders(BUBBLE, ["editor"]) == ()


def test_a_disk_that_does_not_tell_costs_a_launch_only_the_hint(tmp_path: Path) -> None:
    packs = PacksHere(tmp_path)
    packs.note(BUBBLE, "editor", b"a" * 32, [])
    (notes,) = tmp_path.glob("*.packs")
    notes.unlink()
    notes.mkdir()
    assert packs.orders(BUBBLE, ["editor"]) == ()
