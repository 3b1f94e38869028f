"""The recovery context of a checkpoint: what a person or an LLM needs to go on with a mission."""

from __future__ import annotations

import json
from typing import Any

import pytest

from checkpoints import operations
from checkpoints.queries import summaries
from checkpoints.recovery.context import MAX_BYTES
from missions.engine.process.runtime import Engine
from missions.models import Mission
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def captured_context(mission: Mission) -> dict[str, Any]:
    (content,) = summaries.detail(operations.capture(missions=[mission.id]))["contents"]
    return dict(content["context"])


def test_the_blockers_are_failures_that_nothing_tolerates_with_their_errors(engine: Engine) -> None:
    mission = fleet.launch(
        {
            "bad": {"with": {"fail": "no database"}},
            "flaky": {"with": {"fail": "not today"}, "allow_failure": True},
            "good": {},
            "after": {"needs": ["bad"]},
        }
    )
    fleet.run_to_end(engine, mission)
    context = captured_context(mission)
    assert context["blockers"] == [{"sortie": "bad", "state": "failed", "reason": "", "reported": "no database"}]
    assert context["next_steps"] == []
    assert context["summary"] == "A test: 4 of 4 sorties have ended, 1 of them successfully."


def test_a_sortie_that_waits_for_its_next_try_is_a_blocker_and_a_next_step(engine: Engine) -> None:
    mission = fleet.launch(
        {"again": {"with": {"fail": "no"}, "retry": {"max_attempts": 2, "backoff": "1h", "max": "1h"}}}
    )
    fleet.beat_until(lambda: engine.run_slot() or fleet.states(mission.id)["again"] == "waiting")
    context = captured_context(mission)
    assert [(item["sortie"], item["state"]) for item in context["blockers"]] == [("again", "waiting")]
    assert [(item["sortie"], item["state"]) for item in context["next_steps"]] == [("again", "waiting")]


def test_the_next_steps_are_the_sorties_that_can_start() -> None:
    mission = fleet.launch({"second": {}, "third": {"needs": ["second"]}, "first": {"priority": 9}})
    context = captured_context(mission)
    assert {item["sortie"] for item in context["next_steps"]} == {"first", "second"}
    assert context["blockers"] == []


def test_long_reports_of_many_failures_fit_into_the_context(engine: Engine) -> None:
    mission = fleet.launch({f"s{number}": {"with": {"fail": "🛑" * 400}} for number in range(30)})
    fleet.run_to_end(engine, mission)
    context = captured_context(mission)
    assert len(json.dumps(context, ensure_ascii=False).encode()) <= MAX_BYTES
    assert {item["reported"] for item in context["blockers"]} == {"🛑" * 300}
