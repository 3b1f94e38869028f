"""Reads the stream of events without missing any."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from fleet.events.models import Event

# The oldest transaction that is still running. All before it have ended.
OLDEST_RUNNING = RawSQL("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", [])


class Position(NamedTuple):
    """A reader's position in the stream: the transaction and the id of the last event that it has read."""

    xid: int = 0
    id: int = 0

    @classmethod
    def of(cls, event: Event) -> Position:
        return cls(event.xid, event.id)


def since(*, last: Position, scope: UUID | None = None) -> QuerySet[Event]:
    """Return the events after `last`, by transaction and id, below the oldest transaction that is still running.

    Continue from the position of the last event read: no event is missed, in whatever order transactions get
    ids and commit. A transaction that hangs delays the stream but loses nothing. The ids give the order in which events
    happened, so sort events that were read together by id.
    """
    after = Q(xid__gt=last.xid) | Q(xid=last.xid, id__gt=last.id)
    events = Event.objects.filter(after, xid__gte=last.xid, xid__lt=OLDEST_RUNNING).order_by("xid", "id")
    return events if scope is None else events.filter(scope=scope)


class Snapshot(NamedTuple):
    """A snapshot of the transactions.

    `position` is after all settled events, `newest` is the first transaction that has not begun, and `running` are
    those before it that have not ended.
    """

    position: Position
    newest: int
    running: frozenset[int]

    def after(self, position: Position) -> bool:
        """Whether the event at this position was committed after the snapshot."""
        return position.xid >= self.newest or position.xid in self.running


def snapshot() -> Snapshot:
    """Return the current snapshot, from which a reader gets only events that happen from now on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
            " ARRAY(SELECT pg_snapshot_xip(s)::text::bigint) FROM pg_current_snapshot() s"
        )
        oldest, newest, running = cursor.fetchone()
    return Snapshot(Position(oldest, 0), newest, frozenset(running))
