"""Traces: what a view notes is what a reader finds, also while it is being written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bubble.trace import RECORD, VARIABLE, Trace, read_trace


def test_each_read_is_there_as_soon_as_it_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = Trace(str(path))
    trace.note(7, 0, 4096)
    trace.note(7, 8192, 1)
    assert [(read.content, read.first_page, read.pages) for read in read_trace(path.read_bytes())] == [
        (7, 0, 1),
        (7, 2, 1),
    ]
    trace.note(9, 4095, 2)
    trace.close()
    reads = list(read_trace(path.read_bytes()))
    assert (reads[2].content, reads[2].first_page, reads[2].pages) == (9, 0, 2)
    assert reads[0].at_us <= reads[1].at_us <= reads[2].at_us


def test_a_view_that_is_started_again_goes_on_in_the_same_trace(tmp_path: Path) -> None:
    for content in (1, 2):
        trace = Trace(str(tmp_path / "trace"))
        trace.note(content, 0, 1)
        trace.close()
    assert [read.content for read in read_trace((tmp_path / "trace").read_bytes())] == [1, 2]


@given(st.binary(max_size=100))
def test_a_record_that_is_cut_short_is_not_there_yet(data: bytes) -> None:
    assert len(list(read_trace(data))) == len(data) // RECORD.size


def test_without_the_variable_nothing_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Trace.from_environment() is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "trace"))
    assert Trace.from_environment() is not None
