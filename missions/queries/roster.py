"""Who is there, what each flies, and whether it gets on: for commands and the API alike (shapes: docs/commands.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, QuerySet

from agents.models import Agent, AgentType, Node
from fleet import humanise, invocation
from fleet.postgres import clock, statements
from missions.models import Mission, Sortie

WELL = {"well", "starting", "draining"}


def stalled() -> list[Agent]:
    """Agents that say that they are alive and have a slot free, and take nothing while their queue waits."""
    with connection.cursor() as cursor:
        cursor.execute(
            statements.read("missions.queries", "stalled"),
            {"after": settings.FLEET_STALL_S, "fresh": settings.FLEET_LEASE_S},
        )
        ids = [agent for (agent,) in cursor.fetchall()]
    return list(Agent.objects.select_related("type", "node").filter(id__in=ids).order_by("id")) if ids else []


def rows(agents: Iterable[Agent], flown: Mapping[UUID, list[str]] | None = None) -> list[dict[str, Any]]:
    """Agents as programs read them, with the keys of what each flies."""
    now = clock.now()
    return [_row(one, (flown or {}).get(one.id, ()), now=now) for one in agents]


def _row(agent: Agent, sorties: Iterable[str], *, now: datetime) -> dict[str, Any]:
    """`{id, name, type, node, pid, state, sorties, …}`: an agent as programs read it (docs/commands.md)."""
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
        "flown": agent.flown,
        "crashes": agent.crashes,
        "heard_s_ago": round((now - agent.heartbeat_at).total_seconds(), 1),
        "age_s": round(((agent.ended_at or now) - agent.spawned_at).total_seconds(), 1),
        "reason": agent.reason,
    }


def flown_by(agents: Iterable[Agent], *, of: QuerySet[Mission] | None = None) -> dict[UUID, list[str]]:
    """The keys of what each agent flies now; `of`: as far as it belongs to these missions."""
    flown: dict[UUID, list[str]] = {}
    running = Sortie.objects.filter(state="running", agent__in=[agent.id for agent in agents])
    if of is not None:
        running = running.filter(mission__in=of.values("id"))
    for agent, key in running.values_list("agent", "key"):
        if agent is not None:
            flown.setdefault(agent, []).append(key)
    return flown


def health(agents: list[Agent], *, types: Iterable[str | None] = (None,)) -> dict[str, Any]:
    """`{well, agents: [{id, name, state, health}], missing, remedy}`: of these agents, and of these types (None: of all)
    those that should have one and do not; what to do about that."""
    found = verdicts(agents)
    missing = sorted(name for only in types for name in _without_agents(only))
    told = [{"id": one.ref, "name": one.name, "state": one.state, "health": found[one.id]} for one in agents]
    return {
        "well": not missing and set(found.values()) <= WELL,
        "agents": told,
        "missing": missing,
        "remedy": _remedy(missing[0]) if missing else "",
    }


def _remedy(missing: str) -> str:
    """For a type that has no agent: the first thing that is in its way."""
    up = list(Node.objects.filter(up=True).order_by("name"))
    if not up:
        return f"No node is up. Start one: {invocation.command('fleet_node')}"
    if all(node.cordoned for node in up):
        return (
            f"Every node that is up is cordoned. Lift it: {invocation.command('fleet_agents', 'uncordon', up[0].name)}"
        )
    return f"Start one: {invocation.command('fleet_agents', 'spawn', missing)}"


def _without_agents(only: str | None) -> list[str]:
    """Enabled types that nodes should keep agents of, and that have none."""
    types = AgentType.objects.filter(enabled=True, agents__gt=0, outside=False, **({"name": only} if only else {}))
    counted = types.annotate(live=Count("agent", filter=Q(agent__state__in=Agent.LIVE)))
    return [one.name for one in counted if not one.live]


def verdicts(agents: list[Agent]) -> dict[UUID, str]:
    """How each gets on, in a word or a sentence."""
    idle_on_work = {agent.id for agent in stalled()}
    verdicts, now = {}, clock.now()
    for agent in agents:
        silent_s = (now - agent.heartbeat_at).total_seconds()
        if agent.state not in Agent.LIVE:
            verdict = agent.state
        elif agent.state == Agent.State.SPAWNING:
            verdict = "starting"
        elif silent_s > 2 * settings.FLEET_HEARTBEAT_S + 1:
            verdict = f"silent for {humanise.duration(silent_s)}"
        elif agent.state == Agent.State.DRAINING:
            verdict = "draining"
        elif agent.id in idle_on_work:
            verdict = "alive, but takes nothing while its queue waits"
        else:
            verdict = "well"
        verdicts[agent.id] = verdict
    return verdicts


def nodes(found: Iterable[Node] | None = None) -> list[dict[str, Any]]:
    """`[{name, up, cordoned, agents, places, …}]`, of all unless told of which."""
    live = Counter(Agent.objects.filter(state__in=Agent.LIVE).values_list("node", flat=True))
    return [
        {
            "name": node.name,
            "up": node.up,
            "cordoned": node.cordoned,
            "agents": live[node.id],
            "places": node.places,
            "cpus": node.cpus,
            "load": round(node.load, 2),
            "memory_bytes": node.memory_bytes,
            "memory_free_bytes": node.memory_free_bytes,
        }
        for node in (Node.objects.all() if found is None else found)
    ]


def types(found: Iterable[AgentType] | None = None) -> list[dict[str, Any]]:
    """`[{name, description, enabled, live, …}]`, of all unless told of which."""
    live = Counter(Agent.objects.filter(state__in=Agent.LIVE).values_list("type", flat=True))
    return [
        {
            "name": one.name,
            "description": one.description,
            "queue": one.queue,
            "enabled": one.enabled,
            "agents": one.agents,
            "most_agents": one.most_agents,
            "concurrency": one.concurrency,
            "at_once": one.at_once,
            "autoscale": one.autoscale,
            "memory_mb": one.memory_mb,
            "disk_mb": one.disk_mb,
            "longest_s": one.longest_s,
            "alert_silence_s": one.alert_silence_s,
            "network": one.network,
            "outside": one.outside,
            "takes_prompt": one.takes_prompts,
            "live": live[one.name],
        }
        for one in (AgentType.objects.all() if found is None else found)
    ]
