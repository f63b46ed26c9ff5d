"""The benchmark measures; how fast things are is for RESULTS.md to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.coldstart import measure, table
from tests.pictures import is_drawn


@pytest.mark.timeout(1200)
def test_a_cold_start_over_a_link_is_measured_beside_native(tmp_path: Path) -> None:
    (sample,) = measure(["galculator"], repeats=1, mbit=1000, rtt_ms=2, screenshots=tmp_path)
    assert not sample.errors
    assert 0 < sample.native_warm_s[0] < sample.streamed_s[0]
    assert 5e6 < sample.received_bytes[0] < sample.packaged_bytes / 2
    assert sample.faults[0] > 0
    assert is_drawn(tmp_path / "galculator.png")
    assert "| galculator |" in table([sample])
