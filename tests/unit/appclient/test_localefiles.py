"""What a launch reads for its language is told from what another one read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appclient.localefiles import is_of_other_language, locale_files

VIEW = {
    b"usr/share/locale/fr/LC_MESSAGES/gtk30.mo",
    b"usr/share/locale/pt_BR/LC_MESSAGES/gtk30.mo",
    b"usr/share/locale/pt/LC_MESSAGES/gtk30.mo",
    b"usr/share/locale/sr@latin/LC_MESSAGES/gtk30.mo",
    b"usr/lib/locale/fr_FR.utf8/LC_CTYPE",
    b"usr/lib/locale/C.utf8/LC_CTYPE",
}
TOUCHED = [
    b"usr/share/locale/de/LC_MESSAGES/gtk30.mo",
    b"usr/share/locale/de/LC_MESSAGES/only-german.mo",
    b"usr/lib/locale/de_DE.utf8/LC_CTYPE",
    b"usr/lib/locale/locale-archive",
    b"usr/lib/libde.so",
]


def wanted(language: str) -> list[bytes]:
    return locale_files(TOUCHED, language, VIEW.__contains__)


def test_a_file_for_one_language_stands_for_the_same_in_another() -> None:
    assert wanted("fr_FR.UTF-8") == [
        b"usr/share/locale/fr/LC_MESSAGES/gtk30.mo",
        b"usr/lib/locale/fr_FR.utf8/LC_CTYPE",
    ]
    assert wanted("pt_BR.UTF-8") == [
        b"usr/share/locale/pt_BR/LC_MESSAGES/gtk30.mo",
        b"usr/share/locale/pt/LC_MESSAGES/gtk30.mo",
    ]
    assert wanted("sr_RS@latin") == [b"usr/share/locale/sr@latin/LC_MESSAGES/gtk30.mo"]


@pytest.mark.parametrize(
    "language", ["de_DE.UTF-8", "de_AT", "C", "C.UTF-8", "POSIX", "", "../x", "ja_JP.UTF-8"]
)
def test_where_nothing_else_is_there_nothing_is_fetched(language: str) -> None:
    assert wanted(language) == []


def test_a_file_of_another_language_is_known() -> None:
    assert is_of_other_language(TOUCHED[0], "fr_FR.UTF-8")
    assert is_of_other_language(TOUCHED[0], "C.UTF-8")
    assert not is_of_other_language(TOUCHED[0], "de_AT.UTF-8")
    assert not any(is_of_other_language(path, "fr_FR.UTF-8") for path in TOUCHED[3:])


@given(st.lists(st.binary(max_size=40)), st.text(max_size=20))
def test_any_paths_and_languages_are_taken(paths: list[bytes], language: str) -> None:
    assert locale_files(paths, language, lambda _: False) == []
    for path in paths:
        is_of_other_language(path, language)
