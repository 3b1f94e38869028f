"""Orders for nodes, from operators and the fleet itself: start agents, drain them, end them; cordon a node.

An order is stored in the agent's row: an agent in `spawning` without a process, or one with an `order`. NOTIFY makes
the node act at once. A node that misses it reads the rows every second anyway.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from agents.models import Agent, AgentType, Node
from agents.operations import lifecycle
from agents.operations.capacity import capacity
from fleet import audit, errors
from fleet.console import invocation
from fleet.events.models import Event

CHANNEL = "fleet_node"
MAX_SLOTS = 256  # threads of one agent


class NoCapacity(errors.Conflict):
    """There is no room for another agent."""


def spawn(*, type: str, count: int = 1, node: str | None = None, concurrency: int | None = None) -> list[Agent]:
    """Order `count` agents of a type, on the named node or on those with the most room: all of them, or none.

    Raises NotFound for an unknown type or node, Conflict for a disabled or external type, Unavailable if no node is up,
    and NoCapacity if the node is cordoned or full or does not serve the type, if the fleet is full, or if Postgres has no
    connections for them.
    """
    if count < 1:
        raise errors.Invalid(f"Cannot spawn {count} agents.", hint="Spawn at least one.")
    if concurrency is not None and not 1 <= concurrency <= MAX_SLOTS:
        raise errors.Invalid(
            f"An agent can run 1 to {MAX_SLOTS} sorties at once, not {concurrency}.",
            hint="Spawn more agents instead of larger ones.",
        )
    with transaction.atomic():
        agent_type = _spawnable_type(type)
        nodes = _lock_nodes(node, type=type)
        live = Counter(Agent.objects.filter(state__in=Agent.LIVE, node__in=nodes).values_list("node", flat=True))
        live_of_type = Agent.objects.filter(type=agent_type, state__in=Agent.LIVE).count()
        if agent_type.max_agents and live_of_type + count > agent_type.max_agents:
            raise NoCapacity(
                f"{type} may have {agent_type.max_agents} agents in the whole fleet, and has {live_of_type}.",
                hint=f"Raise its limit ({invocation.command('fleet_agents', 'type', 'set', type)} --max-agents N), "
                "or terminate one first.",
            )
        limit, live_agents = sum(candidate.max_agents for candidate in nodes), live.total()
        if count > sum(max(0, candidate.max_agents - live[candidate.id]) for candidate in nodes):
            raise NoCapacity(
                f"{f'Node {node} has' if node else 'The nodes that are up have'} no room for {count} more:"
                f" {live_agents} of at most {limit} agents.",
                hint="Terminate some, start a node on another host, or raise FLEET_NODE_MAX_AGENTS and restart the node.",
            )
        connections = capacity()
        if count > connections.room:
            raise NoCapacity(
                f"Postgres has no connections for {count} more: {connections}.",
                hint="Terminate some agents, raise max_connections of Postgres, or lower FLEET_WEB_POOL or "
                "FLEET_SPARE_CONNECTIONS.",
            )
        agents = []
        for _ in range(count):
            target = max(nodes, key=lambda node: (node.max_agents - live[node.id], -node.load / max(node.cpus, 1)))
            live[target.id] += 1
            agents.append(
                lifecycle.create_agent(
                    type=agent_type,
                    node=target,
                    ordinal=free_ordinal(type=agent_type, node=target),
                    concurrency=concurrency or agent_type.concurrency,
                )
            )
        for agent in agents:
            audit.record(kind="agent.spawn", subject=agent.ref, after={"type": type, "node": str(agent.node)})
        _notify(*{agent.node_id for agent in agents})
    return agents


def order(*, agents: list[UUID], order: Agent.Order, reason: str) -> list[Agent]:
    """Give an order to live agents, unless they already have it or a stronger one. Returns the agents that got it."""
    weaker = {
        Agent.Order.DRAIN: [""],
        Agent.Order.TERMINATE: ["", "drain", "restart"],
        Agent.Order.RESTART: [""],
        Agent.Order.NOW: ["", "drain", "restart", "terminate"],
    }[order]
    with transaction.atomic():
        ordered = list(
            Agent.objects.select_for_update(of=("self",))
            .filter(id__in=agents, state__in=Agent.LIVE, order__in=weaker)
            .order_by("id")
        )
        for agent in ordered:
            agent.order, agent.reason = order, reason[:300]
        Agent.objects.bulk_update(ordered, ["order", "reason"])
        for agent in ordered:
            audit.record(kind=f"agent.{order.value}", subject=agent.ref, data={"why": reason})
        Event.objects.bulk_create(
            Event(kind="agent.ordered", subject=agent.id, data={"order": order, "why": reason}) for agent in ordered
        )
        _notify(*{agent.node_id for agent in ordered})
    return ordered


def cordon(*, node: str, on: bool, reason: str = "") -> bool:
    """Cordon a node, so that it gets no new agents, or uncordon it. Returns False if nothing changed.

    Its current agents are left alone. A cordon outlives restarts of the node. Raises NotFound for an unknown node.
    """
    with transaction.atomic():
        row = Node.objects.select_for_update().filter(name=node).first()
        if row is None:
            raise _unknown_node(node)
        if row.cordoned == on:
            return False
        Node.objects.filter(id=row.id).update(cordoned=on)
        kind = "node.cordoned" if on else "node.uncordoned"
        Event.objects.create(kind=kind, subject=row.id, data={"name": node, "why": reason})
        _notify(row.id)
    return True


def free_ordinal(*, type: AgentType, node: Node) -> int:
    """The smallest ordinal, from 1, that no live agent of the type has on the node."""
    used_ordinals = set(
        Agent.objects.filter(type=type, node=node, state__in=Agent.LIVE).values_list("ordinal", flat=True)
    )
    return next(ordinal for ordinal in range(1, len(used_ordinals) + 2) if ordinal not in used_ordinals)


def _spawnable_type(name: str) -> AgentType:
    agent_type = AgentType.objects.filter(name=name).first()
    if agent_type is None:
        names = ", ".join(AgentType.objects.values_list("name", flat=True))
        raise errors.NotFound(
            f"There is no agent type {name!r}.",
            hint=f"Known types: {names}. Add one in the admin, under Agent types.",
        )
    if not agent_type.enabled:
        raise errors.Conflict(
            f"Agent type {name} is disabled.",
            hint=f"Enable it: {invocation.command('fleet_agents', 'type', 'set', name, '--enabled', 'on')}",
        )
    if agent_type.external:
        raise errors.Conflict(
            f"Agents of type {name} are external: no node starts them.",
            hint="To let nodes start them: "
            f"{invocation.command('fleet_agents', 'type', 'set', name, '--external', 'off')}",
        )
    return agent_type


def _lock_nodes(name: str | None, *, type: str) -> list[Node]:
    """The nodes to choose from, locked in the order of their ids, so that two orders never take the same ordinal."""
    locked = Node.objects.select_for_update().order_by("id")
    if name is not None and not Node.objects.filter(name=name).exists():
        raise _unknown_node(name)
    fresh = locked.filter(up=True, heartbeat_at__gt=Now() - timedelta(seconds=settings.FLEET_LEASE_S))
    nodes = list(fresh if name is None else fresh.filter(name=name))
    if not nodes:
        raise errors.Unavailable(
            f"Node {name} is not up." if name else "No node is up, so no agent can be started.",
            hint=f"Start one on a host of the fleet: {invocation.command('fleet_node')}",
        )
    open_nodes = [node for node in nodes if not node.cordoned]
    if not open_nodes:
        raise NoCapacity(
            f"{f'Node {name} is' if name else 'Every node that is up is'} cordoned and takes no new agents.",
            hint=f"Uncordon it: {invocation.command('fleet_agents', 'uncordon', name or nodes[0].name)}",
        )
    serving = [node for node in open_nodes if node.serves(type)]
    if not serving:
        raise NoCapacity(
            f"{f'Node {name} does not serve' if name else 'No node that takes new agents serves'} the type {type}.",
            hint=f"Add {type} to FLEET_TYPES of a node and restart it, or start another node.",
        )
    return serving


def _unknown_node(name: str) -> errors.NotFound:
    names = ", ".join(Node.objects.filter(up=True).values_list("name", flat=True)) or "none"
    return errors.NotFound(f"There is no node {name!r}.", hint=f"Nodes that are up: {names}.")


def _notify(*nodes: UUID | None) -> None:
    with connection.cursor() as cursor:
        for node in nodes:
            if node is not None:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(node)])
