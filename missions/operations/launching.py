"""From a plan to rows: a mission and its sorties, all in one transaction, then hints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from fleet import audit, errors, ids
from fleet.events.models import Event
from missions import folders, hints
from missions.engine import insertion
from missions.models import Mission
from missions.operations import rights
from missions.plan import Plan, bind, load
from missions.queries import surroundings
from missions.states import MissionState


def task(*, agent_type: str, task: str) -> tuple[Plan, str]:
    """A plan of one sortie for a type that takes prompts, to be launched with `task` as its parameter of that name: an
    input, so that nothing in it is taken for a template. Invalid where the task is blank, PlanError where the type takes no
    prompts."""
    if not task.strip():
        raise errors.Invalid("The task is empty.", hint="Say what to do.", pointer="/objective")
    text = json.dumps(
        {
            "mission": " ".join(task.split()).replace("{{", "{ {")[:80],
            "inputs": {"task": {"description": "What is to be done."}},
            "sorties": {"task": {"agent": agent_type, "prompt": "{{ inputs.task }}"}},
        },
        ensure_ascii=False,
    )
    return load(text=text, surroundings=surroundings.current()), text


def launch(
    *,
    plan: Plan,
    text: str,
    params: Mapping[str, Any],
    folder: str,
    by: User | None,
    team: Group | None = None,
    executes: bool,
    template: str = "",
    operator: bool = False,
    start: bool = True,
) -> Mission:
    """Create a mission and start it, or leave that to `resume`. Forbidden where the plan runs code and who launches it may not;
    Invalid for a prompt without a folder;
    PlanError where `params` do not fit the plan's inputs. Nothing is created then.

    `text` is the plan as it was written, kept for the record; `folder` is where relative paths start from; `template` names
    the operators' template that it is, if it is one; `operator` says that the host's operator launches it, who may name any
    path under `readable`; `executes` says whether who launches it may run code (plan.execute), and
    so whether sorties that its agents add later may. Those of a template may: what operators wrote may add what it likes.
    """
    if not template:
        rights.ask_for_plan(plan=plan, executes=executes)
    inputs = bind(plan=plan, given=params)
    readable = folders.readable(plan=plan, inputs=inputs, folder=folder, operator=operator, template=bool(template))
    folders.check_prompts(specs=plan.sorties, folder=folder)
    state = MissionState.RUNNING if start else MissionState.PLANNED
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
            readable=readable,
            plan=text,
            created_by=by,
            team=team,
            executes=executes or bool(template),
            template=template,
            created_at=now,
        )
        Event.objects.create(
            kind=f"mission.{state}",
            scope=mission.id,
            subject=mission.id,
            data={"name": mission.name, "sorties": len(plan.sorties), "by": str(by) if by else None},
        )
        audit.record(
            kind="mission.launch" if start else "mission.create",
            subject=mission.ref,
            after={
                "name": mission.name,
                "sorties": len(plan.sorties),
                "team": team.name if team else None,
                "template": template or None,
            },
        )
        named: dict[str, list[UUID]] = {}
        queued = insertion.insert(
            cursor.cursor, mission=mission.id, state=state, specs=plan.sorties, turn=turn, named=named
        )
    transaction.on_commit(lambda: hints.ring(queued, named))
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
