"""Check the sorties that a running attempt asks to add, by the rules of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from missions import folders
from missions.claims import Claim
from missions.engine.attempts.context import decoded
from missions.plan import Json, PlanError, PlanProblem, SortieSpec, added
from missions.plan.problems import ADDED
from missions.queries import plan_context
from missions.states import SortieState


def check(*, claim: Claim, items: Sequence[Json]) -> tuple[SortieSpec, ...]:
    """The sorties to add. Raises PlanError if they are invalid, or if they run code and the mission may not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, state FROM missions_sortie WHERE mission_id = %s", [claim.mission])
        existing = dict(cursor.fetchall())
        cursor.execute(
            "SELECT m.defaults, m.inputs, m.executes, m.folder, s.priority, w.mission_id IS NOT NULL"
            " FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id"
            " LEFT JOIN missions_workspace w ON w.mission_id = m.id WHERE s.id = %s",
            [claim.id],
        )
        defaults, inputs, can_execute, folder, priority, workspace = cursor.fetchone()
    specs = added(
        items=items,
        existing=existing,
        started={key for key, state in existing.items() if state != SortieState.PENDING},
        parent=claim.key,
        context=plan_context.current(),
        defaults=decoded(defaults),
        inputs=decoded(inputs),
        priority=priority,
        workspace=workspace,
    )
    folders.check_prompts(specs=specs, folder=folder, workspace=workspace)
    if not can_execute and (code := [spec.key for spec in specs if spec.runs_code]):
        raise PlanError(
            PlanProblem(
                line=None,
                column=None,
                where=f"{ADDED}{claim.key}.{key}",
                path=(f"{ADDED}{claim.key}", key),
                message="It runs code, and the user who launched the mission lacks plan.execute.",
                fix="Add prompts only, or have a user with plan.execute launch the mission.",
            )
            for key in code[:10]
        )
    return specs
