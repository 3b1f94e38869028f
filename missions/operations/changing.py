"""Changes to a mission that has been launched: its priority and its team."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import Group
from django.db import connection, transaction

from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import statements
from missions.models import Mission


def prioritise(*, mission: UUID, priority: int) -> None:
    """Set a mission's priority, and shift its unfinished sorties' by as much. Raises Conflict if it has ended."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements.read("missions.operations", "prioritise"), {"mission": mission, "priority": priority})
        row = cursor.fetchone()
        if row is None:
            raise errors.Conflict("This mission has ended.", hint="Launch it again with another priority.")
        audit.record(
            kind="mission.change",
            subject=ids.encode(ids.MISSION, mission),
            before={"priority": row[1]},
            after={"priority": priority},
        )


def share(*, mission: UUID, team: Group | None) -> None:
    """Share a mission with a team; with None, stop sharing it."""
    with transaction.atomic():
        before = Mission.objects.select_for_update(of=("self",)).select_related("team").get(id=mission).team
        Mission.objects.filter(id=mission).update(team=team)
        audit.record(
            kind="mission.change",
            subject=ids.encode(ids.MISSION, mission),
            before={"team": before.name if before else None},
            after={"team": team.name if team else None},
        )
        Event.objects.create(
            kind="mission.changed", scope=mission, subject=mission, data={"team": team.name if team else None}
        )
