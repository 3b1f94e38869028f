"""What may be changed of a mission that has been launched."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import Group
from django.db import connection, transaction

from fleet import errors, statements
from fleet.events.models import Event
from missions.models import Mission


def prioritise(*, mission: UUID, priority: int) -> None:
    """Its priority, and by as much that of its sorties that have not ended. Conflict if it has ended."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "prioritise"), {"mission": mission, "priority": priority})
        if cursor.fetchone() is None:
            raise errors.Conflict("This mission has ended.", hint="Launch it anew with another priority.")


def share(*, mission: UUID, team: Group | None) -> None:
    """Let a team see it, or no team any more."""
    with transaction.atomic():
        Mission.objects.filter(id=mission).update(team=team)
        Event.objects.create(
            kind="mission.changed", scope=mission, subject=mission, data={"team": team.name if team else None}
        )
