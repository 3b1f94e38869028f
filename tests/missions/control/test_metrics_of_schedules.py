"""Metrics count the outcomes of ticks, and an alert names a schedule whose launches keep failing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from missions.control.alerts import AlertMonitor
from missions.models import Alert
from missions.operations import schedules as operations
from tests.support import api, schedules, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def test_launches_skips_failures_and_lateness_are_counted(client: Client) -> None:
    schedule = schedules.due(schedules.create(cron="* * * * *"), ago=timedelta(minutes=3, seconds=5))
    schedules.drain()  # launches one tick for several missed ones
    schedules.due(schedule)
    schedules.drain()  # skipped, because the mission is running
    failing = schedules.create("failing", owner=api.person("ann", can_execute=True).user)
    User.objects.update(is_active=False)
    schedules.due(failing)
    schedules.drain()
    schedules.create("resting", paused=True)
    schedule.refresh_from_db()
    series = web.scrape(client)
    ticks = {outcome: series[f'fleet_schedule_ticks_total{{outcome="{outcome}"}}'] for outcome in
             ("launched", "skipped", "failed", "missed")}  # fmt: skip
    assert ticks == {"launched": 1, "skipped": 1, "failed": 1, "missed": schedule.skips - 1}
    assert ticks["missed"] in (3, 4)
    assert series['fleet_schedules{state="active"}'] == 2
    assert series['fleet_schedules{state="paused"}'] == 1
    assert series["fleet_schedule_late_seconds_count"] == 1
    assert 0 <= series["fleet_schedule_late_seconds_sum"] < 65
    assert web.scrape(client)["fleet_schedule_late_seconds_count"] == 1


def test_an_alert_is_raised_after_several_failures_in_a_row_and_only_then() -> None:
    schedule = schedules.create(owner=api.person("ann", can_execute=True).user)
    User.objects.update(is_active=False)
    for number in range(settings.FLEET_ALERT_SCHEDULE_FAILURES):
        assert not Alert.objects.filter(rule="schedule_failing").exists(), number
        schedules.due(schedule)
        schedules.drain()
        AlertMonitor().check()
    alert = Alert.objects.get(rule="schedule_failing")
    assert (alert.subject, "'nightly'" in alert.message) == (schedule.ref, True)
    operations.pause(schedule=schedule.id)
    Alert.objects.all().delete()
    AlertMonitor().check()
    assert not Alert.objects.exists()
