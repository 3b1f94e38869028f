"""The control loop's duties: small, each callable alone, each safe to run in two loops at once.

    hold      what is pending must be admitted, or need not any more, where its type's limit has changed (admission.py)
    admit     ready → queued, where every limit leaves room and the mission runs; queued → ready, where there are too many
    wake      waiting → ready, when the time has come
    hint      queued rows that nobody has claimed are hinted again: the row is the outbox
    rescue    running → queued, where the agent is gone
    recount   pending → queued, a net under the counters of needs
    complete  close missions whose sorties have all ended
    sweep     go on cancelling missions that are being cancelled, and unqueue what paused missions left queued
    expire    give up agents and nodes whose heartbeat stopped
    revive    restart agents that are alive and take nothing while their queue waits

A beat runs them in this order. Each takes its rows with SKIP LOCKED or a guarded update, so nothing is done twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from agents import operations as agents
from agents.models import Agent
from fleet import statements
from missions import admission, settling
from missions.models import Mission
from missions.operations import cancelling, moves

log = logging.getLogger("fleet.dispatch")

PAGE = 1_000
HOUR = timedelta(hours=1)


def admit() -> Counter[str]:
    """Queue what is ready and may start. Returns what became queued, by type."""
    return admission.admit()


def wake() -> int:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "wake"), {"limit": PAGE})
        (count,) = cursor.fetchone()
        return int(count)


def hint() -> tuple[Counter[str], dict[str, list[UUID]]]:
    """What is queued now, by type: how many, and which, as far as hints matter. The caller rings."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "unclaimed"))
        found = cursor.fetchall()
    return Counter({name: count for name, count, _ in found}), {name: sorties for name, _, sorties in found}


def rescue(*, leases: bool = True, reach_s: float | None = None) -> settling.Consequences:
    """Take sorties from agents that are gone, a page at a time; not for the end of a lease while the database's clock
    cannot be relied on (`leases` false). After it was set back no lease that is held reaches further than `reach_s`."""
    consequences = settling.Consequences()
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                statements.read("missions", "rescue"),
                {"limit": PAGE, "max_rescues": settings.FLEET_MAX_RESCUES, "leases": leases, "reach": reach_s},
            )
            rows = cursor.fetchall()
            bad = consequences.take(rows)
            ended = [row[1] for row in rows if row[4] in {"failed", "cancelled"}]
            if ended:
                settling.free(cursor.cursor, ended=ended, consequences=consequences)
            if bad:
                settling.skip(cursor.cursor, bad=bad, consequences=consequences)
        if len(rows) < PAGE:
            if consequences.accepted:
                log.warning("rescued %d sorties from agents that are gone", len(consequences.accepted))
            return consequences


def recount() -> Counter[str]:
    consequences = settling.Consequences()
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions", "recount"), {"limit": PAGE})
        consequences.take(cursor.fetchall())
    return consequences.freed


def complete() -> list[tuple[UUID, str]]:
    return moves.complete(missions=None)


def sweep() -> None:
    """What a settlement made ready just as its mission was cancelled or paused."""
    cancelled = list(Mission.objects.filter(state="cancelling").values_list("id", flat=True))
    if cancelled:
        with transaction.atomic():
            cancelling.sweep(missions=cancelled)
    paused = list(Mission.objects.filter(state="paused").values_list("id", flat=True))
    if paused:
        with connection.cursor() as cursor:
            cursor.execute(statements.read("missions", "unqueue"), {"missions": paused})


def expire() -> list[UUID]:
    agents.expire_nodes(after_s=settings.FLEET_LEASE_S)
    return agents.expire(after_s=settings.FLEET_LEASE_S, spawn_s=settings.FLEET_SPAWN_S)


def stalled() -> list[Agent]:
    """Agents that say that they are alive and have a slot free, and take nothing while their queue waits."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions", "stalled"),
            {"after": settings.FLEET_STALL_S, "fresh": settings.FLEET_LEASE_S},
        )
        ids = [agent for (agent,) in cursor.fetchall()]
    return list(Agent.objects.select_related("type", "node").filter(id__in=ids).order_by("id")) if ids else []


def revive() -> list[UUID]:
    """Have the nodes of stalled agents restart them: one post not again before it has had the time to show that it
    works, and not more than a few times an hour. Returns those that are restarted."""
    restarted = []
    for agent in stalled():
        again = Agent.objects.filter(
            type=agent.type, node=agent.node, place=agent.place, order=Agent.Order.RESTART, ended_at__gt=Now() - HOUR
        ).count()
        if agent.node is None or again >= settings.FLEET_MAX_REVIVALS:
            continue
        why = f"It was alive and took nothing for {settings.FLEET_STALL_S:.0f} s while its queue waited."
        restarted += [one.id for one in agents.order(agents=[agent.id], what=Agent.Order.RESTART, reason=why)]
    return restarted
