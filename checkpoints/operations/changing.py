"""Change the name of a checkpoint, and whether retention may remove it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from checkpoints.models import Checkpoint
from checkpoints.operations import capturing
from fleet import audit


def change(*, checkpoint: Checkpoint, name: str | None = None, keep: bool | None = None) -> Checkpoint:
    """Change the name of a checkpoint, and whether it is kept; None leaves the value. Its files stay as they are.

    Raises Conflict if another checkpoint of the same missions has the new name.
    """
    values: dict[str, Any] = {"name": name, "keep": keep}
    values = {field: value for field, value in values.items() if value is not None}
    new_name = "" if name is None or name == checkpoint.name else name
    with capturing.reserve_name(new_name, checkpoint.missions), transaction.atomic():
        row = Checkpoint.objects.select_for_update().get(id=checkpoint.id)
        before = {field: getattr(row, field) for field in values}
        for field, value in values.items():
            setattr(row, field, value)
        row.save(update_fields=list(values))
        audit.record(kind="checkpoint.keep", subject=row.ref, before=before, after=values)
    return row
