"""Reservations as the commands, the admin and the API show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from missions.models import Mission, Reservation, WaitsOn
from missions.states import FINAL_SORTIE_STATES, SortieState

LIVE = (
    Q(released_at__isnull=True)
    & ~Q(sortie__state__in=FINAL_SORTIE_STATES)
    & (Q(until__isnull=True) | Q(until__gt=Now()))
)


def rows(*, missions: QuerySet[Mission], sortie: UUID | None = None, ended: bool = False) -> QuerySet[Reservation]:
    """The reservations of these missions, or of one sortie. `ended`: include those that can no longer be in force."""
    selected = Reservation.objects.filter(sortie__mission__in=missions).select_related("sortie__mission")
    if sortie is not None:
        selected = selected.filter(sortie=sortie)
    return selected if ended else selected.filter(LIVE)


def state(row: Reservation, *, now: datetime) -> str:
    """`in force`, `waiting` (its sortie has not been admitted), `released` or `ended`."""
    sortie = row.sortie
    if row.released_at is not None:
        return "released"
    if row.attempt is not None:
        running = sortie.state == SortieState.RUNNING and sortie.attempt == row.attempt
        return "in force" if running and row.until is not None and row.until > now else "ended"
    if sortie.state in FINAL_SORTIE_STATES:
        return "ended"
    working = sortie.state in (SortieState.QUEUED, SortieState.RUNNING) or sortie.waits_on == WaitsOn.MERGE
    return "in force" if working else "waiting"


def as_json(reservations: Iterable[Reservation]) -> Iterator[dict[str, Any]]:
    """Each reservation as `{id, mission, sortie, key, pattern, shared, attempt, state, until, branch}`."""
    now = timezone.now()
    for row in reservations:
        yield {
            "id": row.ref,
            "mission": row.sortie.mission.ref,
            "sortie": row.sortie.ref,
            "key": row.sortie.key,
            "pattern": row.pattern,
            "shared": row.shared,
            "attempt": row.attempt,
            "state": state(row, now=now),
            "until": row.until.isoformat() if row.until else None,
            "branch": row.branch,
        }
