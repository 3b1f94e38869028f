"""The policies for ticks that were missed, and for ticks that are due while an earlier mission is running."""

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
    """The tick to decide now, how many earlier missed ones it covers, and the tick after it."""

    at: datetime
    missed: int
    skip: str  # why it is skipped; empty if it should be launched
    next_at: datetime | None


def next_tick(schedule: Schedule, *, now: datetime, catch_up: int, on_time_s: float) -> NextTick | None:
    """The tick of a schedule to decide at `now`; None if none is due.

    `catch_up`: the maximum number of missed ticks to launch. A tick is missed if it is later than `on_time_s`, or if a
    later one is also due.
    """
    if schedule.next_at is None or schedule.next_at > now:
        return None
    limit = max(1, catch_up if schedule.catch_up == CatchUp.ALL else 1)
    due = cron.due(cron=schedule.cron, timezone=schedule.timezone, first=schedule.next_at, now=now, limit=limit)
    index = next((n for n, at in enumerate(due.times) if not _is_too_late(schedule, at, now)), len(due.times) - 1)
    at = due.times[index]
    skip = lateness_reason(schedule, at=at, now=now)
    if not skip and schedule.catch_up == CatchUp.SKIP and now - at > timedelta(seconds=on_time_s):
        skip = f"No control loop decided it within {humanise.duration(on_time_s)}, and missed ticks are skipped."
    return NextTick(
        at=at,
        missed=due.earlier + index,
        skip=skip,
        next_at=cron.next_time(cron=schedule.cron, timezone=schedule.timezone, after=at),
    )


def lateness_reason(schedule: Schedule, *, at: datetime, now: datetime) -> str:
    """Why a tick is too late to be launched; empty if it is not."""
    if not _is_too_late(schedule, at, now):
        return ""
    late, deadline = humanise.duration((now - at).total_seconds()), humanise.duration(schedule.deadline_s)
    return f"It was {late} late, and its deadline is {deadline}."


def _is_too_late(schedule: Schedule, at: datetime, now: datetime) -> bool:
    return schedule.deadline_s > 0 and now - at > timedelta(seconds=schedule.deadline_s)


class OverlapAction(Enum):
    """What the overlap policy does with a tick."""

    LAUNCH = auto()
    WAIT = auto()
    REPLACE = auto()  # wait, in place of the ticks that are already waiting
    SKIP = auto()


def overlap_action(schedule: Schedule, *, live: Sequence[str], waiting: int, catch_up: int) -> OverlapAction:
    """What to do with a tick, given the schedule's unfinished missions (`live`) and the number of waiting ticks."""
    if schedule.overlap == Overlap.ALLOW or not (live or waiting):
        return OverlapAction.LAUNCH
    if schedule.overlap == Overlap.CANCEL:
        return OverlapAction.REPLACE
    room = catch_up if schedule.catch_up == CatchUp.ALL else 1
    if schedule.overlap == Overlap.QUEUE and waiting < room:
        return OverlapAction.WAIT
    return OverlapAction.SKIP


def blocking_reason(live: Sequence[str], waiting: int) -> str:
    """Why a tick cannot be launched now, as a sentence."""
    if not live and not waiting:
        return "An earlier mission had not ended."
    if not live:
        return f"{waiting} earlier ticks are waiting." if waiting > 1 else "An earlier tick is waiting."
    others = f" (and {len(live) - 1} more)" if len(live) > 1 else ""
    queue = ", and another tick is already waiting" if waiting else ""
    return f"{live[0]}{others} has not ended{queue}."
