"""Kept packages are found again by all that made them."""

from __future__ import annotations

from pathlib import Path

from samples.sequenced import SAMPLES, sample
from tests.points.hostfiles import changes, within_reach
from tests.points.slice_crashes import fetched_again

RECIPE = (
    '[package]\nname = "editor"\nversion = "1"\nbase = "system"\n[build]\nfiles = ["extra"]\ncommands = []\n'
)


def _recipes(folder: Path) -> Path:
    (folder / "system.toml").write_text('[package]\nname = "system"\nversion = "1"\nkind = "runtime"\n')
    (folder / "editor.toml").write_text(RECIPE)
    (folder / "extra").write_text("one")
    return folder


def test_a_key_changes_with_the_recipe_its_files_and_what_is_below(tmp_path: Path) -> None:
    folder = _recipes(tmp_path)
    keys = [sample("editor", folder).key, sample("editor", folder).key]
    assert keys[0] == keys[1]
    (folder / "extra").write_text("two")
    keys.append(sample("editor", folder).key)
    (folder / "system.toml").write_text('[package]\nname = "system"\nversion = "2"\nkind = "runtime"\n')
    keys.append(sample("editor", folder).key)
    (folder / "editor.toml").write_text(RECIPE + "network = true\n")
    keys.append(sample("editor", folder).key)
    assert len(set(keys[1:])) == 4


def test_every_sample_stands_on_a_sample() -> None:
    for recipe in SAMPLES.glob("*.toml"):
        found = sample(recipe.stem)
        assert not found.base or (SAMPLES / f"{found.base}.toml").exists()


def test_changes_tell_what_is_new_gone_and_different() -> None:
    assert changes({"/a": (1,), "/b": (1,)}, {"/b": (2,), "/c": (1,)}) == ["- /a", "! /b", "+ /c"]


def test_bytes_sent_twice_are_counted_once_too_often() -> None:
    line = '{{"path": "/v1/objects/aa", "status": 206, "range": "bytes={}-{}", "bytes": {}}}'
    lines = [line.format(0, 99, 100), line.format(50, 149, 100), line.format(200, 299, 30), "not json"]
    assert fetched_again(lines) == 50
    assert fetched_again(lines[1:]) == 0


def test_a_change_counts_only_if_the_user_had_the_right_to_it() -> None:
    mine, theirs, open_to_all, folder = (
        (0o100644, 1001, 1001),
        (0o100644, 0, 0),
        (0o100666, 0, 0),
        (0o040755, 0, 0),
    )
    before = {"/f": folder, "/f/mine": mine, "/f/theirs": theirs, "/f/open": open_to_all}
    after = {
        "/f": folder,
        "/f/theirs": (*theirs, 9),
        "/f/open": (*open_to_all, 9),
        "/f/new": mine,
        "/f/root": theirs,
    }
    marks = changes(before, after)
    assert marks == ["- /f/mine", "+ /f/new", "! /f/open", "+ /f/root", "! /f/theirs"]
    assert within_reach(marks, before, after, 1001, 1001) == ["- /f/mine", "+ /f/new", "! /f/open"]
