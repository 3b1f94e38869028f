"""Checkpoints as data, for the commands, the admin and the API. docs/commands.md documents the shapes."""

from __future__ import annotations

import json
from typing import Any

from checkpoints.files import storage
from checkpoints.models import Checkpoint
from fleet import ids


def summary(checkpoint: Checkpoint) -> dict[str, Any]:
    """`{id, missions, name, note, trigger, …}`, from the row alone."""
    return {
        "id": checkpoint.ref,
        "missions": [ids.encode(ids.MISSION, mission) for mission in checkpoint.missions],
        "name": checkpoint.name,
        "note": checkpoint.note,
        "trigger": checkpoint.trigger,
        "keep": checkpoint.keep,
        "sorties": checkpoint.sorties,
        "bytes": checkpoint.bytes,
        "new_bytes": checkpoint.new_bytes,
        "parent": ids.encode(ids.CHECKPOINT, checkpoint.parent) if checkpoint.parent else None,
        "digest": checkpoint.digest,
        "created_at": checkpoint.created_at.isoformat(),
    }


def detail(checkpoint: Checkpoint) -> dict[str, Any]:
    """The summary and the contents: each mission's state, counts, digest and recovery context.

    Raises CheckpointDamaged.
    """
    manifest = storage.read_manifest(checkpoint.ref)
    contexts = json.loads(storage.read(manifest.context)) if manifest.context else {}
    return {
        **summary(checkpoint),
        "contents": [
            {
                "id": entry.id,
                "name": entry.name,
                "state": entry.state,
                "sorties": dict(entry.counts),
                "digest": entry.digest,
                "context": contexts.get(entry.id),
            }
            for entry in manifest.missions
        ],
        "fleet": json.loads(storage.read(manifest.fleet)) if manifest.fleet else None,
    }
