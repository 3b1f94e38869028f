"""`make bench` names each figure that is worse than the committed baseline, and by how much."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import baseline

MACHINE = {"processor": "A processor", "cores": 2, "memory_gb": 8}


def record(measures: baseline.Measures, **changes: Any) -> dict[str, Any]:
    return {
        "recorded": "2026-01-31",
        "commit": "abc123",
        "machine": MACHINE,
        "rounds": 3,
        "load": 0.1,
        "measures": measures,
        **changes,
    }


def compared(before: baseline.Measures, now: baseline.Measures, **changes: Any) -> baseline.Comparison:
    return baseline.compare(run=record(now, **changes), baseline=record(before))


def test_a_regression_is_named_with_its_share_and_the_origin_of_the_baseline() -> None:
    comparison = compared({"w1": {"ratio": 7.0}}, {"w1": {"ratio": 5.6}})
    assert comparison.regressions == ["w1.ratio: 5.60, 20% worse than 7.00 (2026-01-31, commit abc123)"]
    assert comparison.lines() == [f"REGRESSION {comparison.regressions[0]}"]


def test_a_longer_time_is_a_regression() -> None:
    assert compared({"spawn": {"p95_s": 0.1}}, {"spawn": {"p95_s": 0.2}}).regressions
    assert not compared({"spawn": {"p95_s": 0.2}}, {"spawn": {"p95_s": 0.1}}).regressions


def test_a_change_within_the_tolerance_is_not_reported() -> None:
    comparison = compared({"w1": {"ratio": 7.0}}, {"w1": {"ratio": 6.0}})
    assert comparison.lines() == []


def test_a_better_figure_is_reported_with_the_command_that_records_it() -> None:
    comparison = compared({"w1": {"ratio": 5.0}}, {"w1": {"ratio": 7.0}})
    assert not comparison.regressions
    assert comparison.lines()[0].startswith("BETTER w1.ratio: 7.00, 40% better than 5.00")
    assert "make bench-baseline" in comparison.lines()[1]


def test_times_of_another_machine_are_not_compared_but_ratios_are() -> None:
    before = {"w1": {"ratio": 7.0}, "spawn": {"p95_s": 0.1}}
    now = {"w1": {"ratio": 3.5}, "spawn": {"p95_s": 0.9}}
    comparison = compared(before, now, machine={**MACHINE, "processor": "A slower one"})
    assert [line.split(":")[0] for line in comparison.regressions] == ["w1.ratio"]
    assert comparison.not_compared == ["spawn.p95_s 0.90: the baseline was recorded on another machine"]


def test_a_figure_without_a_baseline_is_named_and_a_missing_one_is_not() -> None:
    comparison = compared({"w1": {"ratio": 7.0}}, {"w2": {"ratio": 5.0}})
    assert comparison.not_compared == ["w2.ratio 5.00: the baseline has no such figure"]
    assert not comparison.regressions


def test_the_baseline_keeps_only_compared_figures() -> None:
    run = record({"w1": {"ratio": 7.123456, "fleet_per_s": 5_000.0}, "unknown": {"x": 1.0}})
    assert baseline.to_baseline(run)["measures"] == {"w1": {"ratio": 7.123}}


@pytest.mark.parametrize(
    "changes", [{"commit": "abc123+"}, {"rounds": 1}, {"load": 1.5}], ids=["changed files", "one round", "busy"]
)
def test_an_unreliable_run_cannot_become_the_baseline(changes: dict[str, Any]) -> None:
    assert baseline.refusal(record({}, **changes)).endswith(("`make bench`.", "when it is idle."))
    assert baseline.refusal(record({})) == ""


def test_the_committed_baseline_has_only_figures_that_are_compared() -> None:
    committed = json.loads(baseline.BASELINE.read_text())
    assert set(committed) == set(record({}))
    figures = {f"{measure}.{key}" for measure, keys in committed["measures"].items() for key in keys}
    assert figures <= {figure.name for figure in baseline.FIGURES}
    assert len(figures) > 10


def test_a_record_says_which_commit_and_machine_it_is_from() -> None:
    run = baseline.run_record(measures={"w1": {"ratio": 1.0}}, rounds=3, load=0.123)
    assert set(run) == set(record({}))
    assert run["commit"].rstrip("+")
    assert run["machine"]["cores"] >= 1
    assert run["load"] == 0.12
