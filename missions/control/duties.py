"""Duties of the control loop. `loop.Control.beat` orders them; admission, alerts and scaling have modules of their own.

Each takes its rows with SKIP LOCKED or a guarded update, so two control loops never do the same thing twice.
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
from fleet import humanise
from fleet.postgres import statements
from fleet.web import uptime
from missions.engine import settling
from missions.models import Mission
from missions.operations import cancelling
from missions.queries import roster

log = logging.getLogger("fleet.dispatch")

PAGE = 1_000
HOUR = timedelta(hours=1)


def wake() -> int:
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "wake"), {"limit": PAGE})
        (count,) = cursor.fetchone()
        return int(count)


def hint() -> tuple[Counter[str], dict[str, list[UUID]]]:
    """What is queued now, by type: how many, and which, as far as hints matter. The caller rings."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "unclaimed"))
        found = cursor.fetchall()
    return Counter({name: count for name, count, _ in found}), {name: sorties for name, _, sorties in found}


def rescue(*, leases: bool = True, reach_s: float | None = None) -> settling.Consequences:
    """Take sorties from agents that are gone, a page at a time.

    `leases` is false while the database's clock cannot be relied on: then no lease counts as over. After the clock was set
    back no lease that is held reaches further than `reach_s`. An external agent is not gone because the site was: its lease
    counts once the site has been up for as long.
    """
    consequences = settling.Consequences()
    outside = uptime.has_been_up(for_s=settings.FLEET_LEASE_S)
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                statements.read("missions.control", "rescue"),
                {
                    "limit": PAGE,
                    "max_rescues": settings.FLEET_MAX_RESCUES,
                    "leases": leases,
                    "reach": reach_s,
                    "outside": outside,
                },
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
        cursor.execute(statements.read("missions.control", "recount"), {"limit": PAGE})
        consequences.take(cursor.fetchall())
    return consequences.freed


def sweep() -> None:
    """What a settlement made ready just as its mission was cancelled or paused."""
    cancelled = list(Mission.objects.filter(state="cancelling").values_list("id", flat=True))
    if cancelled:
        with transaction.atomic():
            cancelling.sweep(missions=cancelled)
    paused = list(Mission.objects.filter(state="paused").values_list("id", flat=True))
    if paused:
        with connection.cursor() as cursor:
            cursor.execute(statements.read("missions.control", "unqueue"), {"missions": paused})


def expire() -> list[UUID]:
    agents.expire_nodes(after_s=settings.FLEET_LEASE_S)
    return agents.expire(
        after_s=settings.FLEET_LEASE_S,
        spawn_s=settings.FLEET_SPAWN_S,
        outside=uptime.has_been_up(for_s=settings.FLEET_LEASE_S),
    )


def revive() -> list[UUID]:
    """Have the nodes of stalled agents restart them: one post not again before it has had the time to show that it
    works, and not more than a few times an hour. Returns those that are restarted."""
    restarted = []
    for agent in roster.stalled():
        again = Agent.objects.filter(
            type=agent.type, node=agent.node, place=agent.place, order=Agent.Order.RESTART, ended_at__gt=Now() - HOUR
        ).count()
        if agent.node is None or again >= settings.FLEET_MAX_REVIVALS:
            continue
        why = f"It was alive and took nothing for {humanise.duration(settings.FLEET_STALL_S)} while its queue waited."
        restarted += [one.id for one in agents.order(agents=[agent.id], what=Agent.Order.RESTART, reason=why)]
    return restarted
