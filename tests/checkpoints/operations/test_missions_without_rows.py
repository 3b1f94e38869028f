"""Missions that exist only in checkpoints are brought back if they were live, and not if they were being cancelled."""

from __future__ import annotations

import pytest

from checkpoints import operations
from checkpoints.policy import EndedMissions
from checkpoints.queries import lookup
from missions import operations as missions
from missions.engine.process.runtime import Engine
from missions.models import Mission
from tests.support import fleet
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_mission_that_was_cancelled_after_its_newest_checkpoint_stays_cancelled() -> None:
    cancelled, live = fleet.launch({"a": {}}), fleet.launch({"a": {}})
    operations.capture(missions=[live.id])
    missions.cancel(mission=cancelled.id)
    fleet.beat()
    assert fleet.state(cancelled.id) == "cancelled"
    Mission.objects.all().delete()
    assert lookup.missions_without_rows() == sorted([cancelled.id, live.id])
    result = manage("fleet_resume")
    assert f"{live.ref} was restored" in result.err
    assert cancelled.ref not in result.err
    assert not Mission.objects.filter(id=cancelled.id).exists()


def test_a_mission_that_ended_after_its_newest_checkpoint_is_not_run_again(engine: Engine) -> None:
    mission = fleet.launch({"a": {}})
    operations.capture(missions=[mission.id])
    fleet.run_to_end(engine, mission)
    EndedMissions().capture()
    Mission.objects.all().delete()
    assert manage("fleet_resume").err == "No mission was interrupted.\n"
    assert not Mission.objects.exists()


def test_a_mission_that_was_paused_stays_paused_when_it_is_brought_back() -> None:
    mission = fleet.launch({"a": {}})
    missions.pause(mission=mission.id)
    operations.capture(missions=[mission.id])
    Mission.objects.all().delete()
    assert "is paused. Continue it: " in manage("fleet_resume").err
    assert fleet.state(mission.id) == "paused"
    assert "continues." in manage("fleet_resume", "--mission", mission.ref).err


def test_a_mission_that_is_brought_back_keeps_the_time_of_its_launch(engine: Engine) -> None:
    live, ended = fleet.launch({"a": {}}), fleet.launch({"a": {}})
    fleet.run_to_end(engine, ended)
    times = dict(Mission.objects.values_list("id", "created_at"))
    captured = [operations.capture(missions=[mission.id]) for mission in (live, ended)]
    Mission.objects.all().delete()
    for checkpoint in captured:
        operations.restore(checkpoint=checkpoint, can_execute=True)
    assert dict(Mission.objects.values_list("id", "created_at")) == times


def test_the_fork_of_a_mission_that_ended_has_its_times() -> None:
    mission = fleet.launch({"a": {}})
    missions.cancel(mission=mission.id)
    fleet.beat()
    fork = operations.fork(checkpoint=operations.capture(missions=[mission.id]), can_execute=True)
    row = Mission.objects.get(id=fork.mission.id)
    assert row.finished_at is not None
    assert row.created_at <= row.finished_at
