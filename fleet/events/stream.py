"""Reads the stream of events without missing any."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from fleet.events.models import Event
from fleet.postgres import commit_order
from fleet.postgres.commit_order import Position


def since(*, last: Position, scope: UUID | None = None) -> QuerySet[Event]:
    """Return the events after `last`, the position of the last event that the reader has read.

    A transaction that hangs delays the stream but loses nothing. The ids give the order in which events happened, so
    sort events that were read together by id.
    """
    settled = Event.objects.filter(commit_order.after(last), xid__lt=commit_order.OLDEST_RUNNING)
    events = settled.order_by("xid", "id")
    return events if scope is None else events.filter(scope=scope)


class TransactionSnapshot(NamedTuple):
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


def snapshot() -> TransactionSnapshot:
    """Return the current snapshot, from which a reader gets only events that happen from now on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,"
            " ARRAY(SELECT pg_snapshot_xip(s)::text::bigint) FROM pg_current_snapshot() s"
        )
        oldest, newest, running = cursor.fetchone()
    return TransactionSnapshot(Position(oldest, 0), newest, frozenset(running))
