"""Remove the branch, the commits and the copies of a mission from the fleet's folder."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from fleet import audit, errors, ids
from fleet.events.models import Event
from missions import removal
from missions.models import Change, Conflict, Mission, Sortie, Workspace
from missions.operations.workspaces import unmerged
from missions.operations.workspaces.unmerged import Unmerged
from missions.queries import workspaces
from missions.states import FINAL_MISSION_STATES, MissionState
from missions.workspaces import copies
from missions.workspaces.repositories import mirrors


def discard(*, mission: UUID) -> Unmerged:
    """Remove the work of a mission that has ended; returns what was not merged.

    The mission cannot be retried afterwards. Raises Conflict while the mission has not ended. If it is interrupted,
    call it again.
    """
    row = Mission.objects.defer("plan").get(id=mission)
    workspace = require_discardable(row)
    unmerged_work = unmerged.of_mission(mission)
    with transaction.atomic():
        locked = Mission.objects.select_for_update(of=("self",)).defer("plan").get(id=mission)
        _require_ended(locked)
        if _mark_discarded(workspace):
            facts = {
                "branch": workspace.branch,
                "commits": len(unmerged_work.commits),
                "changes": len(unmerged_work.changes),
            }
            audit.record(kind="mission.discard", subject=row.ref, before=unmerged_work.as_json(), after=facts)
            Event.objects.create(kind="mission.discarded", scope=mission, subject=mission, data=facts)
    _remove(workspace)
    return unmerged_work


def remove_merged_work(*, missions: Sequence[UUID]) -> list[UUID]:
    """Remove the merged work of these missions, before their rows are removed.

    Returns those whose rows may be removed: they have ended and have no unmerged work.
    """
    ended = set(Mission.objects.filter(id__in=missions, state__in=FINAL_MISSION_STATES).values_list("id", flat=True))
    with_workspace = {row.mission_id: row for row in Workspace.objects.filter(mission__in=ended)}
    removable = []
    for mission in missions:
        workspace = with_workspace.get(mission)
        if mission not in ended or (workspace is not None and unmerged.of_mission(mission)):
            continue
        if workspace is not None:
            with transaction.atomic():
                locked = Mission.objects.select_for_update(of=("self",)).defer("plan").get(id=mission)
                if not MissionState(locked.state).final:  # it was just retried
                    continue
                _mark_discarded(workspace)
            _remove(workspace)
        removable.append(mission)
    return removable


def require_discardable(row: Mission) -> Workspace:
    """The workspace of an ended mission. Raises NotFound if it has none; Conflict if it has not ended."""
    workspace = workspaces.find(row)
    _require_ended(row)
    return workspace


def is_shared(workspace: Workspace) -> bool:
    """Whether another mission uses the branch, which is then kept."""
    others = Workspace.objects.filter(repository=workspace.repository, branch=workspace.branch, discarded_at=None)
    return others.exclude(mission=workspace.mission_id).exists()


def _require_ended(row: Mission) -> None:
    if not MissionState(row.state).final:
        raise errors.Conflict(
            f"The mission is {row.state}; its work can be discarded once it has ended.", hint="Cancel it first."
        )


def _mark_discarded(workspace: Workspace) -> bool:
    """Record that the work is discarded, so that no retry is possible. Returns False if it already was."""
    changes = Change.objects.filter(sortie__mission=workspace.mission_id)
    changes.exclude(state__in=(Change.State.LANDED, Change.State.KEPT)).update(state=Change.State.KEPT)
    Conflict.objects.filter(sortie__mission=workspace.mission_id, closed_at=None).update(
        outcome=Conflict.Outcome.DROPPED, closed_at=Now()
    )
    return bool(Workspace.objects.filter(mission=workspace.mission_id, discarded_at=None).update(discarded_at=Now()))


def _remove(workspace: Workspace) -> None:
    mirror = mirrors.of(workspace.repository)
    sorties = list(Sortie.objects.filter(mission=workspace.mission_id, attempt__gt=0).values_list("id", flat=True))
    for sortie in sorties:
        for folder in copies.set_aside(copies.of(sortie=sortie, mirror=mirror)):
            removal.remove(folder)
    mirrors.remove_work(
        mirror,
        branches=() if is_shared(workspace) else (workspace.branch,),
        sorties={ids.encode(ids.SORTIE, sortie) for sortie in sorties},
        missions={ids.encode(ids.MISSION, workspace.mission_id)},
    )


def require_not_discarded(mission: UUID) -> None:
    """Raise Conflict if the work of the mission was discarded: later sorties would lack the changes of earlier ones."""
    if Workspace.objects.filter(mission=mission, discarded_at__isnull=False).exists():
        raise errors.Conflict("The work of this mission has been discarded.", hint="Launch it again.")
