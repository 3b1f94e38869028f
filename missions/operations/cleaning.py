"""Retention: remove finished missions by age and number, with their sorties, output, events and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from fleet.events.models import Event
from fleet.postgres import statements
from missions.artifacts import collection
from missions.models import Artifact, Mission, Tick
from missions.operations import hooks
from missions.operations.workspaces import discarding
from missions.queries import counters
from missions.states import FINAL_MISSION_STATES

PAGE = 50


def outdated(*, now: datetime, days: int, keep: int) -> list[UUID]:
    """Finished missions older than `days`, or beyond the newest `keep` of them; oldest first."""
    ended = Mission.objects.filter(state__in=FINAL_MISSION_STATES)
    expired = set(ended.filter(finished_at__lt=now - timedelta(days=days)).values_list("id", flat=True))
    surplus = set(ended.order_by("-id").values_list("id", flat=True)[keep:])
    return sorted(expired | surplus)


def remove(*, missions: Sequence[UUID]) -> int:
    """Remove these missions, a page at a time, and artifact files that no other mission uses. Returns the count.

    Those with unmerged work are left; see `workspaces.unmerged`.
    """
    removed = 0
    for start in range(0, len(missions), PAGE):
        page = list(missions[start : start + PAGE])
        hooks.before_cleanup.run(page)
        page = discarding.remove_merged_work(missions=page)
        digests = set(Artifact.objects.filter(sortie__mission__in=page).values_list("digest", flat=True))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
            list(Mission.objects.select_for_update().filter(id__in=page).order_by("id").values_list("id"))
            counters.fold(wait=True)  # so that the totals still include what these missions did
            cursor.execute(statements.read("missions.operations", "cleanup"), {"missions": page})
            removed += len(cursor.fetchall())
        collection.delete_unused(digests)
    return removed


def outdated_events(*, now: datetime, days: int) -> QuerySet[Event]:
    """Events older than `days` that belong to no mission (agents, nodes, services)."""
    return Event.objects.filter(scope=None, at__lt=now - timedelta(days=days))


def remove_events(*, now: datetime, days: int) -> int:
    """Remove the outdated events, once the counters include them. Returns the count."""
    counters.fold(wait=True)
    return outdated_events(now=now, days=days).delete()[0]


def outdated_ticks(*, now: datetime, days: int) -> QuerySet[Tick]:
    """Ticks of schedules that are older than `days`, except those that wait and the newest of each schedule."""
    newest = Tick.objects.order_by("schedule_id", "-id").distinct("schedule_id").values("id")
    expired_ticks = Tick.objects.filter(at__lt=now - timedelta(days=days)).exclude(outcome=Tick.Outcome.WAITING)
    return expired_ticks.exclude(id__in=newest)
