"""Keep: exempt a checkpoint from retention, or end the exemption."""

from __future__ import annotations

from django.db import transaction

from checkpoints.models import Checkpoint
from fleet import audit


def keep(*, checkpoint: Checkpoint, on: bool) -> None:
    """Exempt a checkpoint from retention; with `on` false, end the exemption."""
    with transaction.atomic():
        before = Checkpoint.objects.select_for_update().get(id=checkpoint.id).keep
        Checkpoint.objects.filter(id=checkpoint.id).update(keep=on)
        audit.record(kind="checkpoint.keep", subject=checkpoint.ref, before={"keep": before}, after={"keep": on})
