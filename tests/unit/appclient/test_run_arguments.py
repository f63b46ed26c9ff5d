"""What of `appclient run APP ...` is a file, and what a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from appclient.command_run import _arguments


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a", "mailto:james@example.org", "mailto:ann@example.org", "magnet:?xt=1",
        "tel:+441632960961", "sms:+441632960961", "about:blank", "x-scheme+1.0:anything",
    ],
)  # fmt: skip
def test_a_url_of_any_scheme_is_handed_on_as_it_is(url: str) -> None:
    assert _arguments([url]) == ([url], [])


def test_a_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note: today").touch()
    for name in ("note: today", "photo.png", "./a:b", "c:letter", "james@example.org"):
        assert _arguments([name]) == ([str(tmp_path / name)], [tmp_path / name])
    assert _arguments(["file:///tmp/a%20b"]) == (["/tmp/a b"], [Path("/tmp/a b")])
