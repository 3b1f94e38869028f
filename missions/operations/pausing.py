"""Pause: what runs may finish, nothing starts, nothing completes. Resume: it goes on; a created mission starts."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet.postgres import statements
from missions.models import Mission
from missions.operations import moves, rights
from missions.states import MissionState


def pause(*, mission: UUID, reason: str = "") -> Mission:
    """Conflict unless it runs. What is queued goes back to ready, where nobody claims it."""
    with transaction.atomic():
        moves.mission(id=mission, to=MissionState.PAUSED, by="pause", reason=reason)
        with connection.cursor() as cursor:
            cursor.execute(statements.read("missions.control", "unqueue"), {"missions": [mission]})
    return Mission.objects.get(id=mission)


def resume(*, mission: UUID, executes: bool) -> Mission:
    """Conflict unless it is paused or planned; Forbidden where who resumes it may not start its code (`rights`). The control
    loop admits what is ready at its next beat."""
    rights.ask_again(mission=mission, executes=executes)
    with transaction.atomic():
        moves.mission(id=mission, to=MissionState.RUNNING, by="resume")
    moves.complete(missions=[mission])
    return Mission.objects.get(id=mission)
