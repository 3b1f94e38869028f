"""Schedules are created, changed, paused, resumed and deleted, and wrong ones are refused at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from fleet import errors
from fleet.audit.models import Entry
from fleet.events.models import Event
from fleet.postgres import clock
from missions import cron
from missions.models import Mission, Schedule, Tick
from missions.operations import cleaning
from missions.operations import schedules as operations
from missions.plan import PlanError
from tests.support import api, schedules

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_a_new_schedule_has_its_next_tick_in_its_zone() -> None:
    schedule = schedules.create(cron="30 2 * * *", timezone="America/New_York")
    assert schedule.next_at is not None
    assert clock.now() < schedule.next_at <= clock.now() + timedelta(hours=25)
    assert f"{cron.local(schedule.next_at, schedule.timezone):%H:%M}" == "02:30"
    assert Event.objects.get(subject=schedule.id).kind == "schedule.created"
    entry = Entry.objects.get(kind="schedule.create", subject=schedule.ref)
    assert entry.after is not None
    assert entry.after["cron"] == "30 2 * * *"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": "0 0 30 2 *"}, "never matches"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        ({"name": ""}, "needs a name"),
        ({"name": "a\nb"}, "needs a name"),
        ({"name": "x" * 61}, "needs a name"),
        ({"deadline_s": -1.0}, "deadline"),
        ({"params": {"nothing": 1}}, "is not an input of this plan"),
        ({"plan": "mission: ["}, "cannot be read"),
        ({"plan": ""}, "either a plan or a template"),
        ({"template": "none", "plan": ""}, "no template"),
    ],
)
def test_a_wrong_schedule_is_refused_and_nothing_is_stored(fields: dict[str, object], words: str) -> None:
    with pytest.raises((errors.Invalid, PlanError, errors.NotFound), match=words):
        schedules.create(**{"name": "nightly", **fields})  # type: ignore[arg-type]
    assert not Schedule.objects.exists()


def test_a_name_is_unique_for_its_owner_only() -> None:
    ann, eve = (api.person(name, can_execute=True).user for name in ("ann", "eve"))
    for owner in (ann, eve, None):
        schedules.create(owner=owner)
    for owner in (ann, None):
        with pytest.raises(errors.Conflict, match="A schedule named 'nightly' already exists"):
            schedules.create(owner=owner)
    User.objects.all().delete()
    assert Schedule.objects.filter(owner=None).count() == 3


def test_a_user_has_a_limited_number_of_schedules(settings: object) -> None:
    settings.FLEET_MAX_SCHEDULES = 1  # type: ignore[attr-defined]
    ann = api.person("ann", can_execute=True).user
    schedules.create("first", owner=ann)
    with pytest.raises(errors.Conflict, match="ann has reached the limit of 1"):
        schedules.create("second", owner=ann)


def test_a_new_expression_or_zone_applies_from_now_on() -> None:
    schedule = schedules.due(schedules.create(cron="0 0 1 1 *"), ago=timedelta(days=1))
    updated = operations.change(schedule=schedule.id, can_execute=True, operator=True, changes={"cron": "@daily"})
    assert updated.next_at == cron.next_time(cron="@daily", timezone="UTC", after=clock.now())
    updated = operations.change(
        schedule=schedule.id, can_execute=True, operator=True, changes={"timezone": "Asia/Kathmandu"}
    )
    assert updated.next_at == cron.next_time(cron="@daily", timezone="Asia/Kathmandu", after=clock.now())
    assert updated.revision == schedule.revision + 2
    assert not schedules.drain()


def test_another_change_leaves_a_tick_that_is_due() -> None:
    schedule = schedules.due(schedules.create())
    updated = operations.change(schedule=schedule.id, can_execute=True, operator=True, changes={"overlap": "allow"})
    assert updated.next_at == schedule.next_at
    assert len(schedules.drain()) == 1
    entry = Entry.objects.get(kind="schedule.change", subject=schedule.ref)
    assert (entry.before, entry.after) == ({"overlap": "skip"}, {"overlap": "allow"})


def test_a_change_that_is_refused_changes_nothing() -> None:
    schedule = schedules.create()
    with pytest.raises(errors.Invalid, match="never matches"):
        operations.change(schedule=schedule.id, can_execute=True, operator=True, changes={"cron": "0 0 30 2 *"})
    schedule.refresh_from_db()
    assert (schedule.cron, schedule.revision) == ("30 2 * * *", 1)


def test_a_paused_schedule_has_no_ticks_and_goes_on_from_now_when_resumed() -> None:
    schedule = schedules.due(schedules.create(), ago=timedelta(days=3))
    operations.pause(schedule=schedule.id, reason="Holidays")
    schedule.refresh_from_db()
    assert (schedule.paused, schedule.reason, schedule.next_at) == (True, "Holidays", None)
    assert schedules.drain() == []
    with pytest.raises(errors.Conflict, match="already paused"):
        operations.pause(schedule=schedule.id)
    updated = operations.resume(schedule=schedule.id, can_execute=True)
    assert (updated.paused, updated.reason) == (False, "")
    assert updated.next_at is not None
    assert updated.next_at > clock.now()
    assert schedules.drain() == []
    with pytest.raises(errors.Conflict, match="is not paused"):
        operations.resume(schedule=schedule.id, can_execute=True)
    assert [entry.kind for entry in Entry.objects.filter(subject=schedule.ref).order_by("id")] == [
        "schedule.create", "schedule.pause", "schedule.resume",
    ]  # fmt: skip


def test_a_schedule_that_is_created_paused_waits_for_resume() -> None:
    schedule = schedules.create(paused=True)
    assert schedule.next_at is None
    assert operations.resume(schedule=schedule.id, can_execute=True).next_at is not None


def test_a_request_runs_a_paused_schedule_and_leaves_its_next_tick() -> None:
    schedule = schedules.create(paused=True, overlap="allow")
    assert operations.run_now(schedule=schedule.id, can_execute=True).outcome == "launched"
    operations.resume(schedule=schedule.id, can_execute=True)
    before = Schedule.objects.get().next_at
    operations.run_now(schedule=schedule.id, can_execute=True)
    assert Schedule.objects.get().next_at == before
    assert Schedule.objects.get().runs == 2


def test_a_deleted_schedule_leaves_its_missions() -> None:
    schedule = schedules.due(schedules.create())
    (tick,) = schedules.drain()
    operations.delete(schedule=schedule.id)
    mission = Mission.objects.get()
    assert (mission.id, mission.schedule_id, mission.state) == (tick.mission_id, None, "running")
    assert not Tick.objects.exists()
    with pytest.raises(errors.NotFound):
        operations.delete(schedule=schedule.id)


def test_a_cleanup_removes_old_ticks_but_not_the_newest_one_of_a_schedule() -> None:
    schedule = schedules.create()
    for days in (900, 800, 700, 1):
        at = clock.now() - timedelta(days=days)
        Tick.objects.create(schedule=schedule, at=at, outcome="skipped", decided_at=Now())
    other = schedules.create("other")
    Tick.objects.create(schedule=other, at=clock.now() - timedelta(days=900), outcome="launched")
    assert cleaning.outdated_ticks(now=clock.now(), days=365).delete()[0] == 3
    assert Tick.objects.filter(schedule=schedule).count() == Tick.objects.filter(schedule=other).count() == 1


def test_a_tick_keeps_the_id_of_a_mission_that_was_cleaned_up() -> None:
    schedule = schedules.due(schedules.create())
    (tick,) = schedules.drain()
    schedules.end(Mission.objects.get())
    assert cleaning.remove(missions=[tick.mission_id]) == 1  # type: ignore[list-item]
    assert Tick.objects.get(schedule=schedule).mission_id == tick.mission_id


def test_after_the_clock_was_set_back_a_decided_tick_is_not_launched_again() -> None:
    schedule = schedules.start_at(schedules.create(overlap="allow"), 2026, 5, 5, 2, 30)
    now = schedules.utc(2026, 5, 5, 2, 31)
    assert len(schedules.wake(schedule, now)) == 1
    schedules.start_at(schedule, 2026, 5, 5, 2, 30)
    assert schedules.wake(schedule, now) == []
    schedule.refresh_from_db()
    assert schedule.next_at == schedules.utc(2026, 5, 6, 2, 30)
    assert schedules.launched(schedule) == 1
