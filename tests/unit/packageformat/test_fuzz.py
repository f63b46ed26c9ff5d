"""A short run of the fuzzer with every run of the tests; the long one is `tests/fuzz.py`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests import fuzz


def test_a_short_run_finds_nothing_and_reaches_every_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--inputs", "4000", "--seed", "11", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["inputs"] == 4000
    assert figures["holds"] is True
    assert all(count["inputs"] for count in figures["parsers"].values())
    assert sum(count["accepted"] for count in figures["parsers"].values()) > 100


def test_what_is_found_is_told_and_kept(tmp_path: Path) -> None:
    def breaks(data: bytes) -> object:
        raise KeyError(len(data))

    target = fuzz.Target("broken", 1, (b"seed",), breaks, vector="tree")
    fuzzer = fuzz.Fuzzer([target], random.Random(1), tmp_path)
    fuzzer.run(5)
    assert fuzzer.counts["broken"].other_errors == 5
    assert all(path.name.startswith("tree-found-") for path in tmp_path.iterdir())
    assert fuzz.report(fuzzer.counts, 1.0, 1, 0)["holds"] is False


def test_memory_beyond_the_limits_is_told() -> None:
    target = fuzz.Target("greedy", 1, (b"seed",), lambda data: bytearray(20 << 20))
    fuzzer = fuzz.Fuzzer([target], random.Random(1), None)
    fuzzer.run(1)
    assert fuzzer.counts["greedy"].over_memory == 1
