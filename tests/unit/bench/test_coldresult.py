"""Runs of one repeat are compared with one another, and with nothing else."""

from __future__ import annotations

from tests.bench.coldresult import (
    DOWNLOAD,
    NATIVE_COLD,
    STREAMED,
    Sample,
    Taken,
    Touched,
    record,
    table,
)


def sample() -> Sample:
    made = Sample("galculator", packaged_bytes=1000)
    for repeat in range(3):
        busy = 1.0 + repeat
        made.add(STREAMED, Taken(1.2 * busy, 500))
        made.add(DOWNLOAD, Taken(0.5 * busy, 500))
        made.add(NATIVE_COLD, Taken(1.0 * busy))
        made.add("archive", Taken(6.0 * busy, 9000))
        made.add("squashfs", Taken(3.0 * busy, 3000))
    return made


def test_the_floor_is_the_slower_of_download_and_native() -> None:
    interval = sample().to_floor()
    assert interval is not None
    assert (round(interval.estimate, 6), interval.pairs) == (1.2, 3)
    made = sample()
    made.runs[DOWNLOAD] = [Taken(4.0, 500)] * 3
    assert [made.floor(repeat) for repeat in range(3)] == [4.0, 4.0, 4.0]


def test_a_failed_run_takes_its_pair_along() -> None:
    made = sample()
    made.runs[NATIVE_COLD][1] = Taken(error="no window")
    interval = made.to_floor()
    assert interval is not None
    assert interval.pairs == 2
    assert made.failures() == ["no window"]
    assert "no window" in table([made])


def test_the_best_peer_is_the_fastest_that_never_failed() -> None:
    made = sample()
    assert made.best_peer() == "squashfs"
    made.runs["squashfs"][2] = Taken(error="ran out of time")
    assert made.best_peer() == "archive"
    assert not made.failures()  # a peer's failure is its own
    assert "1 of 3 failed" in table([made])
    interval = made.to_peer("archive")
    assert interval is not None
    assert round(interval.estimate, 6) == 0.2


def test_bytes_are_compared_with_the_pages_touched() -> None:
    made = sample()
    assert made.to_touched() is None
    made.touched = Touched(10, 2, 400)
    interval = made.to_touched()
    assert interval is not None
    assert interval.estimate == 1.25
    assert set(record(made)["ratios"]) == {"to_floor", "to_touched", "to_archive", "to_squashfs"}


def test_an_application_that_never_ran_has_a_row_all_the_same() -> None:
    assert "| firefox-esr |" in table([Sample("firefox-esr")])
