"""Retry: reopen sorties that ended badly, and what was skipped because of them."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet import errors, statements
from missions.models import Mission, Sortie
from missions.operations import moves
from missions.states import MissionState


def retry(*, mission: UUID) -> Mission:
    """Reopen all that failed, was cancelled or was skipped in a mission that has ended. Attempts go on counting; tries
    and rescues begin anew. Conflict if it has not ended, or nothing ended badly."""
    with transaction.atomic():
        moves.mission(id=mission, to=MissionState.RUNNING, finished_at=None)
        if not _reopen(mission=mission, sortie=None):
            raise errors.Conflict("Every sortie of this mission ended well; there is nothing to retry.")
    return Mission.objects.get(id=mission)


def retry_sortie(*, sortie: UUID) -> Sortie:
    """Reopen one sortie and its skipped dependents; its mission runs again if it had ended."""
    found = Sortie.objects.select_related("mission").filter(id=sortie).first()
    if found is None:
        raise errors.NotFound("There is no such sortie.")
    with transaction.atomic():
        if MissionState(found.mission.state).final:
            moves.mission(id=found.mission_id, to=MissionState.RUNNING, finished_at=None)
        if not _reopen(mission=found.mission_id, sortie=sortie):
            raise errors.Conflict(
                f"{found.key} is {found.state}; only what failed, was cancelled or was skipped can be retried."
            )
    found.refresh_from_db()
    return found


def _reopen(*, mission: UUID, sortie: UUID | None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "reopen"), {"mission": mission, "sortie": sortie})
        (count,) = cursor.fetchone()
        cursor.execute(statements.read("missions", "reopen_counters"), {"mission": mission})
    return int(count)
