"""When a view starts another supplier: at once, and ever more seldom while those that it started just end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bubble.supplyline import RESTART_FIRST, RESTART_PATIENCE, SupplyLine


def starts(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def settled(log: Path, count: int) -> int:
    """Return how many were started, when `count` are expected and their processes have ended."""
    end = time.monotonic() + 10
    while starts(log) < count and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    return starts(log)


@pytest.fixture
def line_with(tmp_path: Path) -> Iterator[Callable[[str], SupplyLine]]:
    """Make a line whose supplier is a shell command; what it started has ended when the test has."""
    made: list[SupplyLine] = []

    def make(command: str) -> SupplyLine:
        restart = ("sh", "-c", f"echo >> {tmp_path}/log; {command}")
        made.append(SupplyLine(tmp_path / "supplier", bytes(32), restart))
        return made[-1]

    yield make
    for line in made:
        line.close()
        for child in line._children:
            child.wait(10)


def test_suppliers_that_end_are_started_ever_more_seldom(
    line_with: Callable[[str], SupplyLine], tmp_path: Path
) -> None:
    line, log = line_with("exit 1"), tmp_path / "log"
    line.need(0, 0, 1, 100.0)
    assert settled(log, 1) == 1
    line.tick(100.0 + RESTART_FIRST)
    assert settled(log, 1) == 1
    line.tick(100.01 + 2 * RESTART_FIRST)
    assert settled(log, 2) == 2
    line.tick(100.0 + 2 * RESTART_FIRST + 3 * RESTART_FIRST)
    assert settled(log, 2) == 2
    line.tick(100.1 + 2 * RESTART_FIRST + 4 * RESTART_FIRST)
    assert settled(log, 3) == 3


def test_a_supplier_that_starts_slowly_is_waited_for(
    line_with: Callable[[str], SupplyLine], tmp_path: Path
) -> None:
    line, log = line_with("exec sleep 0.5"), tmp_path / "log"
    line.need(0, 0, 1, 100.0)
    line.tick(100.0 + RESTART_PATIENCE / 2)
    line.tick(100.0 + RESTART_PATIENCE)
    assert settled(log, 2) == 2


def test_a_supplier_that_listened_and_died_is_started_anew_at_once(
    line_with: Callable[[str], SupplyLine], tmp_path: Path
) -> None:
    line, log = line_with("exit 1"), tmp_path / "log"
    line.need(0, 0, 1, 100.0)
    for count, at in ((1, 101.0), (2, 103.0)):
        assert settled(log, count) == count
        line.tick(at)
    assert settled(log, 3) == 3
    place = tmp_path / "supplier"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        line.tick(104.0)
        assert line.descriptor is not None
    place.unlink()
    assert list(line.receive(104.1)) == []
    line.tick(104.1 + RESTART_FIRST)
    assert settled(log, 4) == 4
