"""Schedules of a plan with one scripted sortie, which no agent runs unless a test starts one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models.functions import Now

from missions.control import scheduling
from missions.models import Mission, Schedule, Tick
from missions.operations import schedules

PLAN = """
mission: Scheduled
inputs: {day: {default: ""}}
sorties: {one: {agent: backend, driver: scripted, with: {day: "{{ inputs.day }}"}}}
"""


def create(name: str = "nightly", *, cron: str = "30 2 * * *", timezone: str = "UTC", **fields: Any) -> Schedule:
    """A schedule of the host's operator, unless `owner` is given."""
    owner = fields.pop("owner", None)
    source = {} if "template" in fields else {"plan": PLAN}
    return schedules.create(
        name=name,
        cron=cron,
        timezone=timezone,
        owner=owner,
        operator=owner is None,
        **{"params": {}, **source, **fields},
    )


def due(schedule: Schedule, *, ago: timedelta = timedelta(seconds=1)) -> Schedule:
    """Set the next tick to a moment before now, by the database's clock."""
    Schedule.objects.filter(id=schedule.id).update(next_at=Now() - ago)
    schedule.refresh_from_db()
    return schedule


def wake(schedule: Schedule, now: datetime) -> list[Tick]:
    """The decisions of a control loop that wakes up at `now`."""
    ticks: list[Tick] = []
    while (tick := schedules.decide_next(schedule=schedule.id, now=now)) is not None:
        ticks.append(tick)
    return ticks


def drain() -> list[Tick]:
    """The decisions of a control loop now."""
    ticks: list[Tick] = []
    while (step := scheduling.step()).more:
        ticks += [step.tick] if step.tick is not None else []
    return ticks


def start_at(schedule: Schedule, *when: int) -> Schedule:
    """Set the next tick to a time in UTC: year, month, day, hour, minute."""
    Schedule.objects.filter(id=schedule.id).update(next_at=utc(*when))
    schedule.refresh_from_db()
    return schedule


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc, arg-type]


def outcomes(schedule: Schedule) -> list[tuple[str, str]]:
    """Time and outcome of each tick, the oldest first."""
    ticks = Tick.objects.filter(schedule=schedule).order_by("at")
    return [(f"{tick.at:%Y-%m-%d %H:%M}", tick.outcome) for tick in ticks]


def launched(schedule: Schedule) -> int:
    return Mission.objects.filter(schedule=schedule).count()


def end(*missions: Mission, state: str = "succeeded") -> None:
    """End missions as if their sorties had."""
    Mission.objects.filter(id__in=[mission.id for mission in missions]).update(state=state, finished_at=Now())
