"""Pause: running sorties may finish, nothing starts, and the mission does not complete. Resume undoes this."""

from __future__ import annotations

from uuid import UUID

from django.db import connection, transaction

from fleet.postgres import statements
from missions.models import Mission
from missions.operations import permissions, transitions
from missions.states import MissionState


def pause(*, mission: UUID, reason: str = "") -> Mission:
    """Pause a mission. Its queued sorties return to ready, so none is claimed. Raises Conflict unless it is running."""
    with transaction.atomic():
        transitions.apply(mission=mission, to=MissionState.PAUSED, by="pause", reason=reason)
        with connection.cursor() as cursor:
            cursor.execute(statements.read("missions.control", "unqueue"), {"missions": [mission]})
    return Mission.objects.get(id=mission)


def resume(*, mission: UUID, can_execute: bool) -> Mission:
    """Resume a paused mission or start a planned one; the control loop admits its ready sorties at its next beat.

    Raises Conflict unless it is paused or planned; Forbidden if the caller may not start its code (see `permissions`).
    """
    permissions.require_for_mission(mission=mission, can_execute=can_execute)
    with transaction.atomic():
        transitions.apply(mission=mission, to=MissionState.RUNNING, by="resume")
    transitions.complete(missions=[mission])
    return Mission.objects.get(id=mission)
