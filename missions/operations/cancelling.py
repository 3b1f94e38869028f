"""Cancel: unstarted sorties end at once; running ones are stopped, and end when their agent settles them or is lost."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet import audit, errors, ids
from fleet.postgres import statements
from missions import hints
from missions.engine.settlement import settling
from missions.models import Mission, Sortie
from missions.operations import hooks, transitions
from missions.states import FINAL_MISSION_STATES, MissionState, SortieState


def cancel(*, mission: UUID, reason: str = "") -> Mission:
    """Cancel a mission. It is *cancelling* until all running sorties have stopped. Raises Conflict if it has ended."""
    if not Mission.objects.filter(id=mission, state__in=FINAL_MISSION_STATES).exists():
        hooks.before_cancel.run([mission])
    with transaction.atomic():
        transitions.apply(mission=mission, to=MissionState.CANCELLING, by="cancel", reason=reason)
        stop_sorties(missions=[mission], why=reason)
    transitions.complete(missions=[mission])
    return Mission.objects.get(id=mission)


def stop_sorties(*, missions: list[UUID], why: str = "") -> None:
    """Request that running sorties stop, then cancel the others. Settling locks rows in the same order."""
    parameters = {"missions": missions, "sorties": None, "why": why}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations", "ask_to_stop"), parameters)
        cursor.execute(statements.read("missions.operations", "cancel"), parameters)


def cancel_sortie(*, sortie: UUID, reason: str = "") -> Sortie:
    """Cancel one sortie and skip its dependents. Raises Conflict if it has ended."""
    consequences = settling.Consequences()
    with transaction.atomic(), connection.cursor() as cursor:
        parameters = {"missions": None, "sorties": [sortie], "why": reason}
        cursor.execute(statements.read("missions.operations", "ask_to_stop"), parameters)
        stopping = cursor.fetchall()
        cursor.execute(statements.read("missions.operations", "cancel"), parameters)
        ended: dict[UUID, str] = dict(cursor.fetchall())
        if ended:
            settling.free(cursor.cursor, ended=list(ended), consequences=consequences)
            settling.skip(cursor.cursor, bad=list(ended), consequences=consequences)
        if stopping or ended:
            after = {"state": SortieState.CANCELLED} if ended else {"cancel_requested": True}
            audit.record(
                kind="sortie.cancel",
                subject=ids.encode(ids.SORTIE, sortie),
                before={"state": ended.get(sortie, SortieState.RUNNING)},
                after={**after, **({"reason": reason} if reason else {})},
            )
    row = Sortie.objects.select_related("mission").filter(id=sortie).first()
    if row is None:
        raise errors.NotFound("There is no such sortie.")
    if not stopping and not ended and row.state != SortieState.CANCELLED:
        raise errors.Conflict(f"{row.key} has already ended ({row.state}); there is nothing to cancel.")
    transitions.complete(missions=[row.mission_id])
    transaction.on_commit(lambda: hints.send(consequences.queued, consequences.queued_sorties))
    return row
