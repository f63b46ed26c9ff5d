"""Recipes: what is one, and how a mistake is told."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.policy import Policy
from sequencer.errors import RecipeError
from sequencer.recipe import KEYS, parse_recipe, read_recipe

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = """
[package]
name = "editor"
version = "1.2"
base = "debian-12"
[build]
commands = ["true"]
"""


def test_a_small_recipe_is_enough() -> None:
    recipe = parse_recipe(SMALL)
    assert (recipe.name, recipe.version, recipe.base, recipe.kind) == (
        "editor",
        "1.2",
        "debian-12",
        "application",
    )
    assert recipe.build.commands == ("true",)
    assert not recipe.build.network


def test_what_the_recipe_states_of_the_policy_wins_over_the_defaults() -> None:
    recipe = parse_recipe(SMALL + '[policy]\nx11 = false\nsound = true\n[policy.environment]\nA = "b"\n')
    policy = recipe.policy_with(Policy(x11=True, gpu=True))
    assert (policy.x11, policy.gpu, policy.sound) == (False, True, True)
    assert policy.environment == (("A", "b"),)


def test_console_programs_are_stated_with_their_checks() -> None:
    recipe = parse_recipe(
        SMALL + '[[application]]\nid = "ed"\nname = "Ed"\ncommand = "ed %f"\ncheck = "ed -V"\n'
    )
    assert recipe.applications[0].terminal
    assert recipe.checks == (("ed", "ed -V"),)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("[package", "not TOML"),
        (SMALL.replace("[build]", "[builds]"), "no table [builds]"),
        (SMALL.replace("commands", "comands"), "[build] has no key 'comands'"),
        (SMALL.replace('"1.2"', "1.2"), "package.version must be a text, not 1.2"),
        (SMALL.replace('version = "1.2"\n', ""), "one of 'version' and 'version_of'"),
        (SMALL.replace('"editor"', '"../editor"'), "package.name"),
        (SMALL.replace('"editor"', '"/etc"'), "package.name"),
        (SMALL.replace('"editor"', '"' + "a" * 300 + '"'), "package.name"),
        (SMALL.replace('"debian-12"', '"../debian"'), "package.base"),
        (SMALL.replace('"1.2"', '"1/2"'), "package.version"),
        (SMALL.replace('["true"]', "[]"), "build.commands is empty"),
        (SMALL.replace('base = "debian-12"\n', ""), "either package.base or build.bootstrap"),
        (SMALL + "timeout_s = 0\n", "build.timeout_s must be a whole number from 1"),
        (SMALL + "timeout_s = true\n", "build.timeout_s"),
        (SMALL + 'network = "yes"\n', "build.network must be true or false"),
        (SMALL + 'files = ["../secret"]\n', "build.files"),
        (SMALL + 'files = ["/etc/shadow"]\n', "build.files"),
        (SMALL + 'tools = ["a; rm -r /"]\n', "build.tools"),
        (SMALL + 'bootstrap = "bookworm"\n', "either package.base or build.bootstrap"),
        (SMALL + 'packages = ["vim"]\n', "build.packages goes with build.bootstrap"),
        (SMALL + '[policy]\nhome = "all"\n', "[policy]"),
        (SMALL + '[policy]\ndbus_talk = ["not a name"]\n', "[policy]"),
        (SMALL + '[[application]]\nid = "../x"\nname = "X"\ncommand = "x"\n', "[[application]] number 1"),
        (SMALL + '[[application]]\nid = "x"\nname = "X"\n', "[application] needs 'command'"),
        (SMALL + "[application]\n", "[[application]]"),
        ("", "[package] is missing"),
    ],
)
def test_a_mistake_is_named(change: str, told: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(told)) as caught:
        parse_recipe(change)
    assert caught.value.exit_code == 20
    assert caught.value.hint


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.toml"):
        read_recipe(tmp_path / "none.toml")


def test_a_mistake_in_a_file_names_the_file_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[package]\nname = \n")
    with pytest.raises(RecipeError, match=r"bad\.toml: not TOML: .*line 2"):
        read_recipe(tmp_path / "bad.toml")


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(text)


@given(
    st.sampled_from(sorted(KEYS)),
    st.data(),
    st.sampled_from(["1", "-1", "true", '""', '"x"', "[]", '["a"]', "[1]", "{}", "{a = 1}", "1979-05-27"]),
)
def test_any_value_under_any_key_is_a_recipe_or_a_recipe_error(
    table: str, data: st.DataObject, value: str
) -> None:
    key = data.draw(st.sampled_from(KEYS[table]))
    head = "[[application]]" if table == "application" else f"[{table}]"
    with contextlib.suppress(RecipeError):
        parse_recipe(f"{head}\n{key} = {value}\n" + (SMALL if table not in ("package", "build") else ""))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "samples").glob("*.toml")), ids=lambda path: path.stem)
def test_every_sample_is_a_recipe(path: Path) -> None:
    assert read_recipe(path).name == path.stem


def test_the_packagers_page_tells_every_key_and_no_other() -> None:
    page = (REPOSITORY / "sequencer" / "README.md").read_text("utf-8")
    told = re.findall(r"^\| `([a-z0-9_]+)\.([a-z0-9_]+)` \|", page, re.MULTILINE)
    assert told == [(table, key) for table, keys in KEYS.items() for key in keys]
