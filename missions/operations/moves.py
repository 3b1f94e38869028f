"""How missions move: a guarded update by the table of arrows, with its event, and what follows after a commit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connection

from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import statements
from missions.models import Mission
from missions.states import MISSION_ARROWS, MissionState


def mission(*, id: UUID, to: MissionState, by: str, reason: str = "", **changes: Any) -> None:
    """Move one mission along the table's arrow of that mover (`by`); Conflict where it does not start where it stands.

    Call inside a transaction: the event is part of it.
    """
    (sources,) = (arrow.sources for arrow in MISSION_ARROWS if (arrow.target, arrow.by) == (to, by))
    now = Mission.objects.select_for_update().filter(id=id).values_list("state", flat=True).first()
    if now is None:
        raise errors.NotFound(f"There is no mission {ids.encode(ids.MISSION, id)}.")
    if now not in sources:
        raise _refused(now=now, by=by)
    Mission.objects.filter(id=id, state=now).update(state=to, reason=reason[:500], **changes)
    Event.objects.create(kind=f"mission.{to}", scope=id, subject=id, data={"from": now, "reason": reason})
    audit.record(
        kind=f"mission.{by}",
        subject=ids.encode(ids.MISSION, id),
        before={"state": now},
        after={"state": to, **({"reason": reason} if reason else {})},
    )


_ALREADY = {("paused", "pause"), ("cancelling", "cancel"), ("running", "resume")}
_DONE = {"pause": "paused", "cancel": "cancelled", "resume": "resumed", "retry": "retried"}
_HINTS = {
    ("failed", "resume"): "Retry it.",
    ("cancelled", "resume"): "Retry it.",
    ("cancelling", "resume"): "Wait until it is cancelled, then retry it.",
    ("cancelling", "retry"): "Wait until it is cancelled, then retry it.",
    ("running", "retry"): "Wait until it has ended, or retry one sortie of it.",
    ("paused", "retry"): "Resume it, or retry one sortie of it.",
    ("planned", "retry"): "Start it with resume.",
}


def _refused(*, now: str, by: str) -> errors.Conflict:
    """How the mission stands, and that it cannot be done, unless it is so already; then what else can be done."""
    stands = f"has ended ({now})" if MissionState(now).final else f"is {now}"
    stands = {"planned": "has not been started", "cancelling": "is being cancelled"}.get(now, stands)
    cannot = " already" if (now, by) in _ALREADY else f"; it cannot be {_DONE.get(by, by)}"
    return errors.Conflict(f"The mission {stands}{cannot}.", hint=_HINTS.get((now, by), ""))


def complete(*, missions: list[UUID] | None = None) -> list[tuple[UUID, str]]:
    """Close the missions (default: any) whose sorties have all ended."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.engine", "complete"), {"missions": missions})
        return [(id, state) for id, state in cursor.fetchall()]
