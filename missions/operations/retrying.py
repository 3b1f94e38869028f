"""Retry: reopen sorties that ended badly, and those that were skipped because of them."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet import audit, errors
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions.engine.settlement import insertion, settling
from missions.models import Mission, Need, Sortie
from missions.operations import permissions, transitions
from missions.operations.workspaces import discarding
from missions.states import MissionState, SortieState, ended_badly, predicate


def retry(*, mission: UUID, can_execute: bool) -> Mission:
    """Reopen all failed, cancelled and skipped sorties of a mission that has ended.

    The attempt numbers continue; tries and rescues start from 0 again. Raises Conflict if the mission has not ended or
    no sortie ended badly; Forbidden if the caller may not start its code (see `permissions`).
    """
    permissions.require_for_mission(mission=mission, can_execute=can_execute)
    discarding.require_not_discarded(mission)
    with transaction.atomic():
        transitions.apply(mission=mission, to=MissionState.RUNNING, by="retry", finished_at=None)
        if not _reopen(mission=mission, sortie=None):
            raise errors.Conflict(
                "Every sortie of this mission succeeded, or its failure is tolerated; there is nothing to retry.",
                hint="To retry a tolerated failure, name its sortie.",
            )
    return Mission.objects.get(id=mission)


def retry_sortie(*, sortie: UUID, can_execute: bool) -> Sortie:
    """Reopen one sortie, and its dependents that were skipped or have not started. A mission that had ended runs again.

    Raises Conflict while a dependent is running, because it has already read the outcome of this sortie; Forbidden as
    for `retry`.
    """
    row = Sortie.objects.select_related("mission").filter(id=sortie).first()
    if row is None:
        raise errors.NotFound("There is no such sortie.")
    permissions.require_for_mission(mission=row.mission_id, can_execute=can_execute)
    discarding.require_not_discarded(row.mission_id)
    with transaction.atomic():
        mission = Mission.objects.select_for_update().get(id=row.mission_id)  # locked, so that it cannot end now
        state = MissionState(mission.state)
        if state is MissionState.CANCELLING:
            raise errors.Conflict(
                "The mission is being cancelled.", hint="Wait until it is cancelled, then retry the sortie."
            )
        if state.final:
            transitions.apply(mission=row.mission_id, to=MissionState.RUNNING, by="retry", finished_at=None)
        reopened = _reopen(mission=row.mission_id, sortie=sortie)
        if sortie not in reopened:
            raise errors.Conflict(
                f"{row.key} {predicate(row.state)}. Only failed, cancelled or skipped sorties can be retried."
            )
        _refuse_running_dependents(reopened=list(reopened))
        row.refresh_from_db()
        if row.state == SortieState.SKIPPED:
            raise errors.Conflict(f"{row.key} was {row.waits_for}.", hint="Retry that one; this one will follow.")
        audit.record(
            kind="sortie.retry",
            subject=row.ref,
            before={"state": reopened[sortie]},
            after={"state": row.state, "reopened": len(reopened)},  # including dependents
        )
    return row


def _refuse_running_dependents(*, reopened: list[UUID]) -> None:
    """Raise Conflict if a dependent is running: its result would rest on an outcome that is about to be replaced."""
    running = list(
        Need.objects.filter(upstream__in=reopened, sortie__state=SortieState.RUNNING)
        .values_list("sortie__key", flat=True)
        .distinct()[:3]
    )
    if running:
        raise errors.Conflict(
            f"Sorties that used its outcome are still running: {', '.join(running)}.",
            hint="Wait until they have ended, or cancel them; then retry.",
        )


def _reopen(*, mission: UUID, sortie: UUID | None) -> dict[UUID, str]:
    """Reopen one sortie, or all if None. Returns the previous state of each reopened sortie."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations", "reopen"), {"mission": mission, "sortie": sortie})
        reopened: dict[UUID, str] = dict(cursor.fetchall())
        cursor.execute(statements.read("missions.operations", "reopen_counters"), {"mission": mission})
        insertion.apply_limits(cursor.cursor, mission=mission)
        _skip_again(cursor.cursor, mission=mission)
    return reopened


def _skip_again(cursor: Cursor, *, mission: UUID) -> None:
    """Skip reopened sorties that still cannot run, because another of their needs ended badly."""
    ended = (
        Need.objects.filter(sortie__mission=mission, sortie__state=SortieState.PENDING, sortie__always=False)
        .filter(upstream__state__in=(SortieState.FAILED, SortieState.SKIPPED, SortieState.CANCELLED))
        .values_list("upstream", "upstream__key", "upstream__state", "upstream__allow_failure")
        .order_by("upstream__key")
        .distinct()
    )
    bad = {need: key for need, key, state, tolerated in ended if ended_badly(state=state, tolerated=tolerated)}
    if bad:
        why = f"skipped because {', '.join(list(bad.values())[:3])} did not succeed"[:500]
        cursor.execute(
            statements.read("missions.engine.settlement", "skip"), {"bad": list(bad), "stopped": [], "why": why}
        )
        skipped = [sortie for (sortie,) in cursor.fetchall()]
        settling.free(cursor, ended=skipped, consequences=settling.Consequences())
