"""Capture: write a checkpoint of missions while they run."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from checkpoints.document import ENDED, CheckpointManifest
from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.recovery import context
from checkpoints.rows import reading, workspaces
from checkpoints.rows.reading import CurrentMission
from fleet import audit, errors, ids
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock, SubjectLock
from missions.models import Mission
from missions.states import FINAL_MISSION_STATES, MissionState

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def capture(
    *,
    missions: Sequence[UUID],
    trigger: str = Checkpoint.Trigger.REQUEST,
    name: str = "",
    note: str = "",
    keep: bool = False,
    fleet: bool = False,
    by: User | None = None,
    work_s: float | None = None,
) -> Checkpoint:
    """Write a checkpoint of these missions in one snapshot. They keep running.

    `fleet`: include the agent types, the number of agents that each should have, and the concurrency limits. `work_s`:
    how long reading uncommitted work may take, instead of FLEET_CHECKPOINT_WORK_S.

    Raises NotFound if a mission's rows are gone; Conflict if one is being cancelled, or if these missions already have a
    checkpoint with this name; Unavailable if the disk is full.
    """
    with reserve_name(name, missions), locks.session(Lock.CHECKPOINTS, shared=True):
        with reading.snapshot() as snapshot:
            parents = [newest(mission) for mission in missions]
            current = [_read(mission, parent) for mission, parent in zip(missions, parents, strict=True)]
            fleet_data = reading.fleet() if fleet else None
        for mission in current:
            if mission.state == MissionState.CANCELLING:
                raise errors.Conflict(
                    f"The mission {mission.name} is being cancelled, so it cannot be captured.",
                    hint="Wait until it is cancelled.",
                )
        id, deadline = next_id(parents), work_deadline(work_s)
        for mission in current:
            mission.add_uncommitted(read_uncommitted(mission, checkpoint=id, deadline=deadline))
        return store(
            id=id,
            missions=current,
            parent=parents[0] if len(parents) == 1 else None,
            snapshot=snapshot,
            fleet=fleet_data,
            trigger=trigger,
            name=name,
            note=note,
            keep=keep,
            by=by,
        )


def capture_all(*, name: str = "", note: str = "", keep: bool = False, by: User | None = None) -> Checkpoint:
    """Write one checkpoint of the whole fleet: every live mission, and what `fleet` of `capture` includes."""
    live = Mission.objects.exclude(state__in=[*FINAL_MISSION_STATES, MissionState.CANCELLING]).order_by("id")
    return capture(missions=list(live.values_list("id", flat=True)), name=name, note=note, keep=keep, fleet=True, by=by)


def _read(mission: UUID, parent: Checkpoint | None) -> CurrentMission:
    """Read a mission: if its newest checkpoint is intact, only what has changed since. Call it in a snapshot."""
    if parent is None:
        return reading.mission(mission)
    ref = ids.encode(ids.MISSION, mission)
    try:
        (entry,) = (entry for entry in storage.read_manifest(parent.ref).missions if entry.id == ref)
        return reading.mission(mission, parent=entry, since=parent.snapshot)
    except storage.CheckpointDamaged:
        return reading.mission(mission)


def newest(mission: UUID) -> Checkpoint | None:
    """The newest checkpoint of a mission."""
    return Checkpoint.objects.filter(missions__contains=[mission]).order_by("-id").first()


@contextmanager
def reserve_name(name: str, missions: Sequence[UUID]) -> Iterator[None]:
    """Hold a name for a checkpoint of these missions until its row is committed. No name needs no reservation.

    Raises Conflict if they already have a checkpoint with this name, or if one is being created.
    """
    if not name:
        yield
        return
    with locks.try_session_subject(SubjectLock.CHECKPOINT_NAME, ",".join([name, *map(str, missions)])) as reserved:
        if not reserved:
            raise errors.Conflict(f"A checkpoint called {name!r} is being created.", hint="Choose another name.")
        existing = Checkpoint.objects.filter(missions=list(missions), name=name).order_by("-id").first()
        if existing is not None:
            which = "this mission" if len(missions) == 1 else "these missions"
            raise errors.Conflict(
                f"A checkpoint of {which} is already called {name!r}: {existing.ref}.",
                hint="Choose another name, or delete that checkpoint first.",
            )
        yield


def next_id(earlier: Iterable[Checkpoint | None]) -> UUID:
    """An id that sorts after those of these checkpoints, even if the clock has been set back since."""
    return max([ids.new(), *(UUID(int=checkpoint.id.int + 1) for checkpoint in earlier if checkpoint)])


def work_deadline(seconds: float | None = None) -> float:
    """The time by which the uncommitted work of a checkpoint must be read, on the monotonic clock."""
    return time.monotonic() + (settings.FLEET_CHECKPOINT_WORK_S if seconds is None else seconds)


def read_uncommitted(mission: CurrentMission, *, checkpoint: UUID, deadline: float) -> dict[str, dict[str, Any]]:
    """Store the uncommitted work of a mission's running sorties for a checkpoint; returns its description by key."""
    if mission.workspace is None or not mission.running:
        return {}
    return workspaces.save_uncommitted(
        checkpoint=ids.encode(ids.CHECKPOINT, checkpoint),
        workspace=mission.workspace,
        mission=mission.id,
        sorties=mission.running,
        deadline=deadline,
    )


