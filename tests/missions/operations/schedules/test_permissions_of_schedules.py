"""A schedule runs with its owner's permissions at that moment. A refused launch is recorded and blocks no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as fleet_settings
from django.contrib.auth.models import User
from django.core.cache import cache

from fleet import errors
from fleet.access import operations as access
from fleet.access.models import Role
from fleet.audit.models import Entry
from fleet.events.models import Event
from missions.models import Mission, Schedule, Template, Tick
from missions.operations import schedules as operations
from tests.support import api, schedules

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def ann(transactional_db: None) -> User:
    return api.person("ann", can_execute=True, teams=["web"]).user


def tick_of(schedule: Schedule) -> Tick:
    schedules.due(schedule)
    (tick,) = schedules.drain()
    return tick


def test_its_missions_belong_to_its_owner_and_its_team_and_name_it(ann: User) -> None:
    schedule = schedules.create(owner=ann, team=ann.groups.get())
    mission = tick_of(schedule).mission
    assert mission is not None
    assert (mission.created_by, mission.team, mission.schedule) == (ann, ann.groups.get(), schedule)
    assert mission.can_execute
    entry = Entry.objects.get(kind="mission.launch", subject=mission.ref)
    assert (entry.actor, entry.user_id) == (f"schedule:{schedule.ref}", ann.id)
    assert entry.after is not None
    assert entry.after["schedule"] == schedule.ref
    assert Event.objects.get(kind="mission.running", subject=mission.id).data["schedule"] == schedule.ref


def test_the_schedule_of_a_disabled_user_does_not_run_and_records_the_reason(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    User.objects.filter(id=ann.id).update(is_active=False)
    tick = tick_of(schedule)
    assert (tick.outcome, tick.mission) == ("failed", None)
    assert "Its owner, ann, is disabled." in tick.reason
    User.objects.filter(id=ann.id).update(is_active=True)
    assert tick_of(schedule).outcome == "launched"


def test_the_schedule_of_a_deleted_user_does_not_get_the_operators_rights(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    ann.delete()
    tick = tick_of(schedule)
    assert tick.outcome == "failed"
    assert "was deleted" in tick.reason
    assert not Mission.objects.exists()


def test_a_user_who_has_lost_plan_execute_launches_no_more_code(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    access.set_execute(user=ann, allowed=False)
    tick = tick_of(schedule)
    assert tick.outcome == "failed"
    assert "requires plan.execute" in tick.reason


def test_a_user_who_has_become_an_agent_or_left_the_team_launches_nothing(ann: User) -> None:
    schedule = schedules.create(owner=ann, team=ann.groups.get())
    access.set_role(user=ann, role=Role.AGENT)
    assert "may not launch missions as agent" in tick_of(schedule).reason
    access.set_role(user=ann, role=Role.USER)
    ann.groups.clear()
    assert "is no longer in the team web" in tick_of(schedule).reason


def test_without_plan_execute_nobody_creates_a_schedule_of_code() -> None:
    eve = api.person("eve").user
    with pytest.raises(errors.Forbidden, match=r"plan\.execute"):
        schedules.create(owner=eve)
    assert not Schedule.objects.exists()


def test_a_template_needs_no_permission_and_is_read_at_each_launch() -> None:
    eve = api.person("eve").user
    Template.objects.create(name="check", text=schedules.PLAN)
    schedule = schedules.create(owner=eve, template="check")
    mission = tick_of(schedule).mission
    assert mission is not None
    assert (mission.name, mission.template) == ("Scheduled", "check")
    schedules.end(mission)
    Template.objects.update(text=schedules.PLAN.replace("mission: Scheduled", "mission: Changed"))
    mission = tick_of(schedule).mission
    assert mission is not None
    assert mission.name == "Changed"
    schedules.end(mission)
    Template.objects.update(enabled=False)
    assert "There is no template 'check'." in tick_of(schedule).reason


def test_a_refused_launch_is_recorded_and_the_next_schedules_are_launched(ann: User) -> None:
    broken, fine = schedules.create("broken", owner=ann), schedules.create("fine")
    Schedule.objects.filter(id=broken.id).update(plan="mission: [", params={"no such": 1})
    schedules.due(broken)
    schedules.due(fine)
    ticks = {tick.schedule_id: tick for tick in schedules.drain()}
    assert ticks[broken.id].outcome == "failed"
    assert ticks[fine.id].outcome == "launched"
    broken.refresh_from_db()
    assert (broken.failures, broken.failures_in_a_row, broken.runs) == (1, 1, 0)
    assert broken.next_at is not None
    event = Event.objects.get(kind="schedule.failed")
    assert event.subject == broken.id
    assert event.data["reason"] == ticks[broken.id].reason


def test_rows_that_cannot_be_written_fail_one_tick_and_leave_no_mission() -> None:
    schedule = schedules.create()
    broken = schedules.PLAN.replace(
        "mission: Scheduled", "mission: Scheduled\npriority: 40000"
    )  # does not fit into a smallint
    Schedule.objects.filter(id=schedule.id).update(plan=broken)
    tick = tick_of(schedule)
    assert tick.outcome == "failed"
    assert not Mission.objects.exists()
    schedule.refresh_from_db()
    assert schedule.failures == 1


def test_a_launch_is_retried_for_ten_minutes_while_a_server_does_not_answer() -> None:
    schedule = schedules.create()
    away = """
