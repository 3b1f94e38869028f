"""Restore: return a mission to the state in a checkpoint, in one transaction that checks its own result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from psycopg.errors import DeadlockDetected

from checkpoints.files import loading
from checkpoints.files.loading import SavedMission
from checkpoints.models import Checkpoint
from checkpoints.operations import capturing, planning
from checkpoints.recovery.sorties import continues_from
from checkpoints.rows import reading, workspaces, writing
from checkpoints.rows.reading import CurrentMission
from checkpoints.rows.writing import SortieTarget
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import clock, locks, statements
from fleet.postgres.locks import Lock
from missions.models import Mission
from missions.operations import launching, permissions
from missions.queries import counters
from missions.states import MissionState
from missions.workspaces import moving

TRIES = 3  # a restore can deadlock with agents that settle


class NotExact(errors.Conflict):
    """The restored rows differ from the checkpoint, so nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionRestoreResult:
    """What a restore did. `safety` has the state that it replaced; None if the mission's rows were gone.

    `replaced` is the ref in the mirror that keeps the workspace's branch as it was before; "" without a workspace.
    `moved` is false if the branch could not be moved yet: the control loop will do it before anything starts.
    """

    mission: Mission
    safety: Checkpoint | None
    replaced: str = ""
    moved: bool = True


