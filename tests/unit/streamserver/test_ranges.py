"""The Range header and the lanes of a stream, whatever they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamserver.ranges import LANES_MAX, STRIPE_MAX, STRIPE_MIN, WHOLE, Lane, Span, lane_of, span_of

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


sizes_of_parts = st.lists(st.integers(1, 5 * STRIPE_MIN) | st.integers(1, 9), max_size=8)
counts = st.integers(1, LANES_MAX)
stripes = st.integers(STRIPE_MIN, STRIPE_MAX) | st.just(STRIPE_MIN)


@given(sizes_of_parts, counts, stripes)
def test_lanes_joined_stripe_by_stripe_are_the_stream(sizes: list[int], count: int, stripe: int) -> None:
    # Pieces as (place in the stream, bytes); a place in a lane is turned into one in the stream by hand.
    begins = [sum(sizes[:part]) for part in range(len(sizes))]
    pieces = []
    for number in range(count):
        lane = Lane(number, count, stripe)
        at = 0
        for part, offset, size in lane.pieces(sizes):
            assert 0 < size <= sizes[part] - offset
            place = begins[part] + offset
            if count > 1:
                cycle, within = divmod(at, stripe)
                assert place == (cycle * count + number) * stripe + within
                assert within + size <= stripe
            else:
                assert place == at
            pieces.append((place, size))
            at += size
        assert at == lane.length(sum(sizes))
    end = 0
    for place, size in sorted(pieces):
        assert place == end
        end = place + size
    assert end == sum(sizes)


@given(sizes_of_parts)
def test_a_stream_that_is_not_cut_is_its_parts(sizes: list[int]) -> None:
    assert list(WHOLE.pieces(sizes)) == [(part, 0, size) for part, size in enumerate(sizes)]
    assert WHOLE.length(sum(sizes)) == sum(sizes)


@given(counts, stripes, st.data())
def test_a_lane_is_read_as_it_is_written(count: int, stripe: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, count - 1))
    assert lane_of(f"{number}.{count}.{stripe}") == Lane(number, count, stripe)


@given(st.text() | st.from_regex(r"\d{1,3}\.\d{1,3}\.\d{1,8}", fullmatch=True))
def test_any_text_is_a_lane_in_bounds_written_in_the_one_way_or_none(text: str) -> None:
    lane = lane_of(text)
    assert lane is None or f"{lane.number}.{lane.count}.{lane.stripe}" == text


WRONG_LANES = [
    "",
    "0",
    "0.1",
    "0.1.16384.0",
    "..",
    "0.0.16384",
    "1.1.16384",
    "8.8.16384",
    "9.8.16384",
    f"0.{LANES_MAX + 1}.16384",
    f"0.1.{STRIPE_MIN - 1}",
    f"0.1.{STRIPE_MAX + 1}",
    "0.1.0",
    "0.1.99999999999999999999",
    "-1.8.16384",
    "+1.8.16384",
    "00.8.16384",
    "01.8.16384",
    "1.08.16384",
    "1.8.016384",
    "a.b.cdefg",
    "0x1.8.16384",
    "1.8.16384 ",
    "1.8.16384\n",
    "1,8,16384",
    "1.8.1e5",
    "\u0661.8.16384",
]


@pytest.mark.parametrize("text", WRONG_LANES)
def test_what_is_no_lane_is_none(text: str) -> None:
    assert lane_of(text) is None


@pytest.mark.parametrize("numbers", [(-1, 8, STRIPE_MIN), (8, 8, STRIPE_MIN), (0, 0, STRIPE_MIN), (0, 1, 5)])
def test_a_lane_that_is_none_cannot_be_made(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"lane|stripes"):
        Lane(*numbers)
