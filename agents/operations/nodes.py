"""A node joins the fleet, says that it is there and how loaded it is, and leaves."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import psutil
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from agents.models import Agent, Node
from agents.operations import lifecycle
from fleet import errors, invocation, processes
from fleet.events.models import Event


def boot_id() -> str:
    """What tells this run of this host from every other: a pid and its start time mean something only within it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def join(*, name: str, pid: int, start_time: float) -> Node:
    """The row of this host's supervisor. Conflict where another live one has that name.

    Agents that an earlier one left here are the caller's to end: see `left_behind`. Those of an earlier run of the host,
    or of another host of that name, are lost.
    """
    with transaction.atomic():
        earlier = Node.objects.select_for_update().filter(name=name).first()
        if earlier is not None and (earlier.pid, earlier.start_time) != (pid, start_time) and _lives(earlier):
            raise errors.Conflict(
                f"A node called {name} is up already (pid {earlier.pid}).",
                hint=f"Give this one another name: {invocation.command('fleet_node', '--name', 'NAME')}",
            )
        if earlier is not None and earlier.boot != boot_id():
            elsewhere = [agent.id for agent in left_behind(node=earlier)]
            lifecycle.end(agents=elsewhere, state=Agent.State.LOST, reason="Its host was started anew.")
        node, _ = Node.objects.update_or_create(
            name=name,
            defaults={
                "boot": boot_id(),
                "pid": pid,
                "start_time": start_time,
                "up": True,
                "places": settings.FLEET_NODE_PLACES,
                "cpus": os.cpu_count() or 1,
                "joined_at": Now(),
                **_load(),
            },
        )
        Event.objects.create(kind="node.up", subject=node.id, data={"name": name})
    node.refresh_from_db()
    return node


def left_behind(*, node: Node) -> list[Agent]:
    """Live agents of the node's name that an earlier supervisor started."""
    return list(Agent.objects.filter(node=node, state__in=Agent.LIVE).exclude(pid=None).order_by("id"))


def surviving_processes(*, name: str) -> list[tuple[int, float]]:
    """Processes (pid and start) that the last supervisor of that name has started in this run of the host and that are still
    there, whatever is said of their agents: one that was stopped (SIGSTOP) while its node died may have been given up
    meanwhile. Asked before `join`."""
    node = Node.objects.filter(name=name, boot=boot_id()).first()
    if node is None:
        return []
    begun = Agent.objects.filter(node=node, spawned_at__gte=node.joined_at).exclude(pid=None)
    noted = [(agent.pid or 0, agent.start_time or 0.0) for agent in begun.only("pid", "start_time")]
    return [(pid, began) for pid, began in noted if processes.is_alive(pid=pid, start_time=began)]


def here() -> list[int]:
    """The pids of all agents that live on this host, whichever node started them."""
    noted = Agent.objects.filter(node__boot=boot_id(), state__in=Agent.LIVE).exclude(pid=None).only("pid", "start_time")
    return [one.pid or 0 for one in noted if processes.is_alive(pid=one.pid, start_time=one.start_time)]


def interrupted(*, node: Node) -> list[Agent]:
    """The last agents of places beyond those that the types keep, which nobody has told to end and which were not
    given up: they were ordered, their node has died, and its successor is to start them again."""
    last = (
        Agent.objects.select_related("type")
        .filter(node=node, type__enabled=True, type__outside=False)
        .order_by("type_id", "place", "-id")
        .distinct("type_id", "place")
    )
    return [
        agent
        for agent in last
        if agent.place > agent.type.agents
        and agent.pid is not None
        and agent.order in {Agent.Order.NONE, Agent.Order.RESTART}
        and agent.state != Agent.State.FAILED
    ]


def beat(*, node: Node) -> bool:
    """Say that it is up, and how loaded its host is. False where another supervisor has taken the node's name."""
    ours = Node.objects.filter(id=node.id, pid=node.pid, start_time=node.start_time, boot=node.boot)
    if ours.filter(up=True).update(**_load()):
        return True
    with transaction.atomic():  # it was called down, or it is another's
        back = bool(ours.update(up=True, **_load()))
        if back:
            Event.objects.create(kind="node.up", subject=node.id, data={"name": node.name})
    return back


def leave(*, node: Node) -> None:
    with transaction.atomic():
        if Node.objects.filter(id=node.id, pid=node.pid, start_time=node.start_time, up=True).update(up=False):
            Event.objects.create(kind="node.down", subject=node.id, data={"name": node.name})


def expire(*, after_s: float) -> list[str]:
    """Call nodes down that were not heard of for so long; returns their names."""
    gone = []
    with transaction.atomic():
        silent = Node.objects.select_for_update(skip_locked=True).filter(
            up=True, heartbeat_at__lt=Now() - timedelta(seconds=after_s)
        )
        for node in silent.order_by("id"):
            Node.objects.filter(id=node.id).update(up=False)
            Event.objects.create(kind="node.lost", subject=node.id, data={"name": node.name})
            gone.append(node.name)
    return gone


def _load() -> dict[str, object]:
    memory = psutil.virtual_memory()
    return {
        "heartbeat_at": Now(),
        "load": os.getloadavg()[0],
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
    }


def _lives(node: Node) -> bool:
    if node.boot == boot_id():
        return processes.is_alive(pid=node.pid, start_time=node.start_time)
    heard = Now() - timedelta(seconds=settings.FLEET_LEASE_S)
    return Node.objects.filter(id=node.id, up=True, heartbeat_at__gt=heard).exists()
