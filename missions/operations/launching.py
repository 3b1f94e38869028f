"""From a plan to rows: a mission and its sorties, all in one transaction, then hints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection, transaction

from fleet import ids
from fleet.events.models import Event
from missions import hints, insertion
from missions.models import Mission
from missions.plan import Plan, bind
from missions.states import MissionState


def launch(
    *,
    plan: Plan,
    text: str,
    params: Mapping[str, Any],
    folder: str,
    by: User | None,
) -> Mission:
    """Create a mission and start it. PlanError where `params` do not fit the plan's inputs; nothing is created then.

    `text` is the plan as it was written, kept for the record; `folder` is where relative paths start from.
    """
    return _create(plan=plan, text=text, params=params, folder=folder, by=by, state=MissionState.RUNNING)


def create(*, plan: Plan, text: str, params: Mapping[str, Any], folder: str, by: User | None) -> Mission:
    """Create a mission that `resume` starts."""
    return _create(plan=plan, text=text, params=params, folder=folder, by=by, state=MissionState.PLANNED)


def _create(
    *,
    plan: Plan,
    text: str,
    params: Mapping[str, Any],
    folder: str,
    by: User | None,
    state: MissionState,
) -> Mission:
    inputs = bind(plan=plan, given=params)
    with transaction.atomic(), connection.cursor() as cursor:
        turn, now = _turn(cursor)
        mission = Mission.objects.create(
            id=ids.new(),
            name=plan.name[:200],
            objective=plan.objective,
            state=state,
            priority=plan.priority,
            stop_on_failure=plan.on_failure == "stop",
            at_once=plan.at_once,
            inputs=inputs,
            defaults=dict(plan.defaults),
            folder=folder,
            plan=text,
            created_by=by,
            created_at=now,
        )
        Event.objects.create(
            kind=f"mission.{state}",
            scope=mission.id,
            subject=mission.id,
            data={"name": mission.name, "sorties": len(plan.sorties), "by": str(by) if by else None},
        )
        named: dict[str, list[UUID]] = {}
        queued = insertion.insert(
            cursor.cursor, mission=mission.id, state=state, specs=plan.sorties, turn=turn, named=named
        )
    hints.ring(queued, named)
    return mission


def _turn(cursor: Any) -> tuple[int, datetime]:
    """Where a new mission joins the fair order: beside what is flown or queued first now, so that it neither waits for
    all of a long mission nor overtakes it (start-time fair queueing, Goyal, Vin and Cheng, 1996). And the time."""
    cursor.execute(
        "SELECT coalesce((SELECT min(turn) FROM missions_sortie WHERE state = 'running'),"
        " (SELECT min(turn) FROM missions_sortie WHERE state = 'queued'), 0), statement_timestamp()"
    )
    turn, now = cursor.fetchone()
    return int(turn), now
