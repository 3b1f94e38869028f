"""Seal what has been written into the chain, in batches: a chain inline would make all who write wait for each other.

Entries become visible out of order, so they are taken by transaction, up to the oldest that still runs; none is left out.
An entry names the cluster that counted its transaction, for a database that is restored elsewhere counts from anew: there,
what its old cluster had not sealed comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.expressions import RawSQL

from fleet import humanise
from fleet.audit import chain
from fleet.audit.chain import Position
from fleet.audit.models import Entry, Seal
from fleet.postgres import locks, statements
from fleet.postgres.locks import Lock

BATCH = 1_000
SETTLED = RawSQL(
    "(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", []
)  # the oldest transaction that still runs
NEXT = RawSQL("(pg_snapshot_xmax(pg_current_snapshot())::text::bigint)", [])  # the first that has not been seen


def seal(*, batch: int = BATCH) -> int:
    """Seal all that can be sealed now, so many at a time; how many entries. 0 where somebody else is at it."""
    sealed = 0
    while some := _link(batch):
        sealed += some
    return sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """What holds up the sealing. All but `waited_s` is None where this role may not see whose transaction it is."""

    waited_s: float  # of the oldest entry that cannot be sealed
    pid: int | None
    application: str | None
    role: str | None
    database: str | None
    open_s: float | None

    def __str__(self) -> str:
        stopped = f"Entries of the audit trail have waited {humanise.duration(self.waited_s)} to be sealed"
        if self.pid is None:
            return (
                f"{stopped}: a transaction that the fleet may not see is open. Let an administrator look into "
                "pg_stat_activity and pg_prepared_xacts for the oldest, and end it."
            )
        return (
            f"{stopped}: process {self.pid} ({self.application or 'unnamed'}, role {self.role}, database {self.database}) "
            f"has kept a transaction open for {humanise.duration(self.open_s or 0)}. End it there, or by "
            f"SELECT pg_terminate_backend({self.pid})."
        )


def blocker(*, longer_than_s: float) -> Blocker | None:
    """The oldest open transaction, where entries have waited for it for so long. It may be of another database: transactions
    are counted by the cluster."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("fleet", "audit_blocker"), {"seconds": longer_than_s})
        found = cursor.fetchone()
    if found is None:
        return None
    waited_s, pid, application, role, database, open_s = found
    return Blocker(waited_s=waited_s, pid=pid, application=application, role=role, database=database, open_s=open_s)


def here() -> tuple[int, datetime]:
    """This cluster's system identifier, and the time by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT system_identifier, clock_timestamp() FROM pg_control_system()")
        cluster, now = cursor.fetchone()
    return cluster, now


def _link(batch: int) -> int:
    with transaction.atomic():
        if not locks.try_lock(Lock.SEALING):
            return 0
        head = Seal.objects.order_by("-number").first()
        current, now = here()
        for cluster in [*_left(head, current), current]:
            settled = Q() if cluster != current else Q(xid__lt=SETTLED)
            entries = Entry.objects.filter(settled, chain.after(_reached(cluster, current)), cluster=cluster)
            if rows := list(chain.rows(entries)[:batch]):
                _append(head, cluster, now, rows)
                return len(rows)
    return 0


def _left(head: Seal | None, current: int) -> list[int]:
    """The clusters that this database has come from and that may have left something to seal."""
    if head is None:
        return list(
            Entry.objects.exclude(cluster=current).order_by("cluster").values_list("cluster", flat=True).distinct()
        )
    return [] if head.cluster == current else [head.cluster]


def _reached(cluster: int, current: int) -> Position:
    """Where the last seal of this cluster ends that can be believed: one that claims a transaction of the future is forged."""
    seals = Seal.objects.filter(cluster=cluster)
    if cluster == current:
        seals = seals.filter(last_xid__lt=NEXT)
    last = seals.order_by("-number").first()
    return Position() if last is None else Position(last.last_xid, last.last_id)


def _append(head: Seal | None, cluster: int, now: datetime, rows: list[tuple[Any, ...]]) -> None:
    first, last = (dict(zip(chain.COLUMNS, row, strict=True)) for row in (rows[0], rows[-1]))
    link = Seal(
        number=1 if head is None else head.number + 1,
        at=now,
        cluster=cluster,
        first_xid=first["xid"],
        first_id=first["id"],
        last_xid=last["xid"],
        last_id=last["id"],
        count=len(rows),
        leaves=chain.packed([chain.leaf(row) for row in rows]),
        previous=chain.START if head is None else head.digest,
    )
    link.digest = chain.digest(link)
    link.save(force_insert=True)
