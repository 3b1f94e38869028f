"""Check the sorties that a running attempt asks to add, by the rules of a plan and those of added code.

An attempt may add code for its own agent type, for types that may access no more than its own (network, `readable`,
variables of the host), and for types that the mission's plan names, because its launcher chose those. Otherwise work
could escape the limits of its type by adding a sortie of another type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection

from agents.models import AgentType
from missions import folders
from missions.claims import Claim
from missions.engine.attempts.context import decode_json
from missions.plan import Json, PlanError, PlanProblem, SortieSpec, load_added
from missions.plan.problems import ADDED
from missions.queries import plan_context
from missions.states import SortieState

MAX_PROBLEMS = 10


def check(*, claim: Claim, items: Sequence[Json], edits_templates: bool = True) -> tuple[SortieSpec, ...]:
    """The sorties to add. Raises PlanError if they are invalid, or run code that may not be added.

    `edits_templates`: whether code may be added to a mission of a template. Its own agents may do that; an external
    agent may if its user may edit templates.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, state FROM missions_sortie WHERE mission_id = %s", [claim.mission])
        existing = dict(cursor.fetchall())
        cursor.execute(
            "SELECT m.defaults, m.inputs, m.can_execute, m.template, m.folder, m.readable, s.priority, s.agent_type_id,"
            " w.mission_id IS NOT NULL"
            " FROM missions_sortie s JOIN missions_mission m ON m.id = s.mission_id"
            " LEFT JOIN missions_workspace w ON w.mission_id = m.id WHERE s.id = %s",
            [claim.id],
        )
        defaults, inputs, can_execute, template, folder, readable, priority, agent_type, workspace = cursor.fetchone()
    specs = load_added(
        items=items,
        existing=existing,
        started={key for key, state in existing.items() if state != SortieState.PENDING},
        parent=claim.key,
        context=plan_context.current(),
        defaults=decode_json(defaults),
        inputs=decode_json(inputs),
        priority=priority,
        workspace=workspace,
    )
    folders.check_prompts(specs=specs, folder=folder, workspace=workspace)
    code = [spec for spec in specs if spec.runs_code]
    if code and not can_execute:
        raise _refusal(
            claim,
            code,
            message="It runs code, and the user who launched the mission lacks plan.execute.",
            fix="Add prompts only, or have a user with plan.execute launch the mission.",
        )
    if code and template and not edits_templates:
        raise _refusal(
            claim,
            code,
            message=f"It runs code, and the mission comes from the template {template}, which you may not edit.",
            fix="Add prompts only.",
        )
    wider = set(
        _wider_types(
            {spec.agent_type for spec in code} - {agent_type},
            than=agent_type,
            mission=claim.mission,
            readable=decode_json(readable),
        )
    )
    if forbidden := [spec for spec in code if spec.agent_type in wider]:
        raise _refusal(
            claim,
            forbidden,
            message=f"It runs code as an agent type that may access more than {agent_type}, the type that adds it.",
            fix=f"Use {agent_type} or a type with no more network, `readable` and variables, or name the type in the plan.",
        )
    return specs


def _refusal(claim: Claim, specs: Sequence[SortieSpec], *, message: str, fix: str) -> PlanError:
    return PlanError(
        PlanProblem(
            line=None,
            column=None,
            where=f"{ADDED}{claim.key}.{spec.key}",
            path=(f"{ADDED}{claim.key}", spec.key),
            message=message,
            fix=fix,
        )
        for spec in specs[:MAX_PROBLEMS]
    )


def _wider_types(names: Collection[str], *, than: str, mission: UUID, readable: Sequence[str]) -> Iterator[str]:
    """Those of these agent types that the mission's plan does not name and that may access more than the type `than`.

    `readable`: what all sorties of the mission may read.
    """
    if not names:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT agent_type_id FROM missions_sortie"
            " WHERE mission_id = %s AND added_by_id IS NULL AND agent_type_id = ANY (%s)",
            [mission, list(names)],
        )
        planned = {name for (name,) in cursor.fetchall()}
    if not (unplanned := set(names) - planned):
        return
    types = {type.name: type for type in AgentType.objects.filter(name__in=[*unplanned, than])}
    own = types[than]
    variables = {*own.env_allow, *own.env_secret, *settings.FLEET_ENV_ALLOW}
    paths = [Path(path) for path in (*own.readable, *readable)]
    for name in sorted(unplanned):
        other = types[name]
        if (
            (other.network and not own.network)
            or {*other.env_allow, *other.env_secret} - variables
            or not all(any(Path(path).is_relative_to(parent) for parent in paths) for path in other.readable)
        ):
            yield name
