"""What becomes of a tick: the policies for ticks that were missed, and for those that meet an earlier mission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from fleet import humanise
from missions import cron
from missions.models import CatchUp, Overlap, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTick:
    """The tick to decide now, how many earlier ones it stands for, and the tick after it."""

    at: datetime
    missed: int
    skip: str  # why it is skipped; empty: it is to be launched
    next_at: datetime | None


def next_tick(schedule: Schedule, *, now: datetime, catch_up: int, on_time_s: float) -> NextTick | None:
    """The tick of a schedule to decide at `now`; None if none is due.

    `catch_up`: how many missed ticks are launched at most. A tick is missed if it is later than `on_time_s`, or if a
    later one is due too.
    """
    if schedule.next_at is None or schedule.next_at > now:
        return None
    limit = max(1, catch_up if schedule.catch_up == CatchUp.ALL else 1)
    due = cron.due(cron=schedule.cron, timezone=schedule.timezone, first=schedule.next_at, now=now, limit=limit)
    index = next((n for n, at in enumerate(due.times) if not _is_too_late(schedule, at, now)), len(due.times) - 1)
    at = due.times[index]
    skip = lateness(schedule, at=at, now=now)
    if not skip and schedule.catch_up == CatchUp.SKIP and now - at > timedelta(seconds=on_time_s):
        skip = f"No control loop decided it within {humanise.duration(on_time_s)}, and missed ticks are skipped."
    return NextTick(
        at=at,
        missed=due.earlier + index,
        skip=skip,
        next_at=cron.next_time(cron=schedule.cron, timezone=schedule.timezone, after=at),
    )


def lateness(schedule: Schedule, *, at: datetime, now: datetime) -> str:
    """Why a tick is too late to be launched; empty if it is not."""
    if not _is_too_late(schedule, at, now):
        return ""
    late, deadline = humanise.duration((now - at).total_seconds()), humanise.duration(schedule.deadline_s)
    return f"It was {late} late, and its deadline is {deadline}."


def _is_too_late(schedule: Schedule, at: datetime, now: datetime) -> bool:
    return schedule.deadline_s > 0 and now - at > timedelta(seconds=schedule.deadline_s)


class Fate(Enum):
    """What the overlap policy has for a tick."""

    LAUNCH = auto()
    WAIT = auto()
    REPLACE = auto()  # wait, in place of the ticks that wait already
    SKIP = auto()


def fate(schedule: Schedule, *, live: Sequence[str], waiting: int, catch_up: int) -> Fate:
    """What becomes of a tick while these missions of the schedule have not ended, and as many ticks wait."""
    if schedule.overlap == Overlap.ALLOW or not (live or waiting):
        return Fate.LAUNCH
    if schedule.overlap == Overlap.CANCEL:
        return Fate.REPLACE
    room = catch_up if schedule.catch_up == CatchUp.ALL else 1
    if schedule.overlap == Overlap.QUEUE and waiting < room:
        return Fate.WAIT
    return Fate.SKIP


def obstacle(live: Sequence[str], waiting: int) -> str:
    """What keeps a tick from being launched, as a sentence."""
    if not live and not waiting:
        return "An earlier mission had not ended."
    if not live:
        return f"{waiting} earlier ticks wait." if waiting > 1 else "An earlier tick waits."
    others = f" (and {len(live) - 1} more)" if len(live) > 1 else ""
    queue = ", and another tick waits already" if waiting else ""
    return f"{live[0]}{others} has not ended{queue}."
