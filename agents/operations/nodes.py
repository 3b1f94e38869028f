"""Operations on nodes: joining the fleet, heartbeats, leaving, and what an earlier supervisor left behind."""

from __future__ import annotations

import os
from datetime import timedelta

import psutil
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from agents.models import Agent, Node
from agents.operations import lifecycle
from fleet import errors
from fleet.console import invocation
from fleet.events.models import Event
from fleet.host import processes


def join(*, name: str, pid: int, start_time: float) -> Node:
    """Create or take over the row of this host's node. Raises Conflict if another live node has the name.

    The caller must end the agents that an earlier supervisor left on this host (`agents_left_behind`). Agents of an
    earlier boot of the host, or of another host with this name, are marked as lost.
    """
    with transaction.atomic():
        earlier = Node.objects.select_for_update().filter(name=name).first()
        if earlier is not None and (earlier.pid, earlier.start_time) != (pid, start_time) and _is_live(earlier):
            raise errors.Conflict(
                f"A node called {name} is already up (pid {earlier.pid}).",
                hint=f"Give this one another name: set FLEET_NODE, or {invocation.command('fleet_node', '--name', 'NAME')}",
            )
        if earlier is not None and earlier.boot != processes.boot_id():
            agents = [agent.id for agent in agents_left_behind(node=earlier)]
            lifecycle.end(agents=agents, state=Agent.State.LOST, reason="Its host was restarted.")
        node, _ = Node.objects.update_or_create(
            name=name,
            defaults={
                "boot": processes.boot_id(),
                "pid": pid,
                "start_time": start_time,
                "up": True,
                "max_agents": settings.FLEET_NODE_MAX_AGENTS,
                "types": settings.FLEET_TYPES,
                "cpus": os.cpu_count() or 1,
                "joined_at": Now(),
                **_load(),
            },
        )
        Event.objects.create(kind="node.up", subject=node.id, data={"name": name})
    node.refresh_from_db()
    return node


def agents_left_behind(*, node: Node) -> list[Agent]:
    """The live agents of the node, which an earlier supervisor started."""
    return list(Agent.objects.filter(node=node, state__in=Agent.LIVE).exclude(pid=None).order_by("id"))


def surviving_processes(*, name: str) -> list[tuple[int, float]]:
    """The processes that the last supervisor of this name started in this boot and that still exist: (pid, start time).

    They may be of agents in any state: one that was halted (SIGSTOP) while its node died may count as lost. Call this
    before `join`.
    """
    node = Node.objects.filter(name=name, boot=processes.boot_id()).first()
    if node is None:
        return []
    agents = Agent.objects.filter(node=node, spawned_at__gte=node.joined_at).exclude(pid=None)
    identities = [(agent.pid or 0, agent.start_time or 0.0) for agent in agents.only("pid", "start_time")]
    return [(pid, start) for pid, start in identities if processes.is_alive(pid=pid, start_time=start)]


def pids_on_this_host() -> list[int]:
    """The pids of all live agents on this host, whichever node started them."""
    agents = Agent.objects.filter(node__boot=processes.boot_id(), state__in=Agent.LIVE).exclude(pid=None)
    return [
        agent.pid or 0
        for agent in agents.only("pid", "start_time")
        if processes.is_alive(pid=agent.pid, start_time=agent.start_time)
    ]


def pids_of_nodes_on_this_host() -> list[int]:
    """The pids of all nodes that run on this host."""
    nodes = Node.objects.filter(boot=processes.boot_id(), up=True)
    return [node.pid for node in nodes if processes.is_alive(pid=node.pid, start_time=node.start_time)]


def interrupted_agents(*, node: Node) -> list[Agent]:
    """The agents that were ordered and ended only because their node died. Its successor must start them again.

    They are the last agents with ordinals beyond those that the types keep, unless they were ordered to end or given up.
    """
    last = (
        Agent.objects.select_related("type")
        .filter(node=node, type__enabled=True, type__external=False)
        .order_by("type_id", "ordinal", "-id")
        .distinct("type_id", "ordinal")
    )
    return [
        agent
        for agent in last
        if agent.ordinal > agent.type.agents
        and agent.pid is not None
        and agent.order in {Agent.Order.NONE, Agent.Order.RESTART}
        and agent.state != Agent.State.FAILED
    ]


def record_node_heartbeat(*, node: Node) -> bool:
    """Record that the node is up, and its host's load. Returns False if another supervisor has taken its name."""
    ours = Node.objects.filter(id=node.id, pid=node.pid, start_time=node.start_time, boot=node.boot)
    if ours.filter(up=True).update(**_load()):
        return True
    with transaction.atomic():  # it was marked as down, or has another supervisor
        is_ours = bool(ours.update(up=True, **_load()))
        if is_ours:
            Event.objects.create(kind="node.up", subject=node.id, data={"name": node.name})
    return is_ours


def leave(*, node: Node) -> None:
    """Mark the node as down, unless another supervisor has taken its name."""
    with transaction.atomic():
        if Node.objects.filter(id=node.id, pid=node.pid, start_time=node.start_time, up=True).update(up=False):
            Event.objects.create(kind="node.down", subject=node.id, data={"name": node.name})


def expire(*, after_s: float) -> list[str]:
    """Mark nodes as down that sent no heartbeat for `after_s`. Returns their names."""
    expired = []
    with transaction.atomic():
        silent = Node.objects.select_for_update(skip_locked=True).filter(
            up=True, heartbeat_at__lt=Now() - timedelta(seconds=after_s)
        )
        for node in silent.order_by("id"):
            Node.objects.filter(id=node.id).update(up=False)
            Event.objects.create(kind="node.lost", subject=node.id, data={"name": node.name})
            expired.append(node.name)
    return expired


def _load() -> dict[str, object]:
    memory = psutil.virtual_memory()
    return {
        "heartbeat_at": Now(),
        "load": os.getloadavg()[0],
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
    }


def _is_live(node: Node) -> bool:
    if node.boot == processes.boot_id():
        return processes.is_alive(pid=node.pid, start_time=node.start_time)
    oldest = Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    return Node.objects.filter(id=node.id, up=True, heartbeat_at__gt=oldest).exists()
