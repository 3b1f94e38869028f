"""fleet_mission watch and wait: they end with the mission, its outcome and an exit code."""

from __future__ import annotations

import pytest

from missions.engine.process.runtime import Engine
from missions.models import Sortie
from tests.missions.management.fleet_mission import SUMMARY, fleet_mission
from tests.support import fleet, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_watch_exits_with_0_after_success_and_5_otherwise(engine: Engine) -> None:
    bad = web.ended_mission()
    fine = fleet.launch({"one": {}})
    assert fleet.run_to_end(engine, fine) == "succeeded"
    assert fleet_mission("watch", fine.ref).code == 0
    failure = fleet_mission("watch", bad.ref)
    assert failure.code == 5
    assert "✗ bad: it broke" in failure.err
    assert failure.out == ""
    result = fleet_mission("watch", bad.ref, "--json")
    assert (result.code, result.json["state"]) == (5, "failed")
    assert set(result.json) == SUMMARY


def test_a_tolerated_failure_is_not_shown_as_a_failure(engine: Engine) -> None:
    allowed = fleet.launch({"odd": {"with": {"fail": "it may"}, "allow_failure": True}, "one": {}})
    assert fleet.run_to_end(engine, allowed) == "succeeded"
    result = fleet_mission("watch", allowed.ref)
    assert result.code == 0
    assert "○ odd tolerated: it may" in result.err  # when it changed
    assert "1 succeeded, 1 tolerated\n  ○ odd: tolerated: it may" in result.err  # at the end
    assert "✗" not in result.err
    assert "tolerated  odd" in fleet_mission("show", allowed.ref).out
    retry = fleet_mission("retry", allowed.ref)
    assert retry.code == 1
    assert "succeeded, or its failure is tolerated" in retry.err
    assert [item["tolerated"] for item in fleet_mission("show", allowed.ref, "--json").json["items"]] == [True, False]
    assert fleet_mission("retry", allowed.ref, "odd").code == 0


def test_watch_prints_the_conclusion_of_the_last_sortie(engine: Engine) -> None:
    top = [{"title": "First thing", "file": "a.py", "line": 7, "severity": "low"}, {"title": "Second thing"}, "odd"]
    concluded = fleet.launch({"one": {"with": {"result": {"verdict": "Well done.", "because": "It is.", "top": top}}}})
    fleet.run_to_end(engine, concluded)
    stderr = fleet_mission("watch", concluded.ref).err
    assert "\nWell done. It is.\n  1. low: First thing (a.py:7)\n  2. Second thing\n" in stderr
    for conclusion in ("text", {"verdict": 3}, {"verdict": "x", "top": "y"}, None):
        other = fleet.launch({"one": {"with": {"result": conclusion}}})
        fleet.run_to_end(engine, other)
        assert fleet_mission("watch", other.ref).code == 0


def test_a_timeout_exits_with_3_and_says_how_to_continue() -> None:
    waiting = fleet.launch({"one": {}})
    result = fleet_mission("watch", waiting.ref, "--timeout", "0")
    assert result.code == 3
    assert f"fleet_mission watch {waiting.ref}" in result.err
    assert f"fleet_mission cancel {waiting.ref}" in result.err


def test_wait_does_not_wait_for_paused_missions() -> None:
    mission = fleet.launch({"one": {}})
    assert fleet_mission("pause", mission.ref).code == 0
    assert (fleet_mission("wait").code, fleet_mission("wait").err) == (0, "")


def test_watch_prints_one_event_per_line_up_to_the_last() -> None:
    mission = web.ended_mission()
    events = fleet_mission("watch", mission.ref, "--jsonl").lines
    assert all(set(event) == {"id", "at", "kind", "subject", "key", "data"} for event in events)
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert (events[0]["kind"], events[-1]["kind"]) == ("mission.running", "mission.failed")
    assert events[0]["subject"] == mission.ref
    failure = next(event for event in events if event["kind"] == "sortie.failed")
    assert failure["key"] == "bad"
    assert failure["subject"] == Sortie.objects.get(mission=mission, key="bad").ref


@pytest.mark.parametrize("timeout", ["200ms", "0.2", "0"])
def test_a_timeout_is_a_duration_or_a_number_of_seconds(timeout: str) -> None:
    waiting = fleet.launch({"one": {"run_at": "2100-01-01T00:00:00+00:00"}})
    assert fleet_mission("watch", waiting.ref, "--timeout", timeout).code == 3
    assert "'2 s' is not a duration; write 90s" in fleet_mission("watch", waiting.ref, "--timeout", "2 s").err
