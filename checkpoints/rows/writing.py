"""Write a saved mission and its sorties to the database, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from fleet import errors
from fleet.postgres import statements
from missions.engine.settlement import insertion

EARLIER_ATTEMPT = "its earlier attempt to end"


@dataclass(frozen=True, slots=True, kw_only=True)
class SortieTarget:
    """A sortie to write: its two lines, and the row that gets them."""

    sortie: UUID
    created: bool  # whether the row has to be created
    wait_until: datetime | None
    state: str
    kept: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # parts of the state that a fork replaces


class TargetTable:
    """The temporary table of the sorties to write. It lasts until the transaction ends, and filling it locks no row."""

    def __init__(self, targets: Sequence[SortieTarget]) -> None:
        self._targets: dict[UUID, SortieTarget] = {}
        with connection.cursor() as cursor:
            cursor.execute(_statement("target_table"))
        self.replace(targets)

    def replace(self, targets: Sequence[SortieTarget]) -> None:
        """Make the table contain exactly these targets. Those that it contains already are not written again."""
        by_sortie = {target.sortie: target for target in targets}
        removed = [id for id, target in self._targets.items() if by_sortie.get(id) != target]
        added = [target for id, target in by_sortie.items() if self._targets.get(id) != target]
        with connection.cursor() as cursor:
            if removed:
                cursor.execute("DELETE FROM checkpoint_target WHERE sortie = ANY (%s)", [removed])
            with cursor.copy(
                "COPY checkpoint_target (sortie, created, wait_until, state, kept, changes) FROM STDIN"
            ) as copy:
                for target in added:
                    changes = json.dumps(target.changes) if target.changes else "{}"
                    copy.write_row(
                        (target.sortie, target.created, target.wait_until, target.state, target.kept, changes)
                    )
            # Only the columns that conditions use; the others are large.
            cursor.execute("ANALYZE checkpoint_target (sortie, created)")
        self._targets = by_sortie

    @property
    def has_changes(self) -> bool:
        return any(target.changes for target in self._targets.values())


def put_back(*, mission: UUID, targets: TargetTable, origin: int, checkpoint: str, resume_data: bool = False) -> None:
    """Change or create these sorties, with their needs, outcomes and events, and recount the mission's unmet needs.

    The limits of their concurrency keys apply, unless lower ones do.
    `origin` is the turn of the mission's first sortie. `resume_data`: also restore the data that drivers saved to resume
    from. Raises Conflict if an agent type is missing.
    """
    parameters: dict[str, Any] = {
        "mission": mission,
        "origin": origin,
        "checkpoint": checkpoint,
        "waits_for": EARLIER_ATTEMPT,
        "resume_data": resume_data,
    }
    with connection.cursor() as cursor:
        if targets.has_changes:
            cursor.execute("UPDATE checkpoint_target SET state = state || changes WHERE changes <> '{}'")
        cursor.execute(_statement("missing_types"))
        if missing := [name for (name,) in cursor.fetchall()]:
            raise errors.Conflict(
                f"This fleet has no agent type {', '.join(missing)}, which the checkpoint needs.",
                hint="Create it in the admin, under Agent types, then try again.",
            )
        cursor.execute(_statement("put_back"), parameters)
        if resume_data:
            cursor.execute(_statement("resume"))
        cursor.execute(_statement("needs"), parameters)
        cursor.execute(_statement("recount"), parameters)
        insertion.apply_limits(cursor.cursor, mission=mission)


def drop(*, sorties: Sequence[UUID], checkpoint: str) -> None:
    """Delete sorties and everything that belongs to them."""
    with connection.cursor() as cursor:
        cursor.execute(_statement("drop"), {"sorties": list(sorties), "checkpoint": checkpoint})


def create_mission(
    *,
    mission: UUID,
    mission_lines: str,
    checkpoint: str,
    state_if_live: str,
    is_same_mission: bool = False,
    can_execute: bool,
    template: str = "",
    name: str | None = None,
    origin: str = "",
    reason: str = "",
    owner: int | None,
    team: int | None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Create a mission from its two saved lines.

    `state_if_live` is the state of the new mission if the saved one was live. `is_same_mission`: it is the saved mission
    itself and not a copy, so it keeps its time of creation. `changes` replace parts of the saved state.
    """
    state, kept = mission_lines.split("\n")[:2]
    with connection.cursor() as cursor:
        create_concurrency_keys(mission_lines)
        cursor.execute(
            _statement("create_mission"),
            {
                "mission": mission,
                "state": state,
                "kept": kept,
                "changes": json.dumps(changes or {}),
                "state_if_live": state_if_live,
                "is_same_mission": is_same_mission,
                "can_execute": can_execute,
                "template": template,
                "name": name,
                "origin": origin,
                "reason": reason,
                "owner": owner,
                "team": team,
                "checkpoint": checkpoint,
            },
        )


def create_concurrency_keys(mission_lines: str) -> None:
    """Create the concurrency keys of a saved mission that do not exist; existing ones keep their limits."""
    keys = json.loads(mission_lines.split("\n")[1])["concurrency_keys"]
    with connection.cursor() as cursor:
        cursor.execute(_statement("concurrency_keys"), {"keys": json.dumps(keys)})


def _statement(name: str) -> str:
    return statements.read("checkpoints.rows", name)
