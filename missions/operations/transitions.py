"""State transitions of missions: a guarded update along the table in missions/states.py, with its event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connection

from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import statements
from missions.models import Mission
from missions.states import MISSION_ARROWS, MissionState


def apply(*, mission: UUID, to: MissionState, by: str, reason: str = "", **changes: Any) -> None:
    """Move a mission to the state `to` by the arrow of the operation `by`.

    Raises Conflict if there is no such arrow from its state. Call it in a transaction: the event and the audit record
    become part of it.
    """
    (sources,) = (arrow.sources for arrow in MISSION_ARROWS if (arrow.target, arrow.by) == (to, by))
    state = Mission.objects.select_for_update().filter(id=mission).values_list("state", flat=True).first()
    if state is None:
        raise errors.NotFound(f"There is no mission {ids.encode(ids.MISSION, mission)}.")
    if state not in sources:
        raise _refusal(state=state, by=by)
    Mission.objects.filter(id=mission, state=state).update(state=to, reason=reason[:500], **changes)
    Event.objects.create(kind=f"mission.{to}", scope=mission, subject=mission, data={"from": state, "reason": reason})
    audit.record(
        kind=f"mission.{by}",
        subject=ids.encode(ids.MISSION, mission),
        before={"state": state},
        after={"state": to, **({"reason": reason} if reason else {})},
    )


_ALREADY = {
    ("paused", "pause"): "paused",
    ("cancelling", "cancel"): "being cancelled",
    ("running", "resume"): "running",
}
_PARTICIPLES = {"pause": "paused", "cancel": "cancelled", "resume": "resumed", "retry": "retried"}
_HINTS = {
    ("failed", "resume"): "Retry it.",
    ("cancelled", "resume"): "Retry it.",
    ("cancelling", "resume"): "Wait until it is cancelled, then retry it.",
    ("cancelling", "retry"): "Wait until it is cancelled, then retry it.",
    ("running", "retry"): "Wait until it has ended, or retry one of its sorties.",
    ("paused", "retry"): "Resume it, or retry one of its sorties.",
    ("planned", "retry"): "Start it with resume.",
}


def _refusal(*, state: str, by: str) -> errors.Conflict:
    """The error that says which state the mission is in, what cannot be done in it, and what can be done instead."""
    if (state, by) in _ALREADY:
        return errors.Conflict(f"The mission is already {_ALREADY[state, by]}.")
    status = f"has ended ({state})" if MissionState(state).final else f"is {state}"
    status = {"planned": "has not been started", "cancelling": "is being cancelled"}.get(state, status)
    return errors.Conflict(f"The mission {status}; it cannot be {_PARTICIPLES[by]}.", hint=_HINTS.get((state, by), ""))


def complete(*, missions: list[UUID] | None = None) -> list[tuple[UUID, str]]:
    """Close the missions (by default all) whose sorties have all ended. Returns their ids and final states."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.engine.settlement", "complete"), {"missions": missions})
        return [(id, state) for id, state in cursor.fetchall()]
