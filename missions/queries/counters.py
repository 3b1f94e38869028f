"""Running totals of events: exact and monotonic, at a cost that does not grow with history.

Every state change writes an event in the same transaction, so the events are the only source. `fold` adds the events
since the last count to the totals in `Counter`. The control loop calls it whenever it checks the alerts; it is also
called at each scrape and before anything is removed. It adds no cost to settling and claiming.

**Each event counts once.** Ids are allocated before commit, so "after the last id" would miss events that commit late.
Instead, the snapshot of the last count is kept: an event is new if it is visible now and was not visible in that
snapshot (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT).

**Old events are not read again.** An id that was allocated before one count belongs to a transaction that has its own
id by the next count. Once all transactions before that transaction id have ended, no new event can appear with such an
event id. So a transaction that hangs costs time but loses no event.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from fleet.postgres import statements
from missions.models import Counter, CounterMark

# Upper bounds of the buckets of durations, in seconds. One more bucket counts longer durations.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0)
EMPTY_SNAPSHOT = "1:1:"  # a snapshot in which no transaction is visible
# Between two reads of the last id; far longer than an INSERT takes for its defaults.
MIN_INTERVAL = timedelta(seconds=1)


@dataclass(slots=True)
class Total:
    """A number of events, the sum of their durations, and their number per bucket of durations."""

    number: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


Key = tuple[str, str, str]  # series, subject, outcome


def totals() -> dict[Key, Total]:
    """The totals so far. Keys without events are absent."""
    by_key: dict[Key, Total] = defaultdict(Total)
    for series, subject, outcome, bucket, number, seconds in Counter.objects.values_list(
        "series", "subject", "outcome", "bucket", "number", "seconds"
    ):
        total = by_key[series, subject, outcome]
        total.number += number
        total.seconds += seconds
        total.buckets[bucket] += number
    return by_key


def lock_mark(*, wait: bool = False) -> CounterMark | None:
    """The mark, locked until the transaction ends. None if another process holds it, unless `wait`."""
    if not CounterMark.objects.filter(id=1).exists():
        CounterMark.objects.bulk_create([CounterMark(id=1, snapshot=EMPTY_SNAPSHOT)], ignore_conflicts=True)
    return CounterMark.objects.select_for_update(skip_locked=not wait).filter(id=1).first()


def fold(*, wait: bool = False) -> bool:
    """Count the new events. False if another process is counting; with `wait`, count after it."""
    with transaction.atomic():
        mark = lock_mark(wait=wait)
        if mark is None:
            return False
        _count(mark)
    return True


def _count(mark: CounterMark) -> None:
    current_snapshot, last = _current_snapshot()
    if _next_xid(mark.snapshot) > _next_xid(current_snapshot) or mark.settled > last:
        # Restored from a dump into a cluster with smaller transaction ids: count only events from here on.
        mark.snapshot, mark.settled, mark.coming_xid = current_snapshot, last, 0
        mark.save()
        return
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "count_settled"),
            {"seen": mark.snapshot, "settled": mark.settled, "bounds": list(BOUNDS)},
        )
        snapshot, last, new_events = cursor.fetchone()
    if not new_events and mark.settled == last:
        return  # an idle fleet writes nothing
    now = timezone.now()
    mark.snapshot = snapshot
    if mark.coming_xid and _oldest_running_xid(snapshot) >= mark.coming_xid:
        mark.settled, mark.coming_xid = mark.coming, 0
    if abs(now - mark.at) >= MIN_INTERVAL:
        if not mark.coming_xid:
            mark.coming, mark.coming_xid = mark.drawn, _next_xid(snapshot)
        mark.drawn, mark.at = last, now
    mark.save()


def _oldest_running_xid(snapshot: str) -> int:
    """The id before which all transactions had ended at the time of the snapshot (its xmin)."""
    return int(snapshot.split(":")[0])


def _next_xid(snapshot: str) -> int:
    """The id of the first transaction after the snapshot (its xmax)."""
    return int(snapshot.split(":")[1])


def _current_snapshot() -> tuple[str, int]:
    """The current snapshot, and the last event id that was allocated."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_current_snapshot()::text, CASE WHEN is_called THEN last_value ELSE 0 END FROM fleet_event_id_seq"
        )
        row: Any = cursor.fetchone()
        return str(row[0]), int(row[1])
