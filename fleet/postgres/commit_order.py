"""Reads the rows of a table in the order of their transactions, so that a reader misses none.

Ids are assigned before the commit, so a row with a small one may become visible after a row with a larger one. A reader
therefore orders rows by transaction (`xid`), then by id, and stops before the oldest transaction that is still running.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import Q
from django.db.models.expressions import RawSQL

OLDEST_RUNNING = RawSQL("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", [])  # all before it have ended
NEXT_XID = RawSQL("(pg_snapshot_xmax(pg_current_snapshot())::text::bigint)", [])  # the first one not yet assigned


class Position(NamedTuple):
    """A place in the order: the transaction and the id of a row."""

    xid: int = 0
    id: int = 0

    @classmethod
    def of(cls, row: Any) -> Position:
        return cls(row.xid, row.id)


def after(position: Position) -> Q:
    """Match the rows after this position. The first condition lets the planner use a range of the index."""
    return Q(xid__gte=position.xid) & (Q(xid__gt=position.xid) | Q(xid=position.xid, id__gt=position.id))
