from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bubble.supplymessage import SIZE, Message, Word, decode_message, encode_message
from packageformat.errors import FormatError

u32 = st.integers(0, 2**32 - 1)


@given(
    st.builds(
        Message,
        st.sampled_from(Word),
        u32,
        u32,
        st.integers(0, 65535),
        st.integers(0, 255),
        st.integers(0, 4095),
        st.binary(min_size=32, max_size=32),
    )
)
def test_messages_survive_the_wire(message):
    data = encode_message(message)
    assert len(data) == SIZE == 48
    assert decode_message(data) == message


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_format_error(data):
    try:
        message = decode_message(data)
    except FormatError:
        return
    assert message.word in Word


def test_what_is_out_of_bounds_is_no_message():
    with pytest.raises(FormatError):
        Message(Word.NEED, content=-1)
    with pytest.raises(FormatError):
        Message(Word.NEED, pages=1 << 16)
