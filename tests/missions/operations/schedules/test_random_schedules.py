"""With random expressions, zones, policies, outages and numbers of control loops, each tick is recorded at most once.

It is launched as its policy says.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from missions import cron
from missions.models import Mission, Schedule, Tick
from missions.operations import schedules as operations
from tests.support import schedules

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MOST = 3
ON_TIME = timedelta(seconds=60)
START = datetime(2026, 10, 30, tzinfo=UTC)

expressions = st.sampled_from(
    [
        "30 2 * * *",
        "30 1 * * *",
        "0 * * * *",
        "*/20 * * * *",
        "15 1,2,3 * * *",
        "0 0 * * MON",
        "5 */6 1-3 * *",
        "@daily",
    ]
)
zones = st.sampled_from(["America/New_York", "Australia/Lord_Howe", "Europe/Berlin", "UTC"])
pauses = st.lists(st.integers(1, 60 * 40), min_size=1, max_size=6)  # minutes between two runs of the control loop


def run_loops(schedule: Schedule, now: datetime, loops: int) -> None:
    """Run control loops concurrently, each until nothing is left to decide."""

    def run() -> None:
        try:
            schedules.wake(schedule, now)
            operations.launch_waiting(schedule=schedule.id, now=now)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    schedules.wake(schedule, now)  # ticks that both left because the other had locked a row


def expected(schedule: Schedule, due: list[datetime], now: datetime) -> list[datetime]:
    """The due ticks that are launched if nothing prevents it."""
    match schedule.catch_up:
        case "once":
            return due[-1:]
        case "skip":
            return [at for at in due[-1:] if now - at <= ON_TIME]
        case _:
            return due[-MOST:]


@given(
    expression=expressions,
    zone=zones,
    minutes=pauses,
    loops=st.integers(1, 3),
    catch_up=st.sampled_from(["once", "skip", "all"]),
    overlap=st.sampled_from(["allow", "skip", "queue", "cancel"]),
    ends=st.lists(st.booleans(), min_size=6, max_size=6),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_each_tick_is_recorded_once_at_most_and_launched_by_its_policy(
    settings: object,
    expression: str,
    zone: str,
    minutes: list[int],
    loops: int,
    catch_up: str,
    overlap: str,
    ends: list[bool],
) -> None:
    settings.FLEET_SCHEDULE_CATCH_UP, settings.FLEET_SCHEDULE_ON_TIME_S = MOST, ON_TIME.total_seconds()  # type: ignore[attr-defined]
    Schedule.objects.all().delete()
    Mission.objects.all().delete()
    schedule = schedules.create(cron=expression, timezone=zone, catch_up=catch_up, overlap=overlap)
    first = cron.next_time(cron=expression, timezone=zone, after=START)
    Schedule.objects.filter(id=schedule.id).update(next_at=first)
    last, now = START, START
    expected_ticks: list[datetime] = []
    passed: list[datetime] = []
    for pause, mission_ends in zip(minutes, ends, strict=False):
        now += timedelta(minutes=pause)
        due = [*takewhile(lambda at, now=now: at <= now, cron.times(cron=expression, timezone=zone, after=last))]  # type: ignore[misc]
        expected_ticks += expected(schedule, due, now)
        passed += due
        run_loops(schedule, now, loops)
        live = Mission.objects.exclude(state__in=["succeeded", "cancelled"])
        if overlap != "allow":
            assert live.filter(state="running").count() <= 1
        if mission_ends:
            schedules.end(*live)
        last = now
    ticks = list(Tick.objects.filter(schedule=schedule))
    launched_ticks = [tick for tick in ticks if tick.outcome == "launched"]
    assert {tick.at for tick in ticks} <= set(passed)
    assert len({tick.at for tick in ticks}) == len(ticks)
    assert Counter(tick.mission_id for tick in launched_ticks) == Counter(Mission.objects.values_list("id", flat=True))
    assert {tick.at for tick in launched_ticks} <= set(expected_ticks)
    if overlap == "allow":
        assert sorted(tick.at for tick in launched_ticks) == sorted(expected_ticks)
    if overlap in ("queue", "skip") and expected_ticks:
        assert min(tick.at for tick in launched_ticks) == min(expected_ticks)
    schedule.refresh_from_db()
    assert schedule.runs == len(launched_ticks)
    waiting = sum(tick.outcome == "waiting" for tick in ticks)
    assert schedule.runs + schedule.skips + waiting == len(passed)
    assert schedule.next_at == cron.next_time(cron=expression, timezone=zone, after=now)
