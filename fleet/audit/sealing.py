"""Seals new entries into the chain in batches. Chaining at each INSERT would make all writers wait for each other.

Entries become visible out of order, so they are sealed by transaction, up to the oldest one still running; none is
missed. Each entry names the cluster that assigned its transaction id, because a database restored into another cluster
starts counting again. There, the unsealed entries of the old cluster are sealed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from fleet import humanise
from fleet.audit import anchor, chain
from fleet.audit.models import Entry, Seal
from fleet.postgres import commit_order, locks, statements
from fleet.postgres.commit_order import Position
from fleet.postgres.locks import Lock

BATCH = 1_000


def seal(*, batch: int = BATCH) -> int:
    """Seal all entries that can be sealed now and return their number; 0 if another process is sealing."""
    sealed = 0
    while count := _seal_batch(batch):
        sealed += count
    return sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingBlocker:
    """The session that blocks the sealing. All but `waited_s` is None if this role may not see it."""

    waited_s: float  # how long the oldest unsealed entry has waited
    pid: int | None
    application: str | None
    role: str | None
    database: str | None
    open_s: float | None
    action: str = "kept a transaction open"

    def __str__(self) -> str:
        waiting = f"Entries of the audit trail have waited {humanise.duration(self.waited_s)} to be sealed"
        if self.pid is None:
            return (
                f"{waiting}: a transaction that the fleet may not see is open. Ask a Postgres administrator to find the "
                "oldest transaction in pg_stat_activity and pg_prepared_xacts, and to end it."
            )
        session = f"{self.application or 'unnamed'}, role {self.role}, database {self.database}"
        return (
            f"{waiting}: process {self.pid} ({session}) has {self.action} for "
            f"{humanise.duration(self.open_s or 0)}. End it there, or with SELECT pg_terminate_backend({self.pid})."
        )


def blocker(*, longer_than_s: float) -> SealingBlocker | None:
    """Return what has blocked the sealing for longer than this; None if nothing has.

    It is the oldest open transaction, if entries wait for it: it may be in another database, because the whole cluster
    shares its transaction ids. Or it is the session that holds the lock of the sealing.
    """
    parameters = {"seconds": longer_than_s, "lock": Lock.SEALING}
    with connection.cursor() as cursor:
        for statement, action in (
            ("audit_blocker", "kept a transaction open"),
            ("audit_lock_holder", "held the lock that sealing needs"),
        ):
            cursor.execute(statements.read("fleet", statement), parameters)
            if (row := cursor.fetchone()) is not None:
                waited_s, pid, application, role, database, open_s = row
                return SealingBlocker(
                    waited_s=waited_s,
                    pid=pid,
                    application=application,
                    role=role,
                    database=database,
                    open_s=open_s,
                    action=action,
                )
    return None


def cluster_and_time() -> tuple[int, datetime]:
    """Return this cluster's system identifier and the database's time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT system_identifier, clock_timestamp() FROM pg_control_system()")
        cluster, now = cursor.fetchone()
    return cluster, now


def _seal_batch(batch: int) -> int:
    """Append one seal and return the number of its entries; 0 if there is nothing to seal, or another process seals."""
    with transaction.atomic():
        if not locks.try_lock(Lock.SEALING):
            return 0
        head = anchor.head()
        current, now = cluster_and_time()
        for cluster in [*_earlier_clusters(head, current), current]:
            complete = Q() if cluster != current else Q(xid__lt=commit_order.OLDEST_RUNNING)
            entries = Entry.objects.filter(
                complete, commit_order.after(_sealed_until(cluster, current)), cluster=cluster
            )
            if rows := list(chain.rows(entries)[:batch]):
                _append(head, cluster, now, rows)
                return len(rows)
    return 0


def _earlier_clusters(head: Seal | None, current: int) -> list[int]:
    """Return the earlier clusters of this database that may have left unsealed entries."""
    if head is None:
        return list(
            Entry.objects.exclude(cluster=current).order_by("cluster").values_list("cluster", flat=True).distinct()
        )
    return [] if head.cluster == current else [head.cluster]


def _sealed_until(cluster: int, current: int) -> Position:
    """Return where the last credible seal of this cluster ends. A seal with a transaction of the future is forged."""
    seals = Seal.objects.filter(cluster=cluster)
    if cluster == current:
        seals = seals.filter(last_xid__lt=commit_order.NEXT_XID)
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
        leaves=chain.pack_leaves([chain.leaf(row) for row in rows]),
        previous=chain.START if head is None else head.digest,
    )
    link.digest = chain.digest(link)
    link.save(force_insert=True)