def restore(
    *,
    checkpoint: Checkpoint,
    mission: UUID | None = None,
    can_execute: bool,
    force: bool = False,
    plan: str = "",
    by: User | None = None,
) -> MissionRestoreResult:
    """Return a mission to its state in the checkpoint. It is paused afterwards, or ended if it had ended.

    Running sorties are taken from their agents and start again only when none of their processes is left. Sorties
    added since then are removed. The replaced state is captured first.

    Raises CheckpointDamaged if a file of the checkpoint is missing or was changed; Conflict if the recovery plan has a
    high risk and `force` is not set, has a blocking one, or is not the one with the digest `plan`; Forbidden if the
    caller may not start its code. In all these cases nothing has changed.
    """
    with locks.session(Lock.CHECKPOINTS, shared=True):
        saved = loading.load_intact(checkpoint, mission)
        if not Mission.objects.filter(id=saved.id).exists():
            replaced = _recreate(checkpoint, saved, can_execute=can_execute, force=force, plan=plan)
            return _restore_result(saved, safety=None, replaced=replaced)
        permissions.require_for_mission(mission=saved.id, can_execute=can_execute)
        with reading.snapshot() as snapshot:
            current = reading.mission(saved.id)
        planning.require_acceptable(planning.plan_for(checkpoint, saved, current), force=force, digest=plan)
        capturing.store_blobs(current)  # most of the safety checkpoint is on the disk before any row is locked
        parent = capturing.newest(saved.id)
        safety_id = capturing.next_id([parent])
        previous = _PreviousState(
            mission=current,
            parent=parent,
            snapshot=snapshot,
            safety=safety_id,
            uncommitted=capturing.read_uncommitted(current, checkpoint=safety_id, deadline=capturing.work_deadline()),
        )
        for attempt in range(TRIES):
            try:
                with transaction.atomic(durable=True):
                    safety = _restore(checkpoint, saved, previous, by)
                break
            except OperationalError as error:
                if not isinstance(error.__cause__, DeadlockDetected) or attempt == TRIES - 1:
                    raise
        return _restore_result(saved, safety=safety, replaced=_replaced_ref(saved, safety.ref, saved.entry.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PreviousState:
    """The mission as it was read in `snapshot`, and its uncommitted work, which the safety checkpoint refers to."""

    mission: CurrentMission
    parent: Checkpoint | None
    snapshot: str
    safety: UUID
    uncommitted: Mapping[str, Mapping[str, Any]]


def _restore_result(saved: SavedMission, *, safety: Checkpoint | None, replaced: str) -> MissionRestoreResult:
    """Move the branch as the committed transaction recorded it. If this process is killed, the control loop does it."""
    moved = not replaced or workspaces.complete(saved.id)
    return MissionRestoreResult(mission=Mission.objects.get(id=saved.id), safety=safety, replaced=replaced, moved=moved)


def _replaced_ref(saved: SavedMission, checkpoint: str, name: str) -> str:
    """The ref of the checkpoint that keeps the branch as it was before the restore; "" without a workspace."""
    return moving.checkpoint_ref(checkpoint, f"replaced/{name}") if saved.has_workspace else ""


def _restore(checkpoint: Checkpoint, saved: SavedMission, previous: _PreviousState, by: User | None) -> Checkpoint:
    """Restore in the caller's transaction."""
    expected, _ = _differences(saved, previous.mission, {})
    table = writing.TargetTable(expected)  # before any row is locked, because it takes time
    row = Mission.objects.select_for_update().get(id=saved.id)
    if row.state == MissionState.CANCELLING:
        raise errors.Conflict("The mission is being cancelled.", hint="Wait until it is cancelled, then restore it.")
    parameters: dict[str, Any] = {"mission": saved.id, "checkpoint": checkpoint.ref}
    with connection.cursor() as cursor:
        cursor.execute(statements.read("checkpoints.operations", "lock"), parameters)
        current = reading.refresh(previous.mission, since=previous.snapshot)
        current.add_uncommitted(previous.uncommitted)
        safety = capturing.store(
            id=previous.safety,
            missions=[current],
            parent=previous.parent,
            # Older than the rows, because a snapshot of this transaction would not show its own changes.
            snapshot=previous.snapshot,
            trigger=Checkpoint.Trigger.RESTORE,
            note=f"Before {checkpoint.ref} was restored.",
            by=by,
        )
        cursor.execute(
            statements.read("checkpoints.operations", "fence"),
            {
                **parameters,
                "waits_for": writing.EARLIER_ATTEMPT,
                "error": f"The mission was restored to {checkpoint.ref} while it ran.",
            },
        )
        fenced: dict[UUID, datetime | None] = dict(cursor.fetchall())
        targets, dropped = _differences(saved, current, fenced)
        table.replace(targets)
        if dropped:
            counters.fold(wait=True)  # so that the totals include the sorties that are removed
            writing.drop(sorties=dropped, checkpoint=checkpoint.ref)
        writing.put_back(
            mission=saved.id,
            targets=table,
            origin=current.origin,
            checkpoint=checkpoint.ref,
            resume_data=True,
        )
        _put_back_mission(saved, checkpoint=checkpoint.ref)
        workspaces.put_back(saved, mission=saved.id, replaced=_replaced_ref(saved, safety.ref, saved.entry.id))
        cursor.execute(statements.read("missions.control", "unqueue"), {"missions": [saved.id]})
    _require_exact(saved)
    _record(checkpoint, mission=saved.id, safety=safety, changed=len(targets), removed=len(dropped))
    return safety


def _recreate(checkpoint: Checkpoint, saved: SavedMission, *, can_execute: bool, force: bool, plan: str) -> str:
    """Create the removed rows of a mission again, with its old id and new ids for its sorties.

    Returns the ref that keeps the current tip of its workspace's branch; "" without a workspace.
    """
    kept = saved.mission_kept
    if not can_execute and kept["executes"] and not kept["template"]:
        raise permissions.refusal()
    planning.require_acceptable(planning.plan_for(checkpoint, saved, None), force=force, digest=plan)
    lease_end = clock.now() + timedelta(seconds=settings.FLEET_LEASE_S)
    targets = [
        SortieTarget(sortie=ids.new(), created=True, wait_until=lease_end, state=line, kept=saved.kept[key])
        for key, line in saved.state.items()
    ]
    with transaction.atomic(durable=True):
        writing.create_mission(
            mission=saved.id,
            mission_lines=saved.mission_lines,
            checkpoint=checkpoint.ref,
            state_if_live=MissionState.PAUSED,
            is_same_mission=True,
            can_execute=kept["executes"],
            template=kept["template"],
            reason=f"restored to {checkpoint.ref}",
            owner=checkpoint.owner_id,
            team=checkpoint.team_id,
        )
        with connection.cursor() as cursor:
            turn, _ = launching.fair_turn(cursor)
        writing.put_back(
            mission=saved.id,
            targets=writing.TargetTable(targets),
            origin=turn,
            checkpoint=checkpoint.ref,
            resume_data=True,
        )
        replaced = _replaced_ref(saved, checkpoint.ref, ids.new().hex)
        workspaces.put_back(saved, mission=saved.id, replaced=replaced)
        _require_exact(saved)
        _record(checkpoint, mission=saved.id, safety=None, changed=len(targets), removed=0)
    return replaced


def _record(checkpoint: Checkpoint, *, mission: UUID, safety: Checkpoint | None, changed: int, removed: int) -> None:
    replaced = safety.ref if safety else None
    counts = {"sorties_changed": changed, "sorties_removed": removed}
    Event.objects.create(
        kind="checkpoint.restored",
        scope=mission,
        subject=checkpoint.id,
        data={"checkpoint": checkpoint.ref, "replaced": replaced, **counts},
    )
    audit.record(
        kind="checkpoint.restore",
        subject=checkpoint.ref,
        before={"checkpoint": replaced},
        after={"mission": ids.encode(ids.MISSION, mission), **counts},
    )


def _differences(
    saved: SavedMission, current: CurrentMission, fenced: dict[UUID, datetime | None]
) -> tuple[list[SortieTarget], list[UUID]]:
    """The sorties to change or create, and those to remove."""
    lines, kept_lines = current.state_lines, current.kept_lines
    lease_end = clock.now() + timedelta(seconds=settings.FLEET_LEASE_S)
    targets = []
    for key, line in saved.state.items():
        # Unfinished sorties also get back the data that they continue from, which the digest does not cover.
        if lines.get(key) == line and continues_from(saved.kept[key]) == continues_from(kept_lines[key]):
            continue
        row = current.rows[key].id if key in current.rows else None
        # A sortie that was removed may have processes until its lease ends.
        wait_until = lease_end if row is None else fenced.get(row)
        targets.append(
            SortieTarget(
                sortie=row or ids.new(), created=row is None, wait_until=wait_until, state=line, kept=saved.kept[key]
            )
        )
    return targets, [row.id for key, row in current.rows.items() if key not in saved.state]


def _put_back_mission(saved: SavedMission, *, checkpoint: str) -> None:
    state, kept = saved.mission_lines.split("\n")[:2]
    writing.create_concurrency_keys(saved.mission_lines)
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("checkpoints.operations", "put_back_mission"),
            {
                "mission": saved.id,
                "state": state,
                "kept": kept,
                "reason": f"restored to {checkpoint}",
                "checkpoint": checkpoint,
            },
        )


def _require_exact(saved: SavedMission) -> None:
    """Raise NotExact unless the rows have the digest of the checkpoint."""
    restored = reading.mission(saved.id)
    if restored.digest() == saved.entry.digest:
        return
    entry = restored.entry({})
    different = [number for number, part in saved.entry.buckets.items() if entry.buckets.get(number) != part]
    raise NotExact(
        f"The restored rows differ from the checkpoint ({len(different)} of {len(saved.entry.buckets)} buckets), so"
        " nothing was changed.",
        hint="This is a bug: please report it with both checkpoints.",
    )
