"""Delete checkpoints, and prune those that are too old or too many.

The row is deleted first, then the manifest, then the blobs that no manifest refers to, and last the refs that keep
commits in mirrors: git needs a little disk space for it. If this is interrupted, what remains is harmless: `prune`
removes blobs and refs, and adopts a manifest without a row.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from checkpoints.files import storage
from checkpoints.models import Checkpoint
from checkpoints.operations import adopting, artifacts
from fleet import audit, errors
from fleet.events.models import Event
from fleet.postgres import locks
from fleet.postgres.locks import Lock
from missions.artifacts import collection
from missions.models import Mission
from missions.workspaces import moving

log = logging.getLogger("fleet.checkpoints")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What `prune` removed, or would remove."""

    checkpoints: tuple[Checkpoint, ...]
    blobs: int
    bytes: int  # of the blobs, compressed


def delete(*, checkpoint: Checkpoint) -> None:
    """Delete a checkpoint. Other checkpoints that share blobs with it stay intact."""
    with locks.session(Lock.CHECKPOINTS):
        digests = artifacts.referenced_by([checkpoint])
        _delete([checkpoint], why="deleted")
        collection.delete_unused(digests)
        with suppress(storage.CheckpointDamaged):  # another checkpoint is damaged; `prune` reports it
            _remove_garbage()
        _release_commits()


def prune(*, now: datetime, dry_run: bool) -> PruneResult:
    """Delete the checkpoints that retention does not keep, and blobs that no checkpoint refers to."""
    with locks.session(Lock.CHECKPOINTS):
        adopting.adopt_under_lock()
        outdated = _outdated(list(Checkpoint.objects.order_by("-id")), now=now)
        outdated_refs = {checkpoint.ref for checkpoint in outdated}
        garbage = sorted(set(storage.blobs()) - _reachable(except_for=outdated_refs))
        size = storage.size(garbage)
        if not dry_run:
            digests = artifacts.referenced_by(outdated)
            _delete(outdated, why="retention")
            collection.delete_unused(digests)
            for name in garbage:
                storage.remove_blob(name)
            storage.sweep()
            _release_commits()
    return PruneResult(checkpoints=tuple(outdated), blobs=len(garbage), bytes=size)


def _outdated(checkpoints: Iterable[Checkpoint], *, now: datetime) -> list[Checkpoint]:
    """The checkpoints that retention removes. `checkpoints` are all of them, the newest first.

    Named and kept checkpoints stay, and so does the newest one of a mission as long as its rows exist. Any other stays
    if it is among the newest FLEET_CHECKPOINT_COUNT of its mission, is younger than FLEET_CHECKPOINT_DAYS, and fits
    into FLEET_CHECKPOINT_BYTES together with those that stay.
    """
    checkpoints = list(checkpoints)
    listed = {mission for checkpoint in checkpoints for mission in checkpoint.missions}
    with_rows = set(Mission.objects.filter(id__in=listed).values_list("id", flat=True))
    remaining: dict[UUID, int] = defaultdict(int)  # mission -> its checkpoints that stay
    total = 0
    counted: set[str] = set()  # blobs of those that stay; checkpoints share most of them
    outdated = []
    for checkpoint in checkpoints:
        newest = any(not remaining[mission] and mission in with_rows for mission in checkpoint.missions)
        surplus = all(remaining[mission] >= settings.FLEET_CHECKPOINT_COUNT for mission in checkpoint.missions)
        old = checkpoint.created_at < now - timedelta(days=settings.FLEET_CHECKPOINT_DAYS)
        blobs = _blobs(checkpoint) - counted
        size = storage.size(blobs)
        large = total + size > settings.FLEET_CHECKPOINT_BYTES
        if checkpoint.keep or checkpoint.name or newest or not (surplus or old or large):
            total += size
            counted |= blobs
            for mission in checkpoint.missions:
                remaining[mission] += 1
        else:
            outdated.append(checkpoint)
    return outdated


def _blobs(checkpoint: Checkpoint) -> set[str]:
    """The blobs of a checkpoint; none if its manifest is damaged."""
    try:
        return {part.blob for part in storage.read_manifest(checkpoint.ref).parts}
    except storage.CheckpointDamaged:
        return set()


def _delete(checkpoints: Collection[Checkpoint], *, why: str) -> None:
    with transaction.atomic():
        for checkpoint in checkpoints:
            for mission in checkpoint.missions:
                Event.objects.create(
                    kind="checkpoint.removed",
                    scope=mission,
                    subject=checkpoint.id,
                    data={"checkpoint": checkpoint.ref, "why": why},
                )
            audit.record(kind="checkpoint.delete", subject=checkpoint.ref, before={"name": checkpoint.name, "why": why})
        Checkpoint.objects.filter(id__in=[checkpoint.id for checkpoint in checkpoints]).delete()
    for checkpoint in checkpoints:
        storage.remove_manifest(checkpoint.ref)


def _release_commits() -> None:
    try:
        moving.sweep(checkpoints=set(storage.manifests()))
    except (errors.FleetError, OSError) as error:
        log.warning("the commits of deleted checkpoints stay in their mirrors until the next pruning: %s", error)


def _remove_garbage() -> None:
    for name in set(storage.blobs()) - _reachable():
        storage.remove_blob(name)


def _reachable(*, except_for: Collection[str] = ()) -> set[str]:
    """The blobs that manifests refer to. Raises CheckpointDamaged if a manifest, and so its blobs, cannot be read."""
    refs = [ref for ref in storage.manifests() if ref not in except_for]
    try:
        return {part.blob for ref in refs for part in storage.read_manifest(ref).parts}
    except storage.CheckpointDamaged as error:
        raise storage.CheckpointDamaged(
            f"{error.message} Its blobs are unknown, so none can be removed.", hint="Delete that checkpoint first."
        ) from error
