"""The benchmarks measure; how fast things are is for RESULTS.md to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.coldresult import DOWNLOAD, NATIVE_COLD, NATIVE_WARM, STREAMED, record, table
from tests.bench.coldstart import Plan, measure
from tests.pictures import is_drawn


@pytest.mark.timeout(1200)
def test_a_cold_start_over_a_link_is_measured_beside_the_floor(tmp_path: Path) -> None:
    (sample,) = measure(["galculator"], Plan(repeats=1, mbit=1000, rtt_ms=2, screenshots=tmp_path))
    assert not sample.failures()
    (streamed,) = sample.runs[STREAMED]
    (download,) = sample.runs[DOWNLOAD]
    assert 0 < sample.seconds(NATIVE_WARM)[0] < streamed.seconds
    assert sample.seconds(NATIVE_COLD)[0] > 0
    assert 2e6 < streamed.received_bytes < sample.packaged_bytes / 2
    assert download.received_bytes == pytest.approx(streamed.received_bytes, rel=0.02)
    assert is_drawn(tmp_path / "galculator.png")
    assert "| galculator |" in table([sample])
    assert record(sample)["ratios"]["to_floor"]["pairs"] == 1
