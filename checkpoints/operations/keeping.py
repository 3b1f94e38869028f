"""Keep: exempt a checkpoint from retention, or no longer."""

from __future__ import annotations

from django.db import transaction

from checkpoints.models import Checkpoint
from fleet import audit


def keep(*, checkpoint: Checkpoint, on: bool) -> None:
    """Let retention never remove this checkpoint; with `on` false, remove it in its turn."""
    with transaction.atomic():
        before = Checkpoint.objects.select_for_update().get(id=checkpoint.id).keep
        Checkpoint.objects.filter(id=checkpoint.id).update(keep=on)
        audit.record(kind="checkpoint.keep", subject=checkpoint.ref, before={"keep": before}, after={"keep": on})
