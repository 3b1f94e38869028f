"""Adopt: create a row for each checkpoint that has only files, as in a copied folder or after a lost database."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.contrib.auth.models import Group, User

from checkpoints import document
from checkpoints.document import ENDED, CheckpointManifest
from checkpoints.files import loading, storage
from checkpoints.models import Checkpoint
from fleet import audit, ids
from fleet.postgres import locks
from fleet.postgres.locks import Lock


def adopt() -> list[Checkpoint]:
    """Create the missing rows, and return them. Damaged checkpoints are skipped."""
    with locks.session(Lock.CHECKPOINTS, shared=True):
        return adopt_under_lock()


def adopt_under_lock() -> list[Checkpoint]:
    """Like `adopt`, but the caller holds the checkpoints lock."""
    stored = {ids.decode(ids.CHECKPOINT, ref): ref for ref in storage.manifests()}
    existing = set(Checkpoint.objects.filter(id__in=stored).values_list("id", flat=True))
    adopted = []
    for id, ref in sorted(stored.items()):
        if id in existing:
            continue
        try:
            adopted.append(_row(storage.read_manifest(ref)))
        except storage.CheckpointDamaged:
            continue
    Checkpoint.objects.bulk_create(adopted, ignore_conflicts=True)
    for checkpoint in adopted:
        audit.record(kind="checkpoint.adopt", subject=checkpoint.ref, after={"sorties": checkpoint.sorties})
    return adopted


def _row(manifest: CheckpointManifest) -> Checkpoint:
    """The row of a manifest. The owner and team are those of its only mission, if this fleet has them."""
    data = document.serialize(manifest)
    owner = team = None
    if len(manifest.missions) == 1:
        kept = loading.load(manifest.missions[0]).mission_kept
        owner = User.objects.filter(username=kept["owner"]).first()
        team = Group.objects.filter(name=kept["team"]).first()
    return Checkpoint(
        id=ids.decode(ids.CHECKPOINT, manifest.id),
        missions=[ids.decode(ids.MISSION, entry.id) for entry in manifest.missions],
        name=manifest.name,
        note=manifest.note,
        trigger=manifest.trigger,
        keep=True,  # it may be all that is left of its mission
        digest=hashlib.sha256(data).hexdigest(),
        snapshot=manifest.snapshot,
        parent=ids.decode(ids.CHECKPOINT, manifest.parent) if manifest.parent else None,
        sorties=manifest.count(),
        ended=manifest.count(*ENDED),
        failed=manifest.count("failed"),
        bytes=storage.size(part.blob for part in manifest.parts) + storage.manifest_size(manifest.id),
        new_bytes=0,
        owner=owner,
        team=team,
        created_at=datetime.fromisoformat(manifest.created_at),
    )
