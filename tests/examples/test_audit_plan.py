"""The plan of the sample mission is valid and has the documented graph."""

from __future__ import annotations

from agents import discovery
from tests.examples import audit_runs


def test_the_plan_is_valid_and_calls_only_what_is_registered() -> None:
    calls = {spec.call for spec in audit_runs.load().sorties if spec.call}
    assert calls <= set(discovery.names())
    assert len(calls) >= 8


def test_all_six_agent_types_have_work() -> None:
    types = {spec.agent_type for spec in audit_runs.load().sorties}
    assert types == {"frontend", "backend", "testing", "documentation", "security", "performance"}


def test_it_has_a_diamond_a_tolerated_failure_and_a_join_that_always_runs() -> None:
    sorties = {spec.key: spec for spec in audit_runs.load().sorties}
    report = sorties["report"]
    assert report.always
    assert set(report.needs) == set(sorties) - {"report"}
    assert len([spec for spec in sorties.values() if spec.needs == ("inventory",) and spec.key in report.needs]) >= 2
    assert sorties["provenance"].allow_failure
    assert report.outputs == ("report.html", "report.md", "findings.json", "findings.sarif")
