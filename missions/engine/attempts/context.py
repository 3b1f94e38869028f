"""What an attempt gets from its mission, its needs and earlier attempts, and the scope of its templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from agents.drivers.base import Needs
from fleet import errors, ids
from fleet.postgres import statements
from missions.claims import Claim
from missions.plan import SortieSpec, templates


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What an attempt gets from its mission, its needs and earlier attempts."""

    mission: str
    folder: str
    readable: tuple[str, ...]
    inputs: Mapping[str, Any]
    results: Needs
    states: Mapping[str, str]
    has_workspace: bool = False
    resume: Any = None  # the newest value to resume from that an earlier attempt saved


def read(*, claim: Claim, spec: SortieSpec) -> AttemptContext:
    """The attempt's context, from the database. Raises Invalid if the results of its needs exceed FLEET_NEEDS_BYTES."""
    # Such a sortie uses none of this, and the queries would dominate its cost.
    if spec.driver == "scripted" and not spec.arguments:
        return AttemptContext(mission="", folder="", readable=(), inputs={}, results=Needs({}), states={})
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, folder, readable, inputs, w.mission_id IS NOT NULL"
            " FROM missions_mission m LEFT JOIN missions_workspace w ON w.mission_id = m.id WHERE m.id = %s",
            [claim.mission],
        )
        name, folder, readable, inputs, has_workspace = cursor.fetchone()
        max_bytes = settings.FLEET_NEEDS_BYTES
        cursor.execute(
            statements.read("missions.engine.attempts", "needs_of_sortie"), {"sortie": claim.id, "max_bytes": max_bytes}
        )
        rows = cursor.fetchall()
        resume = _earlier_resume(cursor, claim) if claim.attempt > 1 else None
    if rows and (total := rows[0][3]) > max_bytes:
        raise errors.Invalid(
            f"The results of its needs have {total:,} bytes in total; the limit is {max_bytes:,} (FLEET_NEEDS_BYTES).",
            hint="Add sorties in between that summarize them, or pass large data as files.",
        )
    return AttemptContext(
        mission=name,
        folder=folder,
        readable=tuple(decode_json(readable)),
        inputs=decode_json(inputs),
        results=_by_need(spec, {key: result or "null" for key, _, result, _ in rows}),
        states={key: state for key, state, _, _ in rows},
        has_workspace=has_workspace,
        resume=resume,
    )


def _earlier_resume(cursor: Any, claim: Claim) -> Any:
    cursor.execute(
        statements.read("missions.engine.attempts", "earlier_resume"), {"sortie": claim.id, "attempt": claim.attempt}
    )
    row = cursor.fetchone()
    return None if row is None else json.loads(row[0])


def scope(*, claim: Claim, spec: SortieSpec, context: AttemptContext) -> templates.ReferenceScope:
    """What the sortie's templates may refer to."""
    return templates.ReferenceScope(
        needs=context.results,
        inputs=context.inputs,
        matrix=spec.matrix,
        mission={"id": ids.encode(ids.MISSION, claim.mission), "name": context.mission},
        sortie={"id": ids.encode(ids.SORTIE, claim.id), "key": claim.key, "attempt": claim.attempt},
    )


def render_values(values: Mapping[str, Any], scope: templates.ReferenceScope) -> dict[str, Any]:
    """The values with their references replaced."""
    return {name: templates.render(value=value, scope=scope) for name, value in values.items()}


def render_variables(env: Mapping[str, str], scope: templates.ReferenceScope) -> dict[str, str]:
    """Environment variables with the references in their values replaced."""
    return {name: templates.render_text(text=value, scope=scope) for name, value in env.items()}


def decode_json(value: Any) -> Any:
    """A JSON column as data: Django's connections return it as text, psycopg's own as data."""
    return json.loads(value) if isinstance(value, str) else value


def _by_need(spec: SortieSpec, results: Mapping[str, str]) -> Needs:
    """Results by the names that the plan gives the needs; the results of a matrix are a list.

    Needs added at run time (`before`) are listed under the name before their bracket. Results stay JSON text (see
    `Needs`).
    """
    by_name: dict[str, str | list[str]] = {
        need: [results.get(key, "null") for key in keys] if need in spec.matrix_needs else results.get(keys[0], "null")
        for need, keys in spec.groups.items()
    }
    planned = set(spec.needs)
    for key, result in results.items():
        if key not in planned:
            name = key.partition("[")[0]
            if name == key:
                by_name[name] = result
            elif isinstance(group := by_name.setdefault(name, []), list):
                group.append(result)
    return Needs(by_name)
