"""The benchmarks measure; how fast things are is for RESULTS.md to tell."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from tests.bench import fill, steady
from tests.bench.coldresult import DOWNLOAD, NATIVE_COLD, NATIVE_WARM, STREAMED, record, table
from tests.bench.coldstart import Plan, ground, measure
from tests.bench.images import TREE, UID, Images
from tests.bench.peers import PEERS, Ground
from tests.bench.workloads import Workload
from tests.pictures import is_drawn


@pytest.mark.timeout(1200)
def test_a_cold_start_over_a_link_is_measured_beside_the_floor(tmp_path: Path) -> None:
    plan = Plan(repeats=1, mbit=1000, rtt_ms=2, also=((20, 0.0),), touched=True, screenshots=tmp_path)
    (sample,) = measure(["galculator"], plan)
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
    assert record(sample)["ratios"]["streamed at 20 ms"]["estimate"] > 0
    assert sample.touched is not None
    assert 1000 < sample.touched.pages < 20_000
    assert 0.1 < sample.touched.packed_bytes / (sample.touched.pages * 4096) < 0.6
    assert sample.touched.unprofiled is not None
    assert sample.touched.unprofiled < sample.touched.pages / 4


@pytest.mark.timeout(600)
def test_every_peer_brings_the_same_files() -> None:
    """A small tree instead of a whole stack: what is tested is that each peer works at all."""
    with ground(Plan(mbit=1000, rtt_ms=2)) as (on, link, server):
        folder = server.root / "smoke"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _small_tree(folder / TREE)
            made = Images(folder)
            for peer in PEERS.values():
                for form in peer.served:
                    made.form(form)
                place = on.folder / "peer"
                place.mkdir()
                ground_of_peer = Ground(on, link, server, made, place)
                peer.warm(ground_of_peer)
                before = link.received()
                lowers = ":".join(map(str, peer.folders(ground_of_peer)))
                script = f"for f in $(echo {lowers} | tr : ' '); do cd $f && cat usr/share/large; ls -l; done"
                with contextlib.ExitStack() as undo:
                    if peer.serve is not None:
                        undo.enter_context(peer.serve(ground_of_peer))
                    undo.enter_context(peer.bring(ground_of_peer))
                    said = on.user.run(["sh", "-c", script], timeout_s=60).stdout
                assert said.count("x") >= 300_000, f"{peer.name}: {said[-500:]}"
                assert "bin -> usr/bin" in said, f"{peer.name}: {said[-500:]}"
                assert link.received() > before
                shutil.rmtree(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _small_tree(tree: Path) -> None:
    for name in ("usr/bin", "usr/share", "etc"):
        (tree / name).mkdir(parents=True)
    (tree / "usr/share/large").write_bytes(b"x" * 300_000)
    (tree / "etc/small").write_text("small\n")
    (tree / "bin").symlink_to("usr/bin")
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, UID, UID, follow_symlinks=False)


@pytest.mark.timeout(1200)
def test_warm_runs_are_measured_in_turn() -> None:
    workload = Workload("starts", "galculator", "for i in 1 2 3 4 5 6 7 8; do /bin/true; done", 2)
    (found,) = steady.measure([workload])
    assert not found.error
    assert {name: len(runs) for name, runs in found.runs.items()} == {"bubble": 2, "overlay": 2, "native": 2}
    assert all(0 < times.wall_s < 60 for runs in found.runs.values() for times in runs)
    assert "| starts | 2 |" in steady.table([found])


@pytest.mark.timeout(1200)
def test_faults_are_timed_over_the_link() -> None:
    found = fill.measure(1, 20, Plan(mbit=1000, rtt_ms=20))
    assert len(found.without) == 20
    assert all(0.01 <= seconds < 30 for seconds in found.without)
    assert len(found.filling) == 20
    assert found.fill_ran
    assert "it ran in every run" in fill.table(found)
    assert "99th percentile" in fill.table(found)
