"""Reading events in order, missing none."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from fleet.events.models import Event


def since(*, last: int, scope: UUID | None = None) -> QuerySet[Event]:
    """The events after `last`, oldest first, up to the first that a running transaction could still precede.

    Read on from the id of the last one: no event that commits late is passed over. The bound is the oldest
    transaction still running, so one that hangs delays the stream and loses nothing of it.
    """
    settled = RawSQL("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", [])
    events = Event.objects.filter(id__gt=last, xid__lt=settled).order_by("id")
    return events if scope is None else events.filter(scope=scope)
