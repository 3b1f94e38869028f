"""Launch: create a mission and its sorties from a plan in one transaction, then send hints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from fleet import audit, errors, ids
from fleet.console import invocation
from fleet.events.models import Event
from missions import folders, hints
from missions.engine.settlement import insertion
from missions.models import Mission, Schedule, Template, Workspace
from missions.operations import permissions
from missions.operations.workspaces import preparing
from missions.plan import Plan, PlanError, PlanProblem, bind, load
from missions.queries import plan_context
from missions.states import MissionState


def plan_for_task(*, agent_type: str, task: str) -> tuple[Plan, str]:
    """A plan with one sortie, for an agent type that takes prompts. Launch it with the parameter `task`.

    The text is an input of the plan, so that nothing in it is read as a template. Raises Invalid if the task is blank or
    too long, or if the type does not exist or takes no prompts.
    """
    if not task.strip():
        raise errors.Invalid("The task is empty.", hint="Say what to do.", pointer="/objective")
    text = json.dumps(
        {
            "mission": " ".join(task.split()).replace("{{", "{ {")[:80],
            "inputs": {"task": {"description": "What to do."}},
            "sorties": {"task": {"agent": agent_type, "prompt": "{{ inputs.task }}"}},
        },
        ensure_ascii=False,
    )
    try:
        return load(text=text, context=plan_context.current()), text
    except PlanError as error:
        raise _task_error(error.problems[0], agent_type) from None


def _task_error(problem: PlanProblem, agent_type: str) -> errors.Invalid:
    """The error of a task for a problem of its plan, which the caller did not write and does not see."""
    if problem.where == "sorties.task.prompt":
        example = invocation.command("fleet_agents", "type", "set", agent_type, "--prompt-argv", '["claude", "-p"]')
        return errors.Invalid(
            f"The agent type {agent_type!r} takes no prompts.",
            hint=f"Set the command that reads them, for example: {example}",
            over_http="Choose one with `takes_prompt` from GET /api/v1/agent-types, or have an admin set the "
            f"command that reads them: `prompt_argv` in PATCH /api/v1/agent-types/{agent_type}.",
            pointer="/agent",
        )
    pointer = "/agent" if problem.where.startswith("sorties") else "/objective"
    return errors.Invalid(problem.message, hint=problem.fix, pointer=pointer)


def launch(
    *,
    plan: Plan,
    text: str,
    params: Mapping[str, Any],
    folder: str,
    by: User | None,
    team: Group | None = None,
    can_execute: bool,
    template: str = "",
    operator: bool = False,
    start: bool = True,
) -> Mission:
    """Create a mission and start it, unless `start` is false: then `resume` starts it later.

    Arguments and errors as for `prepare`.
    """
    return create(
        prepare(
            plan=plan,
            text=text,
            params=params,
            folder=folder,
            by=by,
            team=team,
            can_execute=can_execute,
            template=template,
            operator=operator,
        ),
        start=start,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A checked launch, from which `create` makes a mission."""

    plan: Plan
    text: str
    inputs: Mapping[str, Any]
    folder: str
    readable: list[str]
    workspace: Workspace | None
    by: User | None
    team: Group | None
    can_execute: bool
    template: str


