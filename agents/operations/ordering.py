"""What operators and the fleet itself ask of nodes: start agents, drain them, end them.

An order is a row: an agent in `spawning` without a process, or one with an `order`. Its node is told by NOTIFY and acts
at once; a node that missed that looks anyway every second.
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
from fleet import audit, errors, invocation
from fleet.events.models import Event

CHANNEL = "fleet_node"
MOST_SLOTS = 256  # threads of one agent


class NoPlace(errors.Conflict):
    """There is no place for another agent."""


def spawn(*, type: str, count: int = 1, node: str | None = None, concurrency: int | None = None) -> list[Agent]:
    """Order `count` agents of a type, on the named node or where there are most places free.

    NotFound for an unknown type or node, Conflict for a disabled type, NoPlace for a cordoned or full node, a full fleet or a
    Postgres without connections for them, Unavailable where no node is up. All of them are ordered, or none.
    """
    if count < 1:
        raise errors.Invalid(f"{count} agents cannot be spawned.", hint="Spawn one or more.")
    if concurrency is not None and not 1 <= concurrency <= MOST_SLOTS:
        raise errors.Invalid(
            f"An agent flies 1 to {MOST_SLOTS} sorties at once, not {concurrency}.",
            hint="Spawn more agents instead of larger ones.",
        )
    with transaction.atomic():
        kind = _type(type)
        nodes = _nodes(node)
        live = Counter(Agent.objects.filter(state__in=Agent.LIVE, node__in=nodes).values_list("node", flat=True))
        of_type = Agent.objects.filter(type=kind, state__in=Agent.LIVE).count()
        if kind.most_agents and of_type + count > kind.most_agents:
            raise NoPlace(
                f"{type} may have {kind.most_agents} agents in the whole fleet, and has {of_type}.",
                hint=f"Raise that ({invocation.command('fleet_agents', 'type', 'set', type)} --most-agents N), "
                "or terminate one first.",
            )
        places, taken = sum(one.places for one in nodes), live.total()
        if count > sum(max(0, one.places - live[one.id]) for one in nodes):
            raise NoPlace(
                f"{f'Node {node} has' if node else 'The nodes that are up have'} no room for {count} more:"
                f" {taken} of {places} places are taken.",
                hint="Terminate some, start a node on another host, or raise FLEET_NODE_PLACES and restart the node.",
            )
        there = capacity()
        if count > there.room:
            raise NoPlace(
                f"Postgres has no connections for {count} more: {there}.",
                hint="Terminate some agents, raise max_connections of Postgres, or lower FLEET_WEB_POOL or "
                "FLEET_SPARE_CONNECTIONS.",
            )
        made = []
        for _ in range(count):
            home = max(nodes, key=lambda one: (one.places - live[one.id], -one.load / max(one.cpus, 1)))
            live[home.id] += 1
            made.append(
                lifecycle.spawned(
                    type=kind,
                    node=home,
                    place=free_place(type=kind, node=home),
                    concurrency=concurrency or kind.concurrency,
                )
            )
        for agent in made:
            audit.record(kind="agent.spawn", subject=agent.ref, after={"type": type, "node": str(agent.node)})
        _tell(*{agent.node_id for agent in made})
    return made


def order(*, agents: list[UUID], what: Agent.Order, reason: str) -> list[Agent]:
    """Give live agents an order; those that have ended or have a harder one are left alone. Returns those that got it."""
    softer = {
        Agent.Order.DRAIN: [""],
        Agent.Order.TERMINATE: ["", "drain", "restart"],
        Agent.Order.RESTART: [""],
        Agent.Order.NOW: ["", "drain", "restart", "terminate"],
    }[what]
    with transaction.atomic():
        found = list(
            Agent.objects.select_for_update(of=("self",))
            .filter(id__in=agents, state__in=Agent.LIVE, order__in=softer)
            .order_by("id")
        )
        for agent in found:
            agent.order, agent.reason = what, reason[:300]
        Agent.objects.bulk_update(found, ["order", "reason"])
        for agent in found:
            audit.record(kind=f"agent.{what.value}", subject=agent.ref, data={"why": reason})
        Event.objects.bulk_create(
            Event(kind="agent.ordered", subject=agent.id, data={"order": what, "why": reason}) for agent in found
        )
        _tell(*{agent.node_id for agent in found})
    return found


def cordon(*, node: str, on: bool, reason: str = "") -> bool:
    """Have a node take no new agents (`on`), or take them again; what it has is left alone. False where it is so already.

    It stays so when the node is restarted. NotFound for an unknown node.
    """
    with transaction.atomic():
        found = Node.objects.select_for_update().filter(name=node).first()
        if found is None:
            raise _unknown(node)
        if found.cordoned == on:
            return False
        Node.objects.filter(id=found.id).update(cordoned=on)
        what = "cordoned" if on else "uncordoned"
        Event.objects.create(kind=f"node.{what}", subject=found.id, data={"name": node, "why": reason})
        _tell(found.id)
    return True


def free_place(*, type: AgentType, node: Node) -> int:
    """The smallest number, from 1, that no live agent of the type has on the node."""
    taken = set(Agent.objects.filter(type=type, node=node, state__in=Agent.LIVE).values_list("place", flat=True))
    return next(place for place in range(1, len(taken) + 2) if place not in taken)


def _type(name: str) -> AgentType:
    kind = AgentType.objects.filter(name=name).first()
    if kind is None:
        known = ", ".join(AgentType.objects.values_list("name", flat=True))
        raise errors.NotFound(
            f"There is no agent type {name!r}.",
            hint=f"There are {known}. Add one in the admin, under Agent types.",
        )
    if not kind.enabled:
        raise errors.Conflict(
            f"Agent type {name} is disabled.",
            hint=f"Enable it: {invocation.command('fleet_agents', 'type', 'set', name, '--enabled', 'on')}",
        )
    if kind.outside:
        raise errors.Conflict(
            f"Agents of type {name} come from outside; no node starts them.",
            hint="If nodes are to start them: "
            f"{invocation.command('fleet_agents', 'type', 'set', name, '--outside', 'off')}",
        )
    return kind


def _nodes(name: str | None) -> list[Node]:
    """The nodes that may be chosen, locked in the order of their ids so that two orders never take the same place."""
    everybody = Node.objects.select_for_update().order_by("id")
    if name is not None and not Node.objects.filter(name=name).exists():
        raise _unknown(name)
    fresh = everybody.filter(up=True, heartbeat_at__gt=Now() - timedelta(seconds=settings.FLEET_LEASE_S))
    nodes = list(fresh if name is None else fresh.filter(name=name))
    if not nodes:
        raise errors.Unavailable(
            f"Node {name} is not up." if name else "No node is up, so no agent can be started.",
            hint=f"Start one on a host of the fleet: {invocation.command('fleet_node')}",
        )
    taking = [node for node in nodes if not node.cordoned]
    if not taking:
        raise NoPlace(
            f"{f'Node {name} is' if name else 'Every node that is up is'} cordoned and takes no new agents.",
            hint=f"Lift it: {invocation.command('fleet_agents', 'uncordon', name or nodes[0].name)}",
        )
    return taking


def _unknown(name: str) -> errors.NotFound:
    known = ", ".join(Node.objects.filter(up=True).values_list("name", flat=True)) or "none is up"
    return errors.NotFound(f"There is no node {name!r}.", hint=f"Nodes that are up: {known}.")


def _tell(*nodes: UUID | None) -> None:
    with connection.cursor() as cursor:
        for node in nodes:
            if node is not None:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(node)])
