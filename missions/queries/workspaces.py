"""Workspaces, changes and conflicts as the commands, the admin and the API show them (shapes: docs/commands.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from fleet import errors, ids
from fleet.console import invocation
from missions.models import Change, Conflict, Mission, Sortie, Workspace
from missions.states import FINAL_SORTIE_STATES, SortieState


def find(mission: Mission) -> Workspace:
    """The workspace of a mission. Raises NotFound if it has none."""
    workspace = Workspace.objects.filter(mission=mission).first()
    if workspace is None:
        raise errors.NotFound(
            f"{mission.name} has no workspace: its plan names no repository.", hint="See `workspace` in docs/plan.md."
        )
    return workspace


def workspace(mission: Mission) -> dict[str, Any] | None:
    """`{repository, base, base_commit, branch, conflicts, discarded_at}`; None if the mission has no workspace."""
    row = Workspace.objects.filter(mission=mission).first()
    if row is None:
        return None
    return {
        "repository": row.repository,
        "base": row.base,
        "base_commit": row.base_commit,
        "branch": row.branch,
        "conflicts": row.conflicts,
        "discarded_at": row.discarded_at.isoformat() if row.discarded_at else None,
    }


def has_landed(mission: Mission) -> bool:
    """Whether the branch of a mission contains a change of it."""
    if not Workspace.objects.filter(mission=mission, discarded_at=None).exists():
        return False
    return Change.objects.filter(sortie__mission=mission, state=Change.State.LANDED, number_of_files__gt=0).exists()


def newest_change(sortie: UUID) -> Change | None:
    """The newest change of a sortie: the one that has landed, or that is still to be merged."""
    return Change.objects.filter(sortie_id=sortie).order_by("-attempt").first()


def merged_attempt(sortie: Sortie) -> int | None:
    """The earlier attempt whose change the sortie's last attempt has merged, or is merging; None if there is none."""
    change = newest_change(sortie.id)
    if change is None or change.attempt == sortie.attempt:
        return None
    return change.attempt if change.state in (*Change.TO_MERGE, Change.State.LANDED) else None


def change_as_json(change: Change) -> dict[str, Any]:
    return {
        "attempt": change.attempt,
        "state": change.state,
        "commit": change.commit,
        "landed": change.landed if change.state == Change.State.LANDED else "",
        "files": change.number_of_files,
        "lines_added": change.lines_added,
        "lines_removed": change.lines_removed,
        "no_change": change.no_change,
    }


def unmerged_changes(missions: Iterable[UUID]) -> QuerySet[Change]:
    """Accepted work that is not on a branch yet: committed, and waiting for a merge or for a person."""
    return (
        Change.objects.filter(sortie__mission__in=list(missions), state__in=Change.UNMERGED, number_of_files__gt=0)
        .exclude(sortie__state=SortieState.SUCCEEDED)
        .select_related("sortie")
        .order_by("sortie__turn", "sortie", "attempt")
    )


def conflicts_of(mission: Mission) -> QuerySet[Conflict]:
    """The conflicts of a mission's sorties, the newest first."""
    return Conflict.objects.filter(sortie__mission=mission).select_related("sortie").order_by("-created_at", "-id")


def conflict_as_json(row: Conflict) -> dict[str, Any]:
    """`{id, sortie, key, attempt, kind, others, files, onto, text, outcome, by, created_at, closed_at}`"""
    return {
        "id": ids.encode(ids.CONFLICT, row.id),
        "sortie": row.sortie.ref,
        "key": row.sortie.key,
        "attempt": row.attempt,
        "kind": row.kind,
        "others": row.others,
        "files": row.files,
        "onto": row.onto,
        "text": row.text,
        "outcome": row.outcome or "open",
        "by": row.by,
        "created_at": row.created_at.isoformat(),
        "closed_at": row.closed_at.isoformat() if row.closed_at else None,
    }


def waits_for_person(conflict: Conflict) -> bool:
    """Whether a person has yet to resolve the conflict. Nobody has to if its sortie has ended, by a cancellation."""
    is_open = conflict.outcome == Conflict.Outcome.MANUAL and conflict.closed_at is None
    return is_open and conflict.sortie.state not in FINAL_SORTIE_STATES


def conflict_status(conflict: Conflict) -> str:
    """The outcome of a conflict for people: `open`, `waits for a person`, or how it ended."""
    if waits_for_person(conflict):
        return "waits for a person"
    return str(conflict.outcome or "open")


def resolve_command(mission: str, sortie: str) -> str:
    """The command that lets another attempt resolve the conflict of a sortie, by the mission's id and its key."""
    return invocation.command("fleet_mission", "resolve", mission, sortie, "--retry")
