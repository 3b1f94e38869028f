"""While an earlier mission of the schedule has not ended, its overlap policy decides about the next tick."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleet import errors
from missions import operations
from missions.models import Mission, Schedule, Tick
from missions.operations import schedules as schedule_operations
from tests.support import schedules
from tests.support.schedules import utc

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def started(overlap: str, **fields: Any) -> tuple[Schedule, Mission]:
    """An hourly schedule whose first mission runs."""
    schedule = schedules.create(cron="0 * * * *", overlap=overlap, **fields)
    schedules.start_at(schedule, 2026, 5, 5, 0, 0)
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 0, 0))
    assert tick.mission is not None
    return schedule, tick.mission


def outcomes(schedule: Schedule) -> list[str]:
    return [outcome for _, outcome in schedules.outcomes(schedule)]


def test_overlap_skip_launches_nothing_until_the_earlier_mission_has_ended() -> None:
    schedule, mission = started("skip")
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    assert (tick.outcome, tick.reason) == ("skipped", f"{mission.ref} has not ended.")
    operations.pause(mission=mission.id)
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 2, 0))
    assert tick.outcome == "skipped"
    schedules.end(mission)
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 3, 0))
    assert tick.outcome == "launched"
    schedule.refresh_from_db()
    assert (schedule.runs, schedule.skips) == (2, 2)


def test_overlap_queue_keeps_one_tick_and_launches_it_when_the_earlier_mission_has_ended() -> None:
    schedule, mission = started("queue")
    for hour in (1, 2):
        schedules.wake(schedule, utc(2026, 5, 5, hour, 0))
    assert outcomes(schedule) == ["launched", "waiting", "skipped"]
    assert "another tick is already waiting" in Tick.objects.get(outcome="skipped").reason
    Schedule.objects.update(next_at=None)  # otherwise a tick of today would be due
    assert schedules.drain() == []
    schedules.end(mission, state="failed")
    (tick,) = schedules.drain()
    assert (tick.at.hour, tick.outcome) == (1, "launched")
    assert outcomes(schedule) == ["launched", "launched", "skipped"]
    assert schedules.drain() == []


def test_with_catch_up_all_missed_ticks_queue_and_run_one_after_the_other() -> None:
    schedule, mission = started("queue", catch_up="all")
    schedules.wake(schedule, utc(2026, 5, 5, 4, 30))
    assert outcomes(schedule) == ["launched"] + 4 * ["waiting"]
    Schedule.objects.update(next_at=None)
    order = []
    for _ in range(4):
        schedules.end(mission)
        (tick,) = schedules.drain()
        assert tick.mission is not None
        mission = tick.mission
        order.append(tick.at.hour)
    assert order == [1, 2, 3, 4]


def test_overlap_allow_launches_while_the_earlier_mission_runs() -> None:
    schedule, _ = started("allow")
    schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    assert Mission.objects.filter(schedule=schedule, state="running").count() == 2


def test_overlap_cancel_cancels_the_earlier_mission_and_launches_when_it_has_ended() -> None:
    schedule, mission = started("cancel")
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    assert tick.outcome == "waiting"
    Schedule.objects.update(next_at=None)
    (tick,) = schedules.drain()
    mission.refresh_from_db()
    assert (mission.state, mission.reason) == ("cancelled", "The next run of the schedule nightly is due.")
    assert (tick.at.hour, tick.outcome) == (1, "launched")


def test_overlap_cancel_waits_until_running_sorties_have_stopped() -> None:
    schedule, mission = started("cancel")
    Mission.objects.filter(id=mission.id).update(state="cancelling")
    schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    Schedule.objects.update(next_at=None)
    assert schedules.drain() == []
    schedules.end(mission, state="cancelled")
    (tick,) = schedules.drain()
    assert tick.outcome == "launched"


def test_with_overlap_cancel_a_later_tick_replaces_a_waiting_one() -> None:
    schedule, mission = started("cancel")
    Mission.objects.filter(id=mission.id).update(state="cancelling")
    for hour in (1, 2):
        schedules.wake(schedule, utc(2026, 5, 5, hour, 0))
    assert outcomes(schedule) == ["launched", "skipped", "waiting"]
    schedule.refresh_from_db()
    assert schedule.skips == 1


def test_a_waiting_tick_that_passes_its_deadline_is_skipped() -> None:
    schedule, mission = started("queue", deadline_s=600)
    schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    Schedule.objects.update(next_at=None)
    schedules.end(mission)
    (tick,) = schedules.drain()  # today
    assert tick.outcome == "skipped"
    assert "its deadline is 10 min" in tick.reason


def test_a_pause_skips_a_waiting_tick() -> None:
    schedule, mission = started("queue")
    schedules.wake(schedule, utc(2026, 5, 5, 1, 0))
    schedule_operations.pause(schedule=schedule.id)
    schedules.end(mission)
    assert schedules.drain() == []
    assert Tick.objects.get(at=utc(2026, 5, 5, 1, 0)).reason == "The schedule was paused while it waited."


def test_a_request_follows_the_same_policy() -> None:
    schedule, mission = started("skip")
    with pytest.raises(errors.Conflict, match=mission.ref):
        schedule_operations.run_now(schedule=schedule.id, can_execute=True)
    Schedule.objects.update(overlap="queue")
    assert schedule_operations.run_now(schedule=schedule.id, can_execute=True).outcome == "waiting"
    Schedule.objects.update(overlap="allow")
    tick = schedule_operations.run_now(schedule=schedule.id, can_execute=True)
    assert (tick.outcome, tick.requested) == ("launched", True)


def test_missions_of_other_schedules_do_not_block_a_tick() -> None:
    started("skip")
    other = schedules.create("other", cron="0 * * * *")
    schedules.start_at(other, 2026, 5, 5, 0, 0)
    (tick,) = schedules.wake(other, utc(2026, 5, 5, 0, 0) + timedelta(seconds=1))
    assert tick.outcome == "launched"
