"""Reading events, missing none."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db import connection
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


class Now(NamedTuple):
    """A moment. `position` is behind all that is settled; `newest` is the first transaction that has not begun, `running` are
    those before it that have not ended."""

    position: Position
    newest: int
    running: frozenset[int]

    def after(self, position: Position) -> bool:
        """Whether what stands there was committed after this moment."""
        return position.xid >= self.newest or position.xid in self.running


def now() -> Now:
    """Where one begins who wants to hear only of what happens from now on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
            " ARRAY(SELECT pg_snapshot_xip(s)::text::bigint) FROM pg_current_snapshot() s"
        )
        oldest, newest, running = cursor.fetchone()
    return Now(Position(oldest, 0), newest, frozenset(running))
