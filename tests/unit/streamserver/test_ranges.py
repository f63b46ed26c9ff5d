"""The Range header, whatever it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamserver.ranges import Span, span_of

totals = st.integers(0, 10**12)
numbers = st.integers(0, 10**12)


@given(st.text() | st.from_regex(r"bytes=\d*-\d*(,\d*-\d*)?", fullmatch=True) | st.none(), totals)
def test_any_header_gives_a_span_inside_the_object_or_nothing(header: str | None, total: int) -> None:
    span = span_of(header, total)
    assert span is None or (span.offset >= 0 and span.offset + span.size <= total == span.total)
    if span is not None and span.partial:
        assert span.size > 0


@given(numbers, numbers, totals)
def test_first_to_last(first: int, more: int, total: int) -> None:
    span = span_of(f"bytes={first}-{first + more}", total)
    if first >= total:
        assert span is None
    else:
        assert span == Span(first, min(more + 1, total - first), total, partial=True)


@given(numbers, totals)
def test_the_last_bytes(count: int, total: int) -> None:
    span = span_of(f"bytes=-{count}", total)
    size = min(count, total)
    assert span == (Span(total - size, size, total, partial=True) if size else None)


@given(numbers, totals)
def test_from_somewhere_to_the_end(first: int, total: int) -> None:
    span = span_of(f"bytes={first}-", total)
    assert span == (Span(first, total - first, total, partial=True) if first < total else None)


def test_what_is_no_single_range_means_all() -> None:
    for header in (
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-2,4-5",
        "lines=1-2",
        "bytes=9-3",
        "bytes=٣-٤",
    ):
        assert span_of(header, 100) == Span(0, 100, 100, partial=False)
