"""Agents, nodes and agent types, and their health, for the commands and the API (shapes: docs/commands.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, QuerySet

from agents.models import Agent, AgentType, Node
from fleet import humanise
from fleet.console import invocation
from fleet.postgres import clock, statements
from missions.models import Mission, Sortie
from missions.states import SortieState

HEALTHY = {"healthy", "starting", "draining"}


def stalled() -> list[Agent]:
    """Agents that send heartbeats and have a free slot, but claim nothing while work for their type is queued."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "stalled"),
            {"after": settings.FLEET_STALL_S, "fresh": settings.FLEET_LEASE_S},
        )
        stalled_ids = [agent for (agent,) in cursor.fetchall()]
    if not stalled_ids:
        return []
    return list(Agent.objects.select_related("type", "node").filter(id__in=stalled_ids).order_by("id"))


def rows(agents: Iterable[Agent], sorties: Mapping[UUID, list[str]] | None = None) -> list[dict[str, Any]]:
    """Agents as JSON objects. `sorties` maps agents to the keys of the sorties that they run."""
    now = clock.now()
    return [_row(agent, (sorties or {}).get(agent.id, ()), now=now) for agent in agents]


def _row(agent: Agent, sorties: Iterable[str], *, now: datetime) -> dict[str, Any]:
    """`{id, name, type, node, pid, state, sorties, …}` (docs/commands.md)."""
    return {
        "id": agent.ref,
        "name": agent.name,
        "type": agent.type_id,
        "node": agent.node.name if agent.node else None,
        "pid": agent.pid or 0,
        "state": agent.state,
        "order": agent.order,
        "concurrency": agent.concurrency,
        "sorties": list(sorties),
        "settled": agent.settled,
        "crashes": agent.crashes,
        "heartbeat_age_s": round((now - agent.heartbeat_at).total_seconds(), 1),
        "age_s": round(((agent.ended_at or now) - agent.spawned_at).total_seconds(), 1),
        "reason": agent.reason,
    }


def running_by(agents: Iterable[Agent], *, missions: QuerySet[Mission] | None = None) -> dict[UUID, list[str]]:
    """The keys of the sorties that each agent is running; `missions`: only sorties of these."""
    keys: dict[UUID, list[str]] = {}
    running = Sortie.objects.filter(state=SortieState.RUNNING, agent__in=[agent.id for agent in agents])
    if missions is not None:
        running = running.filter(mission__in=missions.values("id"))
    for agent, key in running.values_list("agent", "key"):
        if agent is not None:
            keys.setdefault(agent, []).append(key)
    return keys


def health(agents: list[Agent], *, types: Collection[str] | None = None) -> dict[str, Any]:
    """`{healthy, agents: [{id, name, state, health}], missing, remedy}`

    `missing`: the types among `types` (None: all) that should have agents and have none. `remedy`: what to do about it.
    """
    by_agent = health_by_agent(agents)
    missing = sorted(_without_agents(types))
    return {
        "healthy": not missing and set(by_agent.values()) <= HEALTHY,
        "agents": [
            {"id": agent.ref, "name": agent.name, "state": agent.state, "health": by_agent[agent.id]}
            for agent in agents
        ],
        "missing": missing,
        "remedy": _remedy(missing[0]) if missing else "",
    }


def _remedy(missing: str) -> str:
    """What to do about a type without agents."""
    up = list(Node.objects.filter(up=True).order_by("name"))
    if not up:
        return f"No node is up. Start one: {invocation.command('fleet_node')}"
    if all(node.cordoned for node in up):
        return f"Every node that is up is cordoned. Uncordon it: {invocation.command('fleet_agents', 'uncordon', up[0].name)}"
    return f"Start one: {invocation.command('fleet_agents', 'spawn', missing)}"


def _without_agents(names: Collection[str] | None) -> list[str]:
    """The types among these (None: all) that nodes should keep agents of, but that have none."""
    types = AgentType.objects.filter(enabled=True, agents__gt=0, external=False)
    if names is not None:
        types = types.filter(name__in=names)
    counted = types.annotate(live=Count("agent", filter=Q(agent__state__in=Agent.LIVE)))
    return [type.name for type in counted if not type.live]


def health_by_agent(agents: list[Agent]) -> dict[UUID, str]:
    """The health of each agent, in a word or a phrase."""
    stalled_ids = {agent.id for agent in stalled()}
    by_agent, now = {}, clock.now()
    for agent in agents:
        silent_s = (now - agent.heartbeat_at).total_seconds()
        if agent.state not in Agent.LIVE:
            health = agent.state
        elif agent.state == Agent.State.SPAWNING:
            health = "starting"
        elif silent_s > 2 * settings.FLEET_HEARTBEAT_S + 1:
            health = f"silent for {humanise.duration(silent_s)}"
        elif agent.state == Agent.State.DRAINING:
            health = "draining"
        elif agent.id in stalled_ids:
            health = "alive, but claims nothing while work is queued"
        else:
            health = "healthy"
        by_agent[agent.id] = health
    return by_agent


def nodes(selected: Iterable[Node] | None = None) -> list[dict[str, Any]]:
    """`[{name, up, cordoned, agents, max_agents, …}]` of the selected nodes, by default all."""
    live = Counter(Agent.objects.filter(state__in=Agent.LIVE).values_list("node", flat=True))
    return [
        {
            "name": node.name,
            "up": node.up,
            "cordoned": node.cordoned,
            "agents": live[node.id],
            "max_agents": node.max_agents,
            "types": node.types,
            "cpus": node.cpus,
            "load": round(node.load, 2),
            "memory_bytes": node.memory_bytes,
            "memory_free_bytes": node.memory_free_bytes,
        }
        for node in (Node.objects.all() if selected is None else selected)
    ]


def types(selected: Iterable[AgentType] | None = None) -> list[dict[str, Any]]:
    """`[{name, description, enabled, live, …}]` of the selected agent types, by default all."""
    live = Counter(Agent.objects.filter(state__in=Agent.LIVE).values_list("type", flat=True))
    return [
        {
            "name": type.name,
            "description": type.description,
            "queue": type.queue,
            "enabled": type.enabled,
            "agents": type.agents,
            "max_agents": type.max_agents,
            "concurrency": type.concurrency,
            "max_running": type.max_running,
            "autoscale": type.autoscale,
            "memory_mb": type.memory_mb,
            "disk_mb": type.disk_mb,
            "max_duration_s": type.max_duration_s,
            "alert_silence_s": type.alert_silence_s,
            "network": type.network,
            "external": type.external,
            "accepts_external": type.accepts_external,
            "takes_prompt": type.takes_prompts,
            "live": live[type.name],
        }
        for type in (AgentType.objects.all() if selected is None else selected)
    ]
