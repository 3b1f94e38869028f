"""In a fork, the chosen sorties and everything downstream run again, and the others keep their results."""

from __future__ import annotations

import pytest

from checkpoints import operations
from checkpoints.models import Checkpoint
from fleet import errors
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Mission, Sortie
from missions.plan import PlanError
from missions.queries import mission_json
from tests.support import fleet
from tests.support.checkpoints import digest, manifest

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

CHAIN = {
    "a": {"with": {"result": 1}},
    "b": {"needs": ["a"], "with": {"result": "{{ inputs.word }}"}},
    "c": {"needs": ["b"], "with": {"result": "{{ needs.b.result }}"}},
    "apart": {"with": {"result": "{{ inputs.word }}"}},
}
INPUTS = {"word": {"default": "old"}}


def ended_mission(engine: Engine) -> tuple[Mission, Checkpoint]:
    mission = fleet.launch(CHAIN, inputs=INPUTS)
    fleet.run_to_end(engine, mission)
    return mission, operations.capture(missions=[mission.id])


def results(mission: Mission) -> dict[str, object]:
    return {
        row.key: Attempt.objects.get(sortie=row, number=row.accepted_attempt).result
        for row in Sortie.objects.filter(mission=mission, state="succeeded")
    }


def test_a_fork_without_changes_has_the_same_digest(engine: Engine) -> None:
    _, checkpoint = ended_mission(engine)
    forked = operations.fork(checkpoint=checkpoint, can_execute=True).mission
    (entry,) = manifest(checkpoint).missions
    assert digest(forked) == entry.digest
    assert (forked.state, forked.origin) == ("succeeded", f"fork of {entry.id} at {checkpoint.ref}")


def test_the_chosen_sortie_and_everything_downstream_run_again(engine: Engine) -> None:
    origin, checkpoint = ended_mission(engine)
    forked = operations.fork(
        checkpoint=checkpoint, sorties=["b"], params={"word": "new"}, name="Again", can_execute=True
    )
    assert (forked.rerun, forked.dropped, forked.stale) == (("b", "c"), (), ("apart",))
    mission = forked.mission
    assert (mission.name, mission.state) == ("Again", "planned")
    assert fleet.states(mission.id) == {"a": "succeeded", "b": "ready", "c": "pending", "apart": "succeeded"}
    missions.resume(mission=mission.id, can_execute=True)
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert results(mission) == {"a": 1, "b": "new", "c": "new", "apart": "old"}
    assert results(origin) == {"a": 1, "b": "old", "c": "old", "apart": "old"}


def test_an_edited_sortie_runs_again_as_it_was_edited(engine: Engine) -> None:
    _, checkpoint = ended_mission(engine)
    edit = "sorties:\n  b: {agent: backend, driver: scripted, needs: [a], with: {result: edited}}\n"
    forked = operations.fork(checkpoint=checkpoint, edit=edit, can_execute=True)
    missions.resume(mission=forked.mission.id, can_execute=True)
    fleet.run_to_end(engine, forked.mission)
    assert results(forked.mission)["c"] == "edited"


def test_sorties_that_a_repeated_sortie_had_added_are_dropped_and_added_again(engine: Engine) -> None:
    extra = {"name": "extra", "agent": "backend", "driver": "scripted", "before": ["later"]}
    mission = fleet.launch({"adder": {"with": {"add": [extra]}}, "later": {"needs": ["adder"]}})
    fleet.run_to_end(engine, mission)
    checkpoint = operations.capture(missions=[mission.id])
    forked = operations.fork(checkpoint=checkpoint, sorties=["adder"], can_execute=True)
    assert (forked.rerun, forked.dropped) == (("adder", "later"), ("extra",))
    missions.resume(mission=forked.mission.id, can_execute=True)
    fleet.run_to_end(engine, forked.mission)
    assert set(fleet.states(forked.mission.id)) == {"adder", "extra", "later"}


def test_a_mission_that_still_runs_can_be_forked(engine: Engine) -> None:
    mission = fleet.launch(CHAIN, inputs=INPUTS)
    checkpoint = operations.capture(missions=[mission.id])
    forked = operations.fork(checkpoint=checkpoint, can_execute=True).mission
    assert forked.state == "planned"
    assert digest(forked) == digest(mission)


def test_the_origin_is_shown_with_the_mission(engine: Engine) -> None:
    mission, checkpoint = ended_mission(engine)
    forked = operations.fork(checkpoint=checkpoint, sorties=["c"], can_execute=True).mission
    assert mission_json.summary(forked)["origin"] == f"fork of {mission.ref} at {checkpoint.ref}, from c"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"sorties": ["nobody"]}, errors.NotFound),
        ({"params": {"nothing": 1}}, PlanError),
        ({"edit": "sorties: {nobody: {agent: backend, run: ls}}"}, errors.NotFound),
        ({"edit": "sorties: {b: {agent: backend}}"}, PlanError),
        ({"edit": "mission: no"}, PlanError),
    ],
)
def test_a_fork_with_invalid_arguments_creates_nothing(
    engine: Engine, arguments: dict[str, object], error: type[Exception]
) -> None:
    _, checkpoint = ended_mission(engine)
    with pytest.raises(error):
        operations.fork(checkpoint=checkpoint, can_execute=True, **arguments)  # type: ignore[arg-type]
    assert Mission.objects.count() == 1


def test_a_fork_of_code_needs_plan_execute(engine: Engine) -> None:
    _, checkpoint = ended_mission(engine)
    with pytest.raises(errors.Forbidden):
        operations.fork(checkpoint=checkpoint, can_execute=False)
