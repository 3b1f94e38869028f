"""A mission runs from its plan to its end: order, fan-out, fan-in, failures, skips and retries."""

from __future__ import annotations

import pytest

from missions.engine.process.runtime import Engine
from missions.models import Attempt, Sortie
from tests.support import fleet


def started_after(sortie: Sortie, *others: Sortie) -> bool:
    """Whether a sortie started only after all the others had ended."""
    assert sortie.started_at is not None
    return all(other.finished_at is not None and other.finished_at <= sortie.started_at for other in others)


pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_sortie_without_needs_runs_and_completes_its_mission(engine: Engine) -> None:
    mission = fleet.launch({"one": {"with": {"result": {"n": 1}}}})
    fleet.run_to_end(engine, mission)
    assert fleet.state(mission.id) == "succeeded"
    attempt = Attempt.objects.get(sortie__mission=mission)
    assert (attempt.number, attempt.state, attempt.result) == (1, "succeeded", {"n": 1})


def test_a_diamond_runs_in_order_and_joins_once(engine: Engine) -> None:
    mission = fleet.launch(
        {"top": {}, "left": {"needs": ["top"]}, "right": {"needs": ["top"]}, "bottom": {"needs": ["left", "right"]}}
    )
    fleet.run_to_end(engine, mission)
    assert fleet.states(mission.id) == dict.fromkeys(("top", "left", "right", "bottom"), "succeeded")
    times = {s.key: s for s in Sortie.objects.filter(mission=mission)}
    assert started_after(times["bottom"], times["left"], times["right"])
    assert times["bottom"].attempt == 1


def test_dependents_of_a_failure_are_skipped_and_if_always_still_runs(engine: Engine) -> None:
    mission = fleet.launch(
        {
            "bad": {"with": {"fail": "no"}},
            "child": {"needs": ["bad"]},
            "grandchild": {"needs": ["child"]},
            "cleanup": {"needs": ["grandchild"], "if": "always"},
            "apart": {},
        }
    )
    fleet.run_to_end(engine, mission)
    assert fleet.states(mission.id) == {
        "bad": "failed", "child": "skipped", "grandchild": "skipped", "cleanup": "succeeded", "apart": "succeeded",
    }  # fmt: skip
    assert fleet.state(mission.id) == "failed"


def test_a_tolerated_failure_skips_nothing(engine: Engine) -> None:
    mission = fleet.launch({"bad": {"with": {"fail": "no"}, "allow_failure": True}, "next": {"needs": ["bad"]}})
    fleet.run_to_end(engine, mission)
    assert fleet.states(mission.id) == {"bad": "failed", "next": "succeeded"}
    assert fleet.state(mission.id) == "succeeded"


def test_on_failure_stop_skips_what_has_not_started(engine: Engine) -> None:
    mission = fleet.launch(
        {"bad": {"with": {"fail": "no"}, "priority": 5}, "other": {}, "tidy": {"if": "always", "needs": ["other"]}},
        on_failure="stop",
    )
    fleet.run_to_end(engine, mission)
    states = fleet.states(mission.id)
    assert states["bad"] == "failed"
    assert states["tidy"] == "succeeded"
    assert fleet.state(mission.id) == "failed"


def test_a_failed_sortie_is_retried_after_its_backoff(engine: Engine) -> None:
    retry = {"max_attempts": 3, "backoff": "0.01s"}
    mission = fleet.launch({"flaky": {"with": {"fail_times": 2}, "retry": retry}})
    engine.run_slot()
    flaky = Sortie.objects.get(mission=mission)
    assert flaky.state == "waiting"
    assert "next try (2 of 3)" in flaky.waits_for
    assert fleet.run_to_end(engine, mission) == "succeeded"
    flaky.refresh_from_db()
    assert (flaky.attempt, flaky.tries) == (3, 2)


def test_a_fan_out_of_two_hundred_joins(engine: Engine) -> None:
    many = {f"part{n}": {"needs": ["start"]} for n in range(200)}
    mission = fleet.launch({"start": {}, **many, "end": {"needs": list(many)}})
    fleet.run_to_end(engine, mission)
    assert fleet.state(mission.id) == "succeeded"
    assert Attempt.objects.filter(sortie__mission=mission, state="succeeded").count() == 202


def test_added_sorties_run_before_the_dependents_of_their_parent(engine: Engine) -> None:
    parts = [{"name": f"part[n={n}]", "agent": "backend", "driver": "scripted", "before": ["join"]} for n in (1, 2)]
    mission = fleet.launch({"split": {"with": {"add": parts}}, "join": {"needs": ["split"]}})
    fleet.run_to_end(engine, mission)
    assert fleet.state(mission.id) == "succeeded"
    rows = {s.key: s for s in Sortie.objects.filter(mission=mission)}
    assert set(rows) == {"split", "join", "part[n=1]", "part[n=2]"}
    assert started_after(rows["join"], rows["part[n=1]"], rows["part[n=2]"])


def test_a_result_that_cannot_be_stored_fails_only_its_sortie(engine: Engine) -> None:
    mission = fleet.launch({"nul": {"with": {"result_nul": True}}, "good": {"with": {"result": 1}}})
    fleet.run_to_end(engine, mission)
    assert fleet.states(mission.id) == {"nul": "failed", "good": "succeeded"}


def test_a_driver_that_raises_costs_one_try(engine: Engine) -> None:
    mission = fleet.launch({"oops": {"with": {"raise": "boom"}}})
    fleet.run_to_end(engine, mission)
    assert Attempt.objects.get(sortie__mission=mission).error == "RuntimeError: boom"
    assert fleet.states(mission.id) == {"oops": "failed"}