def prepare(
    *,
    plan: Plan,
    text: str,
    params: Mapping[str, Any],
    folder: str,
    by: User | None,
    team: Group | None,
    can_execute: bool,
    template: str,
    operator: bool,
    attended: bool = True,
) -> Launch:
    """Check a launch without creating anything. It may take seconds, because the repository may be on a server.

    `text` is the plan as written, kept for the record. Relative paths start from `folder`. `template` is the name of
    the template that the plan comes from, if any. `operator`: the host's operator launches it and may name any path
    under `readable`; `attended`: the launcher is present, so links in these paths are followed. `can_execute`: the
    launcher may run code (`plan.execute`), and so may sorties that its agents add later. A template's agents may always
    add code.

    Raises Forbidden if the plan runs code and the launcher may not; Invalid for a prompt without a folder (see
    `folders.check_prompts`) or a workspace that cannot be used (`preparing.prepare`); PlanError if `params` do not
    match the plan's inputs.
    """
    if not template:
        permissions.require_for_plan(plan=plan, can_execute=can_execute)
    inputs = bind(plan=plan, params=params)
    own_folder = bool(template and folder) and Template.objects.filter(name=template, folder=folder).exists()
    readable = folders.readable_paths(
        plan=plan,
        inputs=inputs,
        folder=folder,
        operator=operator,
        template=bool(template),
        own_folder=own_folder,
        attended=attended,
    )
    workspace = preparing.prepare(
        plan=plan,
        inputs=inputs,
        folder=folder,
        by=by,
        operator=operator,
        template=bool(template),
        own_folder=own_folder,
    )
    folders.check_prompts(specs=plan.sorties, folder=folder, workspace=workspace is not None)
    return Launch(
        plan=plan,
        text=text,
        inputs=inputs,
        folder=folder,
        readable=readable,
        workspace=workspace,
        by=by,
        team=team,
        can_execute=can_execute or bool(template),
        template=template,
    )


def create(launch: Launch, *, start: bool = True, schedule: Schedule | None = None) -> Mission:
    """Create the mission of a launch, with its sorties, in one transaction. `schedule`: the one that launches it."""
    plan, by, team = launch.plan, launch.by, launch.team
    state = MissionState.RUNNING if start else MissionState.PLANNED
    schedule_data = {"schedule": schedule.ref} if schedule is not None else {}
    with transaction.atomic(), connection.cursor() as cursor:
        turn, now = fair_turn(cursor)
        mission = Mission.objects.create(
            id=ids.new(),
            name=plan.name[:200],
            objective=plan.objective,
            state=state,
            priority=plan.priority,
            stop_on_failure=plan.on_failure == "stop",
            max_running=plan.max_running,
            inputs=launch.inputs,
            defaults=dict(plan.defaults),
            checkpoints=dict(plan.checkpoints),
            folder=launch.folder,
            readable=launch.readable,
            plan=launch.text,
            created_by=by,
            team=team,
            can_execute=launch.can_execute,
            template=launch.template,
            schedule=schedule,
            created_at=now,
        )
        Event.objects.create(
            kind=f"mission.{state}",
            scope=mission.id,
            subject=mission.id,
            data={
                "name": mission.name,
                "sorties": len(plan.sorties),
                "by": str(by) if by else None,
                **schedule_data,
            },
        )
        audit.record(
            kind="mission.launch" if start else "mission.create",
            subject=mission.ref,
            after={
                "name": mission.name,
                "sorties": len(plan.sorties),
                "team": team.name if team else None,
                "template": launch.template or None,
                **schedule_data,
            },
        )
        if launch.workspace is not None:
            preparing.save(workspace=launch.workspace, mission=mission)
        queued_sorties: dict[str, list[UUID]] = {}
        queued = insertion.insert(
            cursor.cursor,
            mission=mission.id,
            state=state,
            specs=plan.sorties,
            turn=turn,
            queued_sorties=queued_sorties,
        )
        if launch.workspace is not None:
            preparing.record_predicted_conflicts(mission=mission.id, specs=plan.sorties)
    transaction.on_commit(lambda: hints.send(queued, queued_sorties))
    return mission


def fair_turn(cursor: Any) -> tuple[int, datetime]:
    """The new mission's place in the fair order, and the time.

    It starts at the place of the first sortie that is running or queued now, so that it neither waits for all of a long
    mission nor overtakes it (start-time fair queueing: Goyal, Vin and Cheng, 1996).
    """
    cursor.execute(
        "SELECT coalesce((SELECT min(turn) FROM missions_sortie WHERE state = 'running'),"
        " (SELECT min(turn) FROM missions_sortie WHERE state = 'queued'), 0), statement_timestamp()"
    )
    turn, now = cursor.fetchone()
    return int(turn), now