def store(
    *,
    id: UUID,
    missions: Sequence[CurrentMission],
    parent: Checkpoint | None = None,
    snapshot: str,
    fleet: bytes | None = None,
    trigger: str,
    name: str = "",
    note: str = "",
    keep: bool = False,
    by: User | None = None,
) -> Checkpoint:
    """Write the files, then the row. The caller holds the lock of checkpoints."""
    now = timezone.now()
    contents: dict[str, bytes] = {}
    manifest = CheckpointManifest(
        id=ids.encode(ids.CHECKPOINT, id),
        name=name,
        note=note,
        trigger=trigger,
        created_at=now.isoformat(),
        parent=parent.ref if parent else None,
        snapshot=snapshot,
        missions=tuple(mission.entry(contents) for mission in missions),
        fleet=reading.add_part(fleet, contents) if fleet is not None else None,
        context=reading.add_part(context.encode({mission.ref: mission.context for mission in missions}), contents),
    )
    for mission in missions:
        if mission.workspace is not None:
            workspaces.keep_commits(checkpoint=manifest.id, mission=mission.id, workspace=mission.workspace)
    with _translate_disk_errors():
        added = storage.add_checkpoint(manifest, contents)
    with transaction.atomic():
        row = Checkpoint.objects.create(
            id=id,
            missions=[mission.id for mission in missions],
            name=name,
            note=note,
            trigger=trigger,
            keep=keep,
            digest=added.digest,
            snapshot=snapshot,
            parent=parent.id if parent else None,
            sorties=manifest.count(),
            ended=manifest.count(*ENDED),
            failed=manifest.count("failed"),
            bytes=storage.size(part.blob for part in manifest.parts) + added.manifest_bytes,
            new_bytes=added.blob_bytes,
            created_by=by,
            owner_id=_common({mission.owner for mission in missions}) if fleet is None else None,
            team_id=_common({mission.team for mission in missions}) if fleet is None else None,
            created_at=now,
        )
        for mission in missions:
            Event.objects.create(
                kind="checkpoint.created",
                scope=mission.id,
                subject=id,
                data={"checkpoint": row.ref, "trigger": trigger, "sorties": row.sorties},
            )
        audit.record(
            kind="checkpoint.create",
            subject=row.ref,
            after={"missions": [mission.ref for mission in missions], "trigger": trigger, "name": name},
        )
    return row


def _common(values: set[int | None]) -> int | None:
    """The owner (or team) that all missions of a checkpoint share; None if they differ."""
    return values.pop() if len(values) == 1 else None


def store_blobs(mission: CurrentMission) -> None:
    """Write the blobs of a mission ahead of a capture, which then writes only what has changed since."""
    contents: dict[str, bytes] = {}
    mission.entry(contents)
    with _translate_disk_errors():
        storage.add(contents)


@contextmanager
def _translate_disk_errors() -> Iterator[None]:
    """Raise Unavailable, with a hint, if the files cannot be written."""
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        raise errors.Unavailable(
            f"The checkpoint could not be written: {error.strerror or error}.",
            hint="Free disk space, or set FLEET_CHECKPOINTS to another folder."
            if full
            else "Check the folder that FLEET_CHECKPOINTS names.",
        ) from error
