"""Running totals of what happened: exact, never falling, and at a cost that does not grow with history.

Every change of state writes an event in its own transaction, so the events are the one source. `fold` counts those that
came since the last time and adds them up in `Tally`; it is called by the control loop every few seconds, at each scrape,
and before anything is cleaned away. Nothing is added to what agents say and claim.

**Each event once.** Ids are drawn before commit, so "after the last id" would miss what commits late. What is kept
instead is the snapshot of the last count: new is whatever is visible now and was not visible in it
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT). Old events are not read again:
an id that was drawn before one count belongs to a transaction that has its number by the next; once all transactions
before that have ended, nothing new can come with such an id. So a transaction that hangs costs time, and loses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from fleet.postgres import statements
from missions.models import Tally, TallyMark

# Upper bounds of the buckets of durations, in seconds; one bucket more has what took longer.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0)
NOTHING_SEEN = "1:1:"  # a snapshot in which no transaction is visible
APART = timedelta(seconds=1)  # between two readings of the last id, far more than a row takes to get its defaults


@dataclass(slots=True)
class Total:
    """How often, and the durations: in each bucket, and their sum in seconds."""

    number: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


Key = tuple[str, str, str]  # series, subject, outcome


def totals() -> dict[Key, Total]:
    """What has been counted so far; nothing stands for 0."""
    found: dict[Key, Total] = defaultdict(Total)
    for series, subject, outcome, bucket, number, seconds in Tally.objects.values_list(
        "series", "subject", "outcome", "bucket", "number", "seconds"
    ):
        total = found[series, subject, outcome]
        total.number += number
        total.seconds += seconds
        total.buckets[bucket] += number
    return found


def hold(*, wait: bool = False) -> TallyMark | None:
    """The mark, locked until the transaction's end; None where somebody else holds it, unless to wait for them."""
    if not TallyMark.objects.filter(id=1).exists():
        TallyMark.objects.bulk_create([TallyMark(id=1, snapshot=NOTHING_SEEN)], ignore_conflicts=True)
    return TallyMark.objects.select_for_update(skip_locked=not wait).filter(id=1).first()


def fold(*, wait: bool = False) -> bool:
    """Count what is new. False where somebody else is just doing that; with `wait`, do it after them."""
    with transaction.atomic():
        mark = hold(wait=wait)
        if mark is None:
            return False
        _count(mark)
    return True


def _count(mark: TallyMark) -> None:
    now_seen, last = _now()
    if _newest(mark.snapshot) > _newest(now_seen) or mark.settled > last:
        # Restored from a dump into a cluster whose transactions have smaller numbers: begin with what comes from here on.
        mark.snapshot, mark.settled, mark.coming_xid = now_seen, last, 0
        mark.save()
        return
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "count_settled"),
            {"seen": mark.snapshot, "settled": mark.settled, "bounds": list(BOUNDS)},
        )
        snapshot, last, fresh = cursor.fetchone()
    if not fresh and mark.settled == last:
        return  # an idle fleet writes nothing
    now = timezone.now()
    mark.snapshot = snapshot
    if mark.coming_xid and int(snapshot.split(":")[0]) >= mark.coming_xid:
        mark.settled, mark.coming_xid = mark.coming, 0
    if abs(now - mark.at) >= APART:
        if not mark.coming_xid:
            mark.coming, mark.coming_xid = mark.drawn, _newest(snapshot)
        mark.drawn, mark.at = last, now
    mark.save()


def _newest(snapshot: str) -> int:
    """The number that the next transaction after the snapshot got."""
    return int(snapshot.split(":")[1])


def _now() -> tuple[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_current_snapshot()::text, CASE WHEN is_called THEN last_value ELSE 0 END FROM fleet_event_id_seq"
        )
        row: Any = cursor.fetchone()
        return str(row[0]), int(row[1])