mission: Away
workspace: {repository: "https://127.0.0.1:1/project.git"}
sorties: {one: {agent: backend, run: "true"}}
"""
    Schedule.objects.filter(id=schedule.id).update(plan=away)
    schedules.due(schedule, ago=timedelta(minutes=9))
    assert schedules.drain() == []
    assert not Tick.objects.exists()
    schedule.refresh_from_db()
    assert schedule.lease_until is not None
    Schedule.objects.update(lease_until=None)
    schedules.due(schedule, ago=timedelta(minutes=11))
    (tick,) = schedules.drain()
    assert tick.outcome == "failed"


def test_a_user_whose_budget_is_used_up_waits_and_delays_nobody_else(ann: User, settings: Any) -> None:
    settings.FLEET_LIMIT_COST_S = 0.001
    cache.clear()
    for name in ("first", "second"):
        schedules.due(schedules.create(name, owner=ann), ago=timedelta(minutes=5))
    others = schedules.due(schedules.create("others", owner=api.person("bob", can_execute=True).user))
    ticks = {tick.schedule.name: tick.outcome for tick in schedules.drain()}
    assert ticks == {"first": "launched", "others": "launched"}
    assert others.ticks.count() == 1
    cache.clear()  # the next minute
    Schedule.objects.update(lease_until=None)
    (tick,) = schedules.drain()
    assert (tick.schedule.name, tick.outcome) == ("second", "launched")


def test_a_success_resets_the_count_of_failures(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    User.objects.update(is_active=False)
    for _ in range(fleet_settings.FLEET_ALERT_SCHEDULE_FAILURES):
        tick_of(schedule)
    schedule.refresh_from_db()
    assert (schedule.failures_in_a_row, schedule.paused) == (fleet_settings.FLEET_ALERT_SCHEDULE_FAILURES, False)
    User.objects.update(is_active=True)
    tick_of(schedule)
    schedule.refresh_from_db()
    assert (schedule.failures_in_a_row, schedule.failures) == (0, fleet_settings.FLEET_ALERT_SCHEDULE_FAILURES)


def test_parameters_may_name_the_time_of_the_launch() -> None:
    schedule = schedules.create(
        cron="30 2 * * *",
        timezone="America/New_York",
        params={"day": "{{ schedule.date }} {{schedule.at}} {{ schedule.name }} {{ other }}"},
    )
    schedules.start_at(schedule, 2026, 3, 8, 7, 0)
    (tick,) = schedules.wake(schedule, schedules.utc(2026, 3, 8, 7, 0))
    assert tick.mission is not None
    assert tick.mission.inputs == {"day": "2026-03-08 2026-03-08T03:00:00-04:00 nightly {{ other }}"}


def test_an_unknown_value_of_the_schedule_is_refused() -> None:
    with pytest.raises(errors.Invalid, match=r"schedule\.at, schedule\.date or schedule\.name"):
        schedules.create(params={"day": "{{ schedule.week }}"})


def test_a_run_that_an_admin_requests_does_not_get_the_admins_rights(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    access.set_execute(user=ann, allowed=False)
    with pytest.raises(errors.Conflict, match=r"owner of the schedule may not launch it.*plan\.execute"):
        operations.run_now(schedule=schedule.id, can_execute=True)
    operations.pause(schedule=schedule.id)
    with pytest.raises(errors.Conflict, match=r"plan\.execute"):
        operations.resume(schedule=schedule.id, can_execute=True)


def test_users_without_plan_execute_cannot_run_another_users_code(ann: User) -> None:
    schedule = schedules.create(owner=ann)
    with pytest.raises(errors.Forbidden, match=r"plan\.execute"):
        operations.run_now(schedule=schedule.id, can_execute=False)
    operations.pause(schedule=schedule.id)
    with pytest.raises(errors.Forbidden, match=r"plan\.execute"):
        operations.resume(schedule=schedule.id, can_execute=False)


def test_only_the_operator_changes_what_runs_with_the_operators_rights() -> None:
    schedule = schedules.create()
    for changes in ({"plan": schedules.PLAN}, {"params": {"day": "x"}}, {"folder": "/srv"}):
        with pytest.raises(errors.Forbidden, match="host's operator"):
            operations.change(schedule=schedule.id, can_execute=True, changes=changes)
    assert operations.change(schedule=schedule.id, can_execute=True, changes={"cron": "@daily"}).cron == "@daily"
