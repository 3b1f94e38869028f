"""Cancel: what has not started ends at once; what runs is stopped, and ends when its agent says so or is lost."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet import audit, errors, ids
from fleet.postgres import statements
from missions import hints
from missions.engine import settling
from missions.models import Mission, Sortie
from missions.operations import moves
from missions.states import MissionState, SortieState


def cancel(*, mission: UUID, reason: str = "") -> Mission:
    """Cancel a mission. It is *cancelling* until everything that runs has been stopped. Conflict if it has ended."""
    with transaction.atomic():
        moves.mission(id=mission, to=MissionState.CANCELLING, by="cancel", reason=reason)
        sweep(missions=[mission], why=reason)
    moves.complete(missions=[mission])
    return Mission.objects.get(id=mission)


def sweep(*, missions: list[UUID], why: str = "") -> None:
    """Ask what runs to stop, then end the rest. In that order, which is the order that settling locks in."""
    these = {"missions": missions, "sorties": None, "why": why}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations", "ask_to_stop"), these)
        cursor.execute(statements.read("missions.operations", "cancel"), these)


def cancel_sortie(*, sortie: UUID, reason: str = "") -> Sortie:
    """Cancel one sortie; what needs it is skipped. Conflict if it has ended."""
    consequences = settling.Consequences()
    with transaction.atomic(), connection.cursor() as cursor:
        this = {"missions": None, "sorties": [sortie], "why": reason}
        cursor.execute(statements.read("missions.operations", "ask_to_stop"), this)
        asked = cursor.fetchall()
        cursor.execute(statements.read("missions.operations", "cancel"), this)
        ended: dict[UUID, str] = dict(cursor.fetchall())
        if ended:
            settling.free(cursor.cursor, ended=list(ended), consequences=consequences)
            settling.skip(cursor.cursor, bad=list(ended), consequences=consequences)
        if asked or ended:
            after = {"state": SortieState.CANCELLED} if ended else {"cancel_requested": True}
            audit.record(
                kind="sortie.cancel",
                subject=ids.encode(ids.SORTIE, sortie),
                before={"state": ended.get(sortie, SortieState.RUNNING)},
                after={**after, **({"reason": reason} if reason else {})},
            )
    found = Sortie.objects.select_related("mission").filter(id=sortie).first()
    if found is None:
        raise errors.NotFound("There is no such sortie.")
    if not asked and not ended and found.state != SortieState.CANCELLED:
        raise errors.Conflict(f"{found.key} has {found.state} already; there is nothing to cancel.")
    moves.complete(missions=[found.mission_id])
    transaction.on_commit(lambda: hints.ring(consequences.freed, consequences.named))
    return found
