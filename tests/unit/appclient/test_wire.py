"""The words between commands and the agent."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appclient import wire
from appclient.errors import AgentError, CacheError
from appclient.wire import Message

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.text(), st.dictionaries(st.text().filter(lambda name: name != "kind"), values, max_size=4))
def test_what_was_said_is_heard(kind: str, fields: dict[str, object]) -> None:
    frame = wire.encode(Message(kind, fields))
    assert wire.length_of(frame[: wire.LENGTH_SIZE]) == len(frame) - wire.LENGTH_SIZE
    assert wire.decode(frame[wire.LENGTH_SIZE :]) == Message(kind, fields)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_an_agent_error_or_a_message(body: bytes) -> None:
    with suppress(AgentError):
        assert isinstance(wire.decode(body).kind, str)


@pytest.mark.parametrize("prefix", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_length_that_cannot_be_is_refused(prefix: bytes) -> None:
    with pytest.raises(AgentError):
        wire.length_of(prefix)


def test_a_field_of_another_type_is_refused() -> None:
    message = Message("x", {"n": "1", "t": 1, "l": ["a", 2], "h": "xyz", "f": 1})
    for take, name in (
        (message.number, "n"), (message.text, "t"), (message.texts, "l"), (message.octets, "h"),
        (message.record, "n"), (message.records, "l"), (message.text, "missing"),
    ):  # fmt: skip
        with pytest.raises(AgentError):
            take(name)
    assert not message.flag("f")


def test_an_error_keeps_its_words_and_its_exit_code() -> None:
    told = wire.failure_of(wire.failure(CacheError("the disk is full", hint="free some space")))
    assert (told.line(), told.exit_code) == ("the disk is full; free some space", 46)
