"""Adds checkpoints to backups of the fleet, and registers what restored ones need."""

from __future__ import annotations

from django.conf import settings

from checkpoints.files import storage
from fleet import ids
from fleet.backup import hooks, parts
from fleet.backup.parts import ContentFolder


def register() -> None:
    parts.register(
        ContentFolder(
            name="checkpoints",
            home=lambda: settings.FLEET_CHECKPOINTS,
            statement="SELECT id FROM checkpoints_checkpoint",
            path=lambda value: storage.manifest_path(ids.encode(ids.CHECKPOINT, value)),
            # Blobs come first, by their names: so those of each manifest that follows are there.
            includes=lambda path, required: path.startswith("blobs/") or path in required,
        )
    )
    hooks.register_after_move("checkpoints", "forget_snapshots")
