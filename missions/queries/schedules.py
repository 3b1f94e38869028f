"""Schedules and their ticks as the commands, the admin and the API show them. docs/commands.md documents the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from fleet import errors, ids
from fleet.access.actor import Actor
from fleet.access.rules import Visibility
from fleet.console import invocation
from fleet.postgres import clock
from missions import cron
from missions.models import Schedule, Tick

UPCOMING = 5
MAX_UPCOMING = 20


def rows() -> QuerySet[Schedule]:
    return Schedule.objects.select_related("owner", "team").defer("plan")


def visible(actor: Actor, action: str = "schedules.read") -> QuerySet[Schedule]:
    """The schedules on which a caller may perform an action: its own and, for reading, those of its teams."""
    visibility = actor.visibility(action)
    if visibility is Visibility.ALL:
        return rows()
    if actor.user is None:
        return rows().none()
    own = Q(owner=actor.user)
    if visibility is Visibility.TEAMS and (teams := actor.team_ids()):
        own |= Q(team__in=teams)
    return rows().filter(own)


def schedule(actor: Actor, ref: str, action: str = "schedules.read") -> Schedule:
    """The schedule with this id (`sch_…`). NotFound if the caller cannot see it; Forbidden if it can only see it."""
    row = visible(actor).filter(id=ids.decode(ids.SCHEDULE, ref)).first()
    if row is None:
        raise errors.NotFound(f"There is no schedule {ref}.")
    if actor.visibility(action) is Visibility.OWN and (actor.user is None or row.owner_id != actor.user.id):
        raise errors.Forbidden("Only the owner of this schedule, or an admin, may do this.", hint="Ask one of them.")
    return row


def find(text: str) -> Schedule:
    """The schedule with this name or id, for the host's operator. Raises NotFound; Conflict if several match."""
    if text.startswith(f"{ids.SCHEDULE}_"):
        matches = list(rows().filter(id=ids.decode(ids.SCHEDULE, text)))
    else:
        matches = list(rows().filter(name=text)[:20]) if text.isprintable() else []
    if len(matches) > 1:
        owners = ", ".join(f"{row.ref} ({row.owner or 'operator'})" for row in matches)
        raise errors.Conflict(f"Several users have a schedule {text!r}.", hint=f"Use its id: {owners}.")
    if not matches:
        raise errors.NotFound(
            f"There is no schedule {text!r}.", hint=f"See: {invocation.command('fleet_schedule', 'list')}"
        )
    return matches[0]


def names() -> list[str]:
    return list(Schedule.objects.order_by("name").values_list("name", flat=True).distinct()[:1_000])


def owner(name: str) -> User:
    """The user with this name. Raises NotFound if there is none."""
    user = User.objects.filter(username=name).first()
    if user is None:
        raise errors.NotFound(f"There is no user {name!r}.", hint=f"See: {invocation.command('fleet_user', 'list')}")
    return user


def ticks(row: Schedule) -> QuerySet[Tick]:
    """The decided and the waiting ticks of a schedule, the newest decision first."""
    return Tick.objects.filter(schedule=row).order_by("-id")


def upcoming(*, cron_text: str, timezone: str, after: datetime, number: int = UPCOMING) -> list[datetime]:
    """The next times of an expression, in its time zone."""
    times = cron.times(cron=cron_text, timezone=timezone, after=after)
    return [cron.local(at, timezone) for at in islice(times, number)]


def preview(*, cron_text: str, timezone: str, number: int = UPCOMING) -> dict[str, Any]:
    """`{cron, timezone, explanation, times}` from now on. Raises Invalid for a wrong expression or zone."""
    cron.check(cron=cron_text, timezone=timezone)
    return {
        "cron": cron_text,
        "timezone": timezone,
        "explanation": cron.explanation(cron_text),
        "times": [
            at.isoformat() for at in upcoming(cron_text=cron_text, timezone=timezone, after=clock.now(), number=number)
        ],
    }


def as_json(schedules: Sequence[Schedule]) -> list[dict[str, Any]]:
    """Schedules with their last ticks, in two queries."""
    newest = Tick.objects.filter(schedule__in=schedules).order_by("schedule_id", "-id").distinct("schedule_id")
    last: dict[UUID, Tick] = {tick.schedule_id: tick for tick in newest}
    return [_summary(row, last.get(row.id)) for row in schedules]


def detail(row: Schedule) -> dict[str, Any]:
    """A schedule with its parameters and its next times, without its plan, which may be long and contain secrets."""
    after = clock.now()
    (summary,) = as_json([row])
    return {
        **summary,
        "params": row.params,
        "folder": row.folder,
        "upcoming": []
        if row.paused
        else [at.isoformat() for at in upcoming(cron_text=row.cron, timezone=row.timezone, after=after)],
    }


def tick_as_json(tick: Tick) -> dict[str, Any]:
    """`{at, outcome, reason, missed, requested, mission, decided_at}`"""
    return {
        "at": tick.at.isoformat(),
        "outcome": tick.outcome,
        "reason": tick.reason,
        "missed": tick.missed,
        "requested": tick.requested,
        "mission": ids.encode(ids.MISSION, tick.mission_id) if tick.mission_id else None,
        "decided_at": tick.decided_at.isoformat(),
    }


def _summary(row: Schedule, last: Tick | None) -> dict[str, Any]:
    return {
        "id": row.ref,
        "name": row.name,
        "cron": row.cron,
        "timezone": row.timezone,
        "overlap": row.overlap,
        "catch_up": row.catch_up,
        "deadline_s": row.deadline_s,
        "paused": row.paused,
        "reason": row.reason,
        "owner": row.owner.username if row.owner else None,
        "operator": row.operator,
        "team": row.team.name if row.team else None,
        "template": row.template or None,
        "next_at": row.next_at.isoformat() if row.next_at else None,
        "last": tick_as_json(last) if last else None,
        "runs": row.runs,
        "skips": row.skips,
        "failures": row.failures,
        "failures_in_a_row": row.failures_in_a_row,
        "revision": row.revision,
        "created_at": row.created_at.isoformat(),
        "changed_at": row.changed_at.isoformat(),
    }
