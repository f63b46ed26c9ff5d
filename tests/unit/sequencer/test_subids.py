"""Ranges of subordinate ids in the text of /etc/subuid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sequencer.subids import IDS_NEEDED, IdRange, free_range, ranges_of


def test_a_users_ranges_are_found_by_name_or_by_number() -> None:
    text = "root:100000:65536\nanna:165536:65536\n1000:300000:10\n# anna:1:2\nanna:x:65536\n"
    assert ranges_of(text, ("anna", "1000")) == [IdRange(165536, 65536), IdRange(300000, 10)]
    assert ranges_of(text, ("otto",)) == []


def test_the_first_range_is_where_useradd_begins() -> None:
    assert free_range(["", ""]) == IdRange(100000, IDS_NEEDED)


@given(
    st.lists(st.tuples(st.integers(1, 1 << 30), st.integers(1, 1 << 20)), max_size=8),
    st.lists(st.tuples(st.integers(1, 1 << 30), st.integers(1, 1 << 20)), max_size=8),
)
def test_a_free_range_is_nobodys(users: list[tuple[int, int]], groups: list[tuple[int, int]]) -> None:
    texts = ["".join(f"u:{first}:{count}\n" for first, count in taken) for taken in (users, groups)]
    free = free_range(texts)
    for first, count in users + groups:
        assert free.first >= first + count or free.first + free.count <= first


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    for one in ranges_of(text, ()):
        assert one.first > 0
