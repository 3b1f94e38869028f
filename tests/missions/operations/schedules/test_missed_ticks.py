"""After a day without a control loop, the catch-up policy decides what is launched. It is never 24 missions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from missions.models import Schedule, Tick
from tests.support import schedules
from tests.support.schedules import utc

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

MIDNIGHT = (2026, 5, 5, 0, 0)


def hourly(**fields: Any) -> Schedule:
    return schedules.start_at(schedules.create(cron="0 * * * *", overlap="allow", **fields), *MIDNIGHT)


def test_catch_up_once_launches_the_newest_tick_and_counts_the_missed_ones() -> None:
    schedule = hourly()
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 23, 30))
    assert (tick.at, tick.outcome, tick.missed) == (utc(2026, 5, 5, 23, 0), "launched", 23)
    schedule.refresh_from_db()
    assert (schedule.runs, schedule.skips, schedule.next_at) == (1, 23, utc(2026, 5, 6, 0, 0))
    assert schedules.launched(schedule) == 1


def test_catch_up_skip_launches_nothing_late_and_continues_with_the_next_tick() -> None:
    schedule = hourly(catch_up="skip")
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 23, 30))
    assert (tick.outcome, tick.missed) == ("skipped", 23)
    assert "missed ticks are skipped" in tick.reason
    (tick,) = schedules.wake(schedule, utc(2026, 5, 6, 0, 0))
    assert (tick.at, tick.outcome) == (utc(2026, 5, 6, 0, 0), "launched")
    schedule.refresh_from_db()
    assert (schedule.runs, schedule.skips) == (1, 24)


def test_catch_up_skip_launches_the_newest_tick_if_it_is_on_time() -> None:
    schedule = hourly(catch_up="skip")
    (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 23, 0) + timedelta(seconds=5))
    assert (tick.at, tick.outcome, tick.missed) == (utc(2026, 5, 5, 23, 0), "launched", 23)


def test_catch_up_all_launches_the_newest_ticks_up_to_the_limit_in_order() -> None:
    schedule = hourly(catch_up="all")
    ticks = schedules.wake(schedule, utc(2026, 5, 5, 23, 30))
    assert [tick.at.hour for tick in ticks] == list(range(14, 24))
    assert [tick.missed for tick in ticks] == [14] + 9 * [0]
    assert schedules.launched(schedule) == settings.FLEET_SCHEDULE_CATCH_UP == 10
    schedule.refresh_from_db()
    assert (schedule.runs, schedule.skips, schedule.next_at) == (10, 14, utc(2026, 5, 6, 0, 0))


@pytest.mark.parametrize(("catch_up", "launched"), [("once", [23]), ("all", [21, 22, 23]), ("skip", [])])
def test_ticks_that_are_later_than_the_deadline_are_not_launched(catch_up: str, launched: list[int]) -> None:
    schedule = hourly(catch_up=catch_up, deadline_s=3 * 3_600)
    ticks = schedules.wake(schedule, utc(2026, 5, 5, 23, 59))
    assert [tick.at.hour for tick in ticks if tick.outcome == "launched"] == launched


@pytest.mark.parametrize("catch_up", ["once", "all"])
def test_if_all_ticks_are_past_the_deadline_the_newest_records_it(catch_up: str) -> None:
    schedule = schedules.start_at(schedules.create(catch_up=catch_up, deadline_s=60), 2026, 5, 5, 2, 30)
    (tick,) = schedules.wake(schedule, utc(2026, 5, 8, 0, 0))
    assert (tick.at, tick.outcome, tick.missed) == (utc(2026, 5, 7, 2, 30), "skipped", 2)
    assert tick.reason == "It was 21 h 30 min late, and its deadline is 1 min."


def test_a_tick_that_is_late_by_a_restart_of_the_control_loop_is_launched_whatever_the_policy() -> None:
    for catch_up in ("once", "skip", "all"):
        schedule = schedules.start_at(schedules.create(catch_up, catch_up=catch_up), *MIDNIGHT)
        (tick,) = schedules.wake(schedule, utc(2026, 5, 5, 0, 0) + timedelta(seconds=30))
        assert (tick.outcome, tick.missed) == ("launched", 0)


def test_nothing_is_due_before_its_time() -> None:
    schedule = hourly()
    assert schedules.wake(schedule, utc(2026, 5, 4, 23, 59)) == []
    assert not Tick.objects.exists()


@pytest.mark.parametrize(
    ("cron", "starts", "days"),
    [
        ("30 2 * * *", utc(2026, 3, 7, 7, 30), ["03-07 07:30", "03-08 07:00", "03-09 06:30"]),
        ("30 1 * * *", utc(2026, 3, 7, 6, 30), ["03-07 06:30", "03-08 06:30", "03-09 05:30"]),
        ("30 2 * * *", utc(2026, 10, 31, 6, 30), ["10-31 06:30", "11-01 07:30", "11-02 07:30"]),
        ("30 1 * * *", utc(2026, 10, 31, 5, 30), ["10-31 05:30", "11-01 05:30", "11-02 06:30"]),
    ],
)
def test_each_day_on_which_the_clocks_change_has_one_launch(cron: str, starts: object, days: list[str]) -> None:
    schedule = schedules.create(cron=cron, timezone="America/New_York", overlap="allow")
    Schedule.objects.filter(id=schedule.id).update(next_at=starts)
    now = starts
    for _ in range(int(2.5 * 24 * 4)):  # the control loop runs every 15 minutes
        schedules.wake(schedule, now)  # type: ignore[arg-type]
        now += timedelta(minutes=15)  # type: ignore[operator]
    assert schedules.outcomes(schedule) == [(f"2026-{day}", "launched") for day in days]
