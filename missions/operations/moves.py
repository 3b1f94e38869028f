"""How missions move: a guarded update by the table of arrows, with its event, and what follows after a commit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connection

from fleet import audit, errors, ids, statements
from fleet.events.models import Event
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
        raise errors.Conflict(f"The mission is {now}; it cannot become {to}.", hint=_HINTS.get((now, by), ""))
    Mission.objects.filter(id=id, state=now).update(state=to, reason=reason[:500], **changes)
    Event.objects.create(kind=f"mission.{to}", scope=id, subject=id, data={"from": now, "reason": reason})
    audit.record(
        kind=f"mission.{by}",
        subject=ids.encode(ids.MISSION, id),
        before={"state": now},
        after={"state": to, **({"reason": reason} if reason else {})},
    )


_HINTS = {
    ("planned", "pause"): "It has not been started.",
    ("paused", "pause"): "It is paused already.",
    ("cancelling", "pause"): "It is being cancelled.",
    ("cancelling", "cancel"): "It is being cancelled already.",
    **{(state, by): "It has ended." for state in ("succeeded", "failed", "cancelled") for by in ("pause", "cancel")},
    ("running", "resume"): "It is running already.",
    ("succeeded", "resume"): "It has ended, and well.",
    ("failed", "resume"): "It has ended; retry it.",
    ("cancelled", "resume"): "It has ended; retry it.",
    ("cancelling", "resume"): "Wait until it is cancelled, then retry it.",
    ("cancelling", "retry"): "Wait until it is cancelled, then retry it.",
    ("running", "retry"): "Wait until it has ended, or retry one sortie of it.",
    ("paused", "retry"): "Resume it, or retry one sortie of it.",
    ("planned", "retry"): "Start it with resume.",
}


def complete(*, missions: list[UUID] | None) -> list[tuple[UUID, str]]:
    """Close those of these missions (None: of all) whose sorties have all ended."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "complete"), {"missions": missions})
        return [(id, state) for id, state in cursor.fetchall()]
