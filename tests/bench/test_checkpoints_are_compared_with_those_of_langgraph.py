"""The comparison with langgraph-checkpoint-postgres uses the layout in which it performs best."""

from __future__ import annotations

from pathlib import Path

from bench.checkpoints import langgraph
from bench.checkpoints.langgraph import LAYOUTS, StorageStats


def measurement(*, kb: int, s: float) -> StorageStats:
    return StorageStats(first_s=s, first_bytes=kb * 1_000, seconds=[s, s], bytes=2 * kb * 1_000)


def test_the_share_is_that_of_the_layout_which_is_best_for_the_library() -> None:
    theirs = {
        "one": measurement(kb=400, s=0.05),
        "bucket": measurement(kb=200, s=0.4),
        "sortie": measurement(kb=800, s=0.2),
    }
    results = langgraph.compare(measurement(kb=100, s=0.1), {**theirs, "delta": measurement(kb=10, s=0.01)})
    assert (results["share_of_bytes"], results["share_of_time"]) == (0.5, 2)
    assert (results["bytes_of_delta"], results["time_of_delta"]) == (10, 10)
    assert (results["fleet_kb"], results["fleet_ms"]) == (100, 100)


def test_each_layout_is_measured() -> None:
    results = langgraph.compare(measurement(kb=1, s=1), {layout: measurement(kb=1, s=1) for layout in LAYOUTS})
    assert {f"{layout}_{unit}" for layout in LAYOUTS for unit in ("kb", "ms", "first_kb")} <= results.keys()


def test_it_is_skipped_with_the_reason_if_the_library_cannot_be_installed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in langgraph.install(tmp_path / "file" / "virtualenv")
