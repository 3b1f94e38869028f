"""A name finds one checkpoint of a mission; if several missions use the name, the command lists the ids."""

from __future__ import annotations

import pytest

from checkpoints import operations
from checkpoints.models import Checkpoint
from fleet import errors
from missions.models import Mission
from tests.support import fleet
from tests.support.console import CommandResult, manage
from tests.support.processes.live import run_concurrently

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def create(mission: Mission, name: str) -> CommandResult:
    return manage("fleet_checkpoint", "create", name, "--mission", mission.ref)


def test_the_command_refuses_a_name_that_the_mission_already_uses() -> None:
    mission = fleet.launch({"a": {}})
    first = create(mission, "before-merge").out.strip()
    refused = create(mission, "before-merge")
    assert refused.code == 1
    assert f"A checkpoint of this mission is already called 'before-merge': {first}." in refused.err
    assert Checkpoint.objects.count() == 1


def test_the_command_refuses_a_name_that_the_whole_fleet_already_uses() -> None:
    for _ in range(2):
        fleet.launch({"a": {}})
    assert manage("fleet_checkpoint", "create", "nightly", "--all").code == 0
    refused = manage("fleet_checkpoint", "create", "nightly", "--all")
    assert (refused.code, "A checkpoint of these missions is already called 'nightly'" in refused.err) == (1, True)


def test_of_concurrent_checkpoints_with_one_name_only_one_is_created() -> None:
    mission = fleet.launch({"a": {}})
    errors_raised: list[errors.Conflict] = []

    def capture() -> None:
        try:
            operations.capture(missions=[mission.id], name="before-merge")
        except errors.Conflict as error:
            errors_raised.append(error)

    run_concurrently(*[capture] * 6)
    assert (Checkpoint.objects.filter(name="before-merge").count(), len(errors_raised)) == (1, 5)


def test_a_name_of_several_missions_is_answered_with_the_ids() -> None:
    missions = [fleet.launch({"a": {}}) for _ in range(2)]
    refs = [create(mission, "before-merge").out.strip() for mission in missions]
    ambiguous = manage("fleet_checkpoint", "show", "before-merge")
    assert ambiguous.code == 1
    for ref, mission in zip(refs, missions, strict=True):
        assert f"{ref} of {mission.ref}" in ambiguous.err
    assert "Use the id instead." in ambiguous.err
