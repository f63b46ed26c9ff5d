"""Tokens: signed, short-lived, identity only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError, SignatureError
from packageformat.signature import public_key
from streamserver.identity import RENEWABLE_S, TOKEN_LIFETIME_S, issue, read_token, token_text

SEED = b"s" * 32
PUBLIC = public_key(SEED)
ANNA = b"a" * 16
NOW = 1_700_000_000.5


def test_a_token_says_who_until_its_end() -> None:
    identity = issue(ANNA, now=NOW)
    text = token_text(identity, SEED)
    assert read_token(text, PUBLIC, now=NOW + TOKEN_LIFETIME_S - 1) == identity
    with pytest.raises(SignatureError):
        read_token(text, PUBLIC, now=NOW + TOKEN_LIFETIME_S)
    with pytest.raises(SignatureError):
        read_token(text, public_key(b"t" * 32), now=NOW)


def test_renewing_does_not_go_on_for_ever() -> None:
    first = issue(ANNA, now=NOW)
    last = issue(ANNA, now=NOW + RENEWABLE_S - 60, signed_in=first.signed_in)
    assert last.signed_in == first.signed_in
    assert last.expires <= first.signed_in // 1000 + RENEWABLE_S


@given(st.text() | st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        read_token(text, PUBLIC, now=NOW)


@given(st.data())
def test_one_changed_character_is_refused(data: st.DataObject) -> None:
    text = token_text(issue(ANNA, now=NOW), SEED)
    place = data.draw(st.integers(0, len(text) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda one: one != text[place]))
    with pytest.raises(FormatError):
        read_token(text[:place] + other + text[place + 1 :], PUBLIC, now=NOW)
