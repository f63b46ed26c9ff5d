"""Whose private home is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from appclient.homes import home_of, owner_of

SERVER, PUBLISHER, OTHER = b"s" * 32, b"p" * 32, b"o" * 32


def test_a_package_of_the_same_name_from_elsewhere_has_a_home_of_its_own(tmp_path: Path) -> None:
    mine = owner_of(SERVER, PUBLISHER)
    assert home_of(tmp_path, "mail", mine) == tmp_path / "mail"
    strangers = {home_of(tmp_path, "mail", owner_of(*keys)) for keys in ((SERVER, OTHER), (OTHER, PUBLISHER))}
    assert len(strangers) == 2
    assert all(home.parent == tmp_path and home.name.startswith("mail@") for home in strangers)
    assert home_of(tmp_path, "mail", mine) == tmp_path / "mail"
    assert home_of(tmp_path, "editor", owner_of(OTHER, OTHER)) == tmp_path / "editor"


@pytest.mark.parametrize("content", ["", "x" * 64, "x" * 65])
def test_a_damaged_note_gives_the_home_to_nobody_else(tmp_path: Path, content: str) -> None:
    owner = owner_of(SERVER, PUBLISHER)
    home_of(tmp_path, "mail", owner)
    (tmp_path / ".owners/mail").write_text(content)
    assert home_of(tmp_path, "mail", owner) == tmp_path / f"mail@{owner[:16]}"
