"""The user's settings: what is kept, what is refused, and what a damaged file means."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appclient.errors import SettingError
from appclient.settings import (
    Fill,
    Metered,
    Settings,
    SettingsFile,
    decode_settings,
    load,
    path_of,
    rate_of,
    save,
)

values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("text", "mbit"),
    [("8", 8), ("8Mbit/s", 8), ("1.5 mbit", 1.5), ("1MB/s", 8), ("2 MB", 16), ("none", 0), ("0", 0)],
)
def test_a_bandwidth_is_read_as_people_write_it(text: str, mbit: float) -> None:
    assert rate_of(text) == mbit


@pytest.mark.parametrize("text", ["", "fast", "-1", "8 kbit", "1e9", "9999999", "nan", "inf"])
def test_what_is_no_bandwidth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"bandwidth|network"):
        rate_of(text)


def test_settings_are_kept_and_only_those_that_differ(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()
    mine = Settings(fill=Fill.ALL, limit_mbit=4.0, metered=Metered.YES, reports=False)
    save(tmp_path, mine)
    assert load(tmp_path) == mine
    assert json.loads(path_of(tmp_path).read_text()) == {
        "fill": "all", "limit_mbit": 4.0, "metered": "yes", "reports": False,
    }  # fmt: skip
    assert path_of(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        '{"fill": "some"}', '{"reports": "no"}', '{"limit_mbit": -1}', '{"limit_mbit": true}',
        '{"free_gib": 1e999}', "[]", "{", "[" * 50000,
    ],
)  # fmt: skip
def test_damaged_settings_are_told_and_allow_nothing(tmp_path: Path, content: str) -> None:
    path_of(tmp_path).write_text(content)
    with pytest.raises(SettingError) as caught:
        load(tmp_path)
    assert "--reset" in caught.value.line()
    file = SettingsFile(tmp_path)
    assert file.current() == Settings(fill=Fill.OFF, reports=False)
    assert "damaged" in file.trouble
    save(tmp_path, Settings())
    assert file.current() == Settings()
    assert not file.trouble


@given(st.dictionaries(st.sampled_from(sorted(Settings.__dataclass_fields__)), values))
def test_anything_else_is_a_value_error(value: dict[str, object]) -> None:
    with suppress(ValueError):
        decode_settings(value)


def test_settings_of_a_newer_client_are_left_alone() -> None:
    assert decode_settings({"colour": "green", "reports": False}) == Settings(reports=False)
