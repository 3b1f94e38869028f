"""Duties of the control loop, called by `loop.ControlLoop.beat`. Admission, alerts and scaling are in other modules.

Each locks its rows with SKIP LOCKED or uses a guarded update, so two control loops never do the same thing twice.
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
from missions import hints
from missions.engine.settlement import settling
from missions.models import Mission
from missions.operations import cancelling
from missions.queries import roster
from missions.states import FINAL_MISSION_STATES, MissionState, SortieState, ended_badly
from missions.workspaces import lanes

log = logging.getLogger("fleet.dispatch")

PAGE = 1_000
HOUR = timedelta(hours=1)


def has_live_missions() -> bool:
    return Mission.objects.exclude(state__in=FINAL_MISSION_STATES).exists()


def wake() -> int:
    """Make sorties ready whose retry or `run_at` is due; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "wake"), {"limit": PAGE})
        (count,) = cursor.fetchone()
        return int(count)


def grant_lanes() -> settling.Consequences:
    """Give free lanes to sorties that wait for a merge, in case the attempt that had one was lost."""
    consequences = settling.Consequences()
    with transaction.atomic(), connection.cursor() as cursor:
        consequences.add_rows(lanes.grant(cursor.cursor, after=None))
    return consequences


def unclaimed() -> tuple[Counter[str], dict[str, list[UUID]]]:
    """The queued sorties by agent type, at most hints.MAX_AT_ONCE of each: how many, and their ids."""
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "unclaimed"), {"limit": hints.MAX_AT_ONCE})
        rows = cursor.fetchall()
    return Counter({name: count for name, count, _ in rows}), {name: sorties for name, _, sorties in rows}


def rescue(*, leases: bool = True, longest_lease_s: float | None = None) -> settling.Consequences:
    """Take sorties from lost agents, a page at a time.

    `leases` is false while the database's clock is unreliable: then no lease counts as expired. After the clock was set
    back, a lease that ends later than `longest_lease_s` from now was granted before that, and counts as expired.
    External agents renew their leases through the site, and must not lose them to an outage of it: their leases expire
    only once the site has been up for FLEET_LEASE_S.
    """
    consequences = settling.Consequences()
    external = uptime.has_been_up(for_s=settings.FLEET_LEASE_S)
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                statements.read("missions.control", "rescue"),
                {
                    "limit": PAGE,
                    "max_rescues": settings.FLEET_MAX_RESCUES,
                    "leases": leases,
                    "longest_lease": longest_lease_s,
                    "external": external,
                },
            )
            rows = [
                (True, sortie, mission, agent_type, state, ended_badly(state=state, tolerated=tolerated))
                for sortie, mission, agent_type, state, tolerated in cursor.fetchall()
            ]
            bad = consequences.add_rows(rows)
            ended = [sortie for _, sortie, _, _, state, _ in rows if SortieState(state).final]
            if ended:
                settling.free(cursor.cursor, ended=ended, consequences=consequences)
            if bad:
                settling.skip(cursor.cursor, bad=bad, consequences=consequences)
        if len(rows) < PAGE:
            if consequences.accepted:
                log.warning("rescued %d sorties from lost agents", len(consequences.accepted))
            return consequences


def recount() -> Counter[str]:
    """Free pending sorties whose needs have all ended, in case a counter is wrong; returns the queued ones by type."""
    consequences = settling.Consequences()
    with connection.cursor() as cursor:
        cursor.execute(statements.read("missions.control", "recount"), {"limit": PAGE})
        consequences.add_rows(cursor.fetchall())
    return consequences.queued


def sweep() -> None:
    """Cancel or take back sorties that a settlement freed just as their mission was cancelled or paused."""
    cancelled = list(Mission.objects.filter(state=MissionState.CANCELLING).values_list("id", flat=True))
    if cancelled:
        with transaction.atomic():
            cancelling.stop_sorties(missions=cancelled)
    paused = list(Mission.objects.filter(state=MissionState.PAUSED).values_list("id", flat=True))
    if paused:
        with connection.cursor() as cursor:
            cursor.execute(statements.read("missions.control", "unqueue"), {"missions": paused})


def expire() -> list[UUID]:
    """Mark nodes and agents that send no heartbeats as lost; returns the agents."""
    agents.expire_nodes(after_s=settings.FLEET_LEASE_S)
    return agents.expire(
        after_s=settings.FLEET_LEASE_S,
        spawn_s=settings.FLEET_SPAWN_S,
        external=uptime.has_been_up(for_s=settings.FLEET_LEASE_S),
    )


def revive() -> list[UUID]:
    """Have the nodes of stalled agents restart them; returns the restarted agents.

    The agent of one post is restarted at most FLEET_MAX_REVIVALS times an hour.
    """
    restarted = []
    for agent in roster.stalled():
        revivals = Agent.objects.filter(
            type=agent.type,
            node=agent.node,
            ordinal=agent.ordinal,
            order=Agent.Order.RESTART,
            ended_at__gt=Now() - HOUR,
        ).count()
        if agent.node is None or revivals >= settings.FLEET_MAX_REVIVALS:
            continue
        why = f"It was alive but claimed nothing for {humanise.duration(settings.FLEET_STALL_S)} while work was queued."
        restarted += [row.id for row in agents.order(agents=[agent.id], order=Agent.Order.RESTART, reason=why)]
    return restarted
