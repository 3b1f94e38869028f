"""Retry: reopen sorties that ended badly, and what was skipped because of them."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet import audit, errors
from fleet.postgres import statements
from fleet.postgres.hot_path import Cursor
from missions.engine import settling
from missions.models import Mission, Need, Sortie
from missions.operations import moves, rights
from missions.states import MissionState, SortieState


def retry(*, mission: UUID, executes: bool) -> Mission:
    """Reopen all that failed, was cancelled or was skipped in a mission that has ended. Attempts go on counting; tries
    and rescues begin anew. Conflict if it has not ended, or nothing ended badly; Forbidden where who retries it may not
    start its code (`rights`)."""
    rights.ask_again(mission=mission, executes=executes)
    with transaction.atomic():
        moves.mission(id=mission, to=MissionState.RUNNING, by="retry", finished_at=None)
        if not _reopen(mission=mission, sortie=None):
            raise errors.Conflict(
                "Every sortie of this mission ended well, or its failure is tolerated; there is nothing to retry.",
                hint="Name a sortie to fly a tolerated one again.",
            )
    return Mission.objects.get(id=mission)


def retry_sortie(*, sortie: UUID, executes: bool) -> Sortie:
    """Reopen one sortie, and what needs it and was skipped or has not started; its mission runs again if it had ended.
    Conflict while something that needs it is running: that has read how it ended. Forbidden as for `retry`."""
    found = Sortie.objects.select_related("mission").filter(id=sortie).first()
    if found is None:
        raise errors.NotFound("There is no such sortie.")
    rights.ask_again(mission=found.mission_id, executes=executes)
    with transaction.atomic():
        state = MissionState(Mission.objects.select_for_update().get(id=found.mission_id).state)  # or it ends meanwhile
        if state is MissionState.CANCELLING:
            raise errors.Conflict("Its mission is being cancelled.", hint="Wait until it is cancelled, then retry it.")
        if state.final:
            moves.mission(id=found.mission_id, to=MissionState.RUNNING, by="retry", finished_at=None)
        reopened = _reopen(mission=found.mission_id, sortie=sortie)
        if sortie not in reopened:
            raise errors.Conflict(
                f"{found.key} is {found.state}; only what failed, was cancelled or was skipped can be retried."
            )
        _refuse_what_runs_on_it(reopened=list(reopened))
        found.refresh_from_db()
        if found.state == SortieState.SKIPPED:
            raise errors.Conflict(f"{found.key} was {found.waits_for}.", hint="Retry that one; this one follows.")
        audit.record(
            kind="sortie.retry",
            subject=found.ref,
            before={"state": reopened[sortie]},
            after={"state": found.state, "reopened": len(reopened)},  # with what needs it
        )
    return found


def _refuse_what_runs_on_it(*, reopened: list[UUID]) -> None:
    """Its result would tell of an end that is no longer true, and a second start of it would not wait for the new one."""
    running = list(
        Need.objects.filter(upstream__in=reopened, sortie__state=SortieState.RUNNING)
        .values_list("sortie__key", flat=True)
        .distinct()[:3]
    )
    if running:
        raise errors.Conflict(
            f"What needs it is running on how it ended: {', '.join(running)}.",
            hint="Wait for its end, or cancel it; then retry.",
        )


def _reopen(*, mission: UUID, sortie: UUID | None) -> dict[UUID, str]:
    """What was reopened, and how it stood."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations", "reopen"), {"mission": mission, "sortie": sortie})
        reopened: dict[UUID, str] = dict(cursor.fetchall())
        cursor.execute(statements.read("missions.operations", "reopen_counters"), {"mission": mission})
        _skip_again(cursor.cursor, mission=mission)
    return reopened


def _skip_again(cursor: Cursor, *, mission: UUID) -> None:
    """Skip what was reopened because of one need, and still cannot run because of another that ended badly."""
    cursor.execute(statements.read("missions.operations", "ended_badly"), {"mission": mission})
    bad: dict[UUID, str] = dict(cursor.fetchall())
    if bad:
        why = f"skipped because {', '.join(list(bad.values())[:3])} did not end well"[:500]
        cursor.execute(statements.read("missions.engine", "skip"), {"bad": list(bad), "stopped": [], "why": why})
        skipped = [sortie for (sortie,) in cursor.fetchall()]
        settling.free(cursor, ended=skipped, consequences=settling.Consequences())
