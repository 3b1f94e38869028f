"""Missions as the commands, the admin and the API show them. docs/commands.md documents the shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connection

from fleet import ids
from fleet.postgres import clock, statements
from missions.models import Mission, Sortie
from missions.queries import sortie_json
from missions.states import MissionState, SortieState

STATES = tuple(state.value for state in SortieState)
# The fields that `summary` reads.
SUMMARY_FIELDS = ("name", "objective", "state", "reason", "origin", "schedule", "created_at", "finished_at")


def counts(missions: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    """How many sorties of each mission are in each state, in one query."""
    counted: dict[UUID, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.queries", "counts"), {"missions": list(missions)})
        for mission, state, number in cursor.fetchall():
            counted.setdefault(mission, {})[state] = number
    return counted


def summary(mission: Mission, counted: dict[str, int] | None = None) -> dict[str, Any]:
    """`{id, name, state, sorties: {total, succeeded, …}, elapsed_s, …}`."""
    by_state = counts([mission.id]).get(mission.id, {}) if counted is None else counted
    return {
        "id": mission.ref,
        "name": mission.name,
        "objective": mission.objective,
        "state": mission.state,
        "reason": mission.reason,
        "origin": mission.origin,
        "schedule": ids.encode(ids.SCHEDULE, mission.schedule_id) if mission.schedule_id else None,
        "sorties": {
            "total": sum(by_state.values()),
            **{state: by_state.get(state, 0) for state in STATES},
        },
        "created_at": mission.created_at.isoformat(),
        "finished_at": mission.finished_at.isoformat() if mission.finished_at else None,
        "elapsed_s": round(((mission.finished_at or clock.now()) - mission.created_at).total_seconds(), 3),
    }


def progress(mission: Mission) -> dict[str, Any]:
    """`{id, state, fraction, percent, sorties, running}`

    `fraction` is the share of sorties that have ended. Running ones count with the progress that they report.
    """
    counted = counts([mission.id]).get(mission.id, {})
    total = sum(counted.values())
    ended = sum(number for state, number in counted.items() if SortieState(state).final)
    running: list[dict[str, Any]] = []
    if counted.get(SortieState.RUNNING):
        running += sortie_json.of_mission(mission, states=[SortieState.RUNNING], limit=sortie_json.PAGE, results=False)
    completed_work = ended + sum(sortie["progress"] or 0.0 for sortie in running)
    fraction = round(completed_work / total, 4) if total else float(MissionState(mission.state).final)
    return {
        "id": mission.ref,
        "state": mission.state,
        "fraction": fraction,
        "percent": round(100 * fraction, 2),
        "sorties": summary(mission, counted)["sorties"],
        "running": running,
    }


def tolerated_failures(mission: Mission) -> int:
    """How many failures of a mission's sorties are tolerated (`allow_failure`)."""
    return Sortie.objects.filter(mission=mission, state=SortieState.FAILED, allow_failure=True).count()
