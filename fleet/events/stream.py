"""Reading events, missing none."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from fleet.events.models import Event


class Position(NamedTuple):
    """How far a reader has come: the transaction and the id of the last event that it was given."""

    xid: int = 0
    id: int = 0

    @classmethod
    def of(cls, event: Event) -> Position:
        return cls(event.xid, event.id)


def since(*, last: Position, scope: UUID | None = None) -> QuerySet[Event]:
    """The events after `last`, by transaction and id, up to the first that a running transaction could still precede.

    Read on from the position of the last one: no event is passed over, whatever the order in which transactions draw ids
    and commit. The bound is the oldest transaction still running, so one that hangs delays the stream and loses nothing
    of it. Ids alone tell in which order two events happened; sort what was read together by them.
    """
    settled = RawSQL("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", [])
    after = Q(xid__gt=last.xid) | Q(xid=last.xid, id__gt=last.id)
    events = Event.objects.filter(after, xid__gte=last.xid, xid__lt=settled).order_by("xid", "id")
    return events if scope is None else events.filter(scope=scope)
