"""Changes rows in small transactions, for data migrations that run while the fleet works."""

from __future__ import annotations

import time
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

SIZE = 1_000
PAUSE_S = 0.05  # between two batches, so that other transactions get their turn


def update_in_batches(rows: QuerySet[Any], *, size: int = SIZE, pause_s: float = PAUSE_S, **values: Any) -> int:
    """Update rows by primary key, `size` at a time, each batch in its own transaction; returns how many.

    The query must no longer match the rows that were updated, so that an interrupted migration continues where it stopped.
    """
    changed = 0
    while True:
        with transaction.atomic(using=rows.db):
            keys = list(rows.order_by("pk").select_for_update().values_list("pk", flat=True)[:size])
            changed += rows.model._default_manager.using(rows.db).filter(pk__in=keys).update(**values) if keys else 0
        if len(keys) < size:
            return changed
        time.sleep(pause_s)
